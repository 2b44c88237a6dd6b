"""What one agent costs: memory, start-up, bytes a minute while idle, time it adds to a round.

    python benchmarks/bench_agent.py [--json] [--data omniglot.npz] [--rounds 2000]

An agent process meets a coordinator, an aggregator and a metrics service that this script plays, so
that only the agent is measured. Exits with 1 when a bar is missed. MB are 2**20 bytes.

Memory is VmRSS, idle and after rounds of `mlp_32` on sine and, with data, of `cnn_s` on omniglot.
Start-up is the CPU time until the agent attends. Idle bytes are what the agent's one connection
carried in both directions, TCP and IP headers counted as 52 bytes a segment (IPv4, timestamps),
for `--idle-s` seconds at a heartbeat of 20 s. Overhead is the time from an assignment's write to
the update's arrival less the training time that the agent reports: the gRPC of both peers, in
Python, and the loopback are in it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
from machine import describe_machine

from tinyfleet.run import RunSpec, make_run
from tinyfleet.tasks import make_task
from tinyfleet.v1 import (
    aggregator_pb2,
    aggregator_pb2_grpc,
    coordinator_pb2,
    coordinator_pb2_grpc,
    metrics_pb2,
    metrics_pb2_grpc,
)
from tinyfleet.wire import parameters_to_bytes, plan_to_message, run_to_message

BARS = {
    "startup_cpu_s": 0.4,
    "idle_mb": 60.0,
    "sine_mlp_32_mb": 60.0,
    "omniglot_cnn_s_mb": 60.0,
    "idle_bytes_per_minute": 1000.0,
}
HEARTBEAT_MS = 20_000
HEADERS_BYTES = 52
PATIENCE_S = 60.0


class Peers(
    coordinator_pb2_grpc.CoordinatorServiceServicer,
    aggregator_pb2_grpc.AggregatorServiceServicer,
    metrics_pb2_grpc.MetricsServiceServicer,
):
    """The three services in one server, for one agent."""

    def __init__(self) -> None:
        self.address = ""
        self.attended = asyncio.Event()
        self.stream: Any = None
        self.updates: asyncio.Queue[tuple[float, aggregator_pb2.UpdateHeader]] = asyncio.Queue()

    async def Attend(self, requests: Any, context: Any) -> None:  # noqa: N802
        await anext(aiter(requests))
        welcome = coordinator_pb2.Welcome(
            heartbeat_ms=HEARTBEAT_MS, aggregator=self.address, metrics=self.address
        )
        await context.write(coordinator_pb2.AttendResponse(welcome=welcome))
        self.stream = context
        self.attended.set()
        async for _ in requests:
            pass

    async def Report(  # noqa: N802
        self, request: metrics_pb2.ReportRequest, context: Any
    ) -> metrics_pb2.ReportResponse:
        return metrics_pb2.ReportResponse()

    async def SubmitUpdates(self, requests: Any, context: Any) -> None:  # noqa: N802
        async for message in requests:
            self.updates.put_nowait((time.perf_counter(), message.header))
            receipt = aggregator_pb2.SubmitUpdatesResponse(
                assignment_id=message.header.assignment_id,
                status=aggregator_pb2.RECEIPT_STATUS_ACCEPTED,
            )
            await context.write(receipt)


async def run_rounds(peers: Peers, spec: RunSpec, run_id: str, rounds: int) -> list[float]:
    """Overhead of each round in milliseconds."""
    brief = coordinator_pb2.RunBrief(run_id=run_id, spec=run_to_message(spec))
    await peers.stream.write(coordinator_pb2.AttendResponse(run_brief=brief))
    work = coordinator_pb2.Assignment(
        run_id=run_id,
        plan=plan_to_message(spec.make_strategy().plan(0)),
        parameters=parameters_to_bytes(spec.initial_parameters()),
        deadline_ms=60_000,
    )
    overheads = []
    for index in range(rounds):
        work.assignment_id = f"{run_id}-{index}-0-0"
        work.round = work.base_version = index
        message = coordinator_pb2.AttendResponse(assignment=work)
        begun = time.perf_counter()
        await peers.stream.write(message)
        arrived, header = await asyncio.wait_for(peers.updates.get(), PATIENCE_S)
        overheads.append((arrived - begun) * 1e3 - header.training_us / 1e3)
    return overheads


@asynccontextmanager
async def agent_process(peers: Peers, data: Path | None) -> AsyncIterator[int]:
    """A running agent that attends `peers`; gives its process id."""
    flags = ["--coordinator", peers.address, "--name", "measured", "--log-level", "warning"]
    flags += ["--data", str(data)] if data else []
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "edge_agents", *flags)
    try:
        await asyncio.wait_for(peers.attended.wait(), PATIENCE_S)
        yield process.pid
    finally:
        process.terminate()
        await process.wait()


@asynccontextmanager
async def serving(peers: Peers) -> AsyncIterator[None]:
    server = grpc.aio.server(options=[("grpc.http2.bdp_probe", 0)])  # as the services do
    coordinator_pb2_grpc.add_CoordinatorServiceServicer_to_server(peers, server)
    metrics_pb2_grpc.add_MetricsServiceServicer_to_server(peers, server)
    aggregator_pb2_grpc.add_AggregatorServiceServicer_to_server(peers, server)
    peers.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    try:
        yield
    finally:
        await server.stop(None)


def memory_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text("utf-8")
    (line,) = (line for line in status.splitlines() if line.startswith("VmRSS"))
    return round(int(line.split()[1]) / 1024, 1)


def cpu_s(pid: int) -> float:
    ticks = Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()
    return (int(ticks[11]) + int(ticks[12])) / os.sysconf("SC_CLK_TCK")


def connection_bytes(address: str) -> int:
    """Bytes on the agent's connection to `address` so far, both directions, headers included."""
    shown = subprocess.run(
        ["ss", "-tinHO", "dst", address], capture_output=True, text=True, check=True
    ).stdout
    counts = dict(word.split(":", 1) for word in shown.split() if word.count(":") == 1)
    payload = int(counts["bytes_sent"]) + int(counts["bytes_received"])
    segments = int(counts["segs_out"]) + int(counts["segs_in"])
    return payload + HEADERS_BYTES * segments


async def idle_bytes_per_minute(peers: Peers, seconds: float) -> float:
    before = connection_bytes(peers.address)
    await asyncio.sleep(seconds)
    return round((connection_bytes(peers.address) - before) * 60.0 / seconds)


async def measure(data: Path | None, rounds: int, idle_s: float) -> dict[str, Any]:
    peers = Peers()
    async with serving(peers), agent_process(peers, data) as pid:
        found: dict[str, Any] = {"machine": describe_machine(), "startup_cpu_s": cpu_s(pid)}
        await asyncio.sleep(1.0)
        found["idle_mb"] = memory_mb(pid)
        if idle_s and shutil.which("ss"):
            found["idle_bytes_per_minute"] = await idle_bytes_per_minute(peers, idle_s)
        sine = make_run(
            make_task("sine", {}), "tiny_reptile", 10, 1, "mlp_32", strategy_options={"samples": 32}
        )
        found["overhead_ms"] = spread(await run_rounds(peers, sine, "sine", rounds))
        found["sine_mlp_32_mb"] = memory_mb(pid)
        if data:
            task = make_task("omniglot", {"ways": 5}, data)
            await run_rounds(peers, make_run(task, "tiny_reptile", 10, 1, "cnn_s"), "omniglot", 100)
            found["omniglot_cnn_s_mb"] = memory_mb(pid)
        return found


def spread(values: list[float]) -> dict[str, float]:
    """Percentiles, the first tenth (connecting, warming up) left out."""
    cuts = statistics.quantiles(values[len(values) // 10 :], n=100)
    return {"p50": round(cuts[49], 3), "p95": round(cuts[94], 3), "p99": round(cuts[98], 3)}


def main() -> None:
    parser = argparse.ArgumentParser(description="What one agent costs.")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--rounds", type=int, default=2000, help="rounds to time (default 2000)")
    parser.add_argument("--idle-s", type=float, default=60.0, help="idle time to count bytes in")
    given = os.environ.get("TINYFLEET_DATA")
    parser.add_argument("--data", type=Path, default=Path(given) if given else None)
    options = parser.parse_args()
    found = asyncio.run(measure(options.data, options.rounds, options.idle_s))
    if options.json:
        print(json.dumps(found))
    else:
        for name, value in found.items():
            print(f"{name:24} {value}" + (f"  (bar {BARS[name]:g})" if name in BARS else ""))
    sys.exit(any(found[name] > bar for name, bar in BARS.items() if name in found))


if __name__ == "__main__":
    main()
