"""How long an update takes through the aggregator: to its receipt, and to the next version.

    python benchmarks/bench_aggregator.py [--agents 1 8 32] [--rounds 500] [--state DIR]

One aggregator process with full durability, mlp_32 (4,612 bytes an update), loopback. All agents
and the follower are coroutines of this process, so that what they cost is part of what is measured.
Prints one line per number of agents: median, 95th and 99th percentile in milliseconds, and the
processor time of the aggregator, which a busy machine disturbs least.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np

from tinyfleet.run import RunSpec, make_run
from tinyfleet.tasks import make_task
from tinyfleet.v1 import aggregator_pb2 as pb
from tinyfleet.v1.aggregator_pb2_grpc import AggregatorServiceStub
from tinyfleet.wire import run_to_message


@contextlib.contextmanager
def aggregator(state: Path, *flags: str) -> Iterator[tuple[str, int]]:
    """The address and id of an aggregator process that ends with the block."""
    port_file = state / "address"
    command = [sys.executable, "-m", "services.aggregator", "--listen", "127.0.0.1:0"]
    command += ["--state", str(state), "--port-file", str(port_file), *flags]
    with subprocess.Popen(command) as process:
        try:
            while not port_file.exists():
                assert process.poll() is None, "the aggregator did not start"
                time.sleep(0.01)
            yield port_file.read_text().strip(), process.pid
        finally:
            process.terminate()


def run_of(agents: int, rounds: int) -> RunSpec:
    task = make_task("sine", {}, None)
    if agents == 1:
        return make_run(task, "tiny_reptile", rounds, seed=1, model="mlp_32")
    options = {"agents_per_round": agents}
    return make_run(task, "reptile", rounds, seed=1, model="mlp_32", strategy_options=options)


class Fleet:
    """Agents that answer each version with an update at once, and the times that it takes."""

    def __init__(self, stub: AggregatorServiceStub, run: RunSpec) -> None:
        self.stub, self.run, self.run_id = stub, run, f"bench{run.make_strategy().agents_per_round}"
        rng = np.random.default_rng(1)
        self.delta = (rng.standard_normal(run.model.parameter_count) * 1e-3).astype("<f4").tobytes()
        self.sent: dict[str, float] = {}
        self.round_begun = 0.0
        self.to_receipt: list[float] = []
        self.to_version: list[float] = []

    async def measure(self, agents: int) -> None:
        await self.stub.OpenRun(
            pb.OpenRunRequest(run_id=self.run_id, spec=run_to_message(self.run))
        )
        streams = [self.stub.SubmitUpdates() for _ in range(agents)]
        readers = [asyncio.create_task(self.receipts(stream)) for stream in streams]
        async for change in self.stub.WatchModel(pb.WatchModelRequest(run_id=self.run_id)):
            now = time.perf_counter()
            if change.parameters:
                if self.round_begun:
                    self.to_version.append(now - self.round_begun)
                if change.version == self.run.rounds:
                    break
                self.round_begun = time.perf_counter()
                await asyncio.gather(
                    *(
                        self.submit(stream, change.version, slot)
                        for slot, stream in enumerate(streams)
                    )
                )
        await asyncio.gather(*(stream.done_writing() for stream in streams))
        await asyncio.gather(*readers)
        await self.stub.EndRun(pb.EndRunRequest(run_id=self.run_id))

    async def submit(self, stream: grpc.aio.StreamStreamCall, version: int, slot: int) -> None:
        assignment = f"{self.run_id}-{version}-{slot}-0"
        header = pb.UpdateHeader(
            assignment_id=assignment,
            run_id=self.run_id,
            round=version,
            slot=slot,
            base_version=version,
            total_bytes=len(self.delta),
            encoding=pb.UPDATE_ENCODING_DENSE_FLOAT32,
            samples=32,
            loss=1.0,
            training_us=1,
        )
        self.sent[assignment] = time.perf_counter()
        await stream.write(pb.SubmitUpdatesRequest(header=header, data=self.delta))

    async def receipts(self, stream: grpc.aio.StreamStreamCall) -> None:
        async for receipt in stream:
            assert receipt.status == pb.RECEIPT_STATUS_ACCEPTED, receipt
            self.to_receipt.append(time.perf_counter() - self.sent.pop(receipt.assignment_id))


def percentiles(seconds: list[float]) -> str:
    cuts = statistics.quantiles(seconds, n=100, method="inclusive")
    return " ".join(f"{1000 * cuts[p - 1]:7.3f}" for p in (50, 95, 99))


def cpu_seconds(process: int) -> float:
    """Processor time of a process so far, all threads."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def main(address: str, process: int, agents: list[int], rounds: int) -> None:
    print("agents   ms to receipt: p50, p95, p99    ms a round: p50, p95, p99    CPU ms a round")
    async with grpc.aio.insecure_channel(address) as channel:
        for count in agents:
            fleet = Fleet(AggregatorServiceStub(channel), run_of(count, rounds))
            before = cpu_seconds(process)
            await fleet.measure(count)
            cpu = 1000 * (cpu_seconds(process) - before) / rounds
            times = f"{percentiles(fleet.to_receipt)}   {percentiles(fleet.to_version)}"
            print(f"{count:>6}  {times}   {cpu:7.3f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--agents", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--rounds", type=int, default=500)
    parser.add_argument("--state", type=Path, help="where to keep the state; default: a new folder")
    parser.add_argument("--storage", default="sqlite")
    arguments = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="tinyfleet-bench-", dir=arguments.state) as folder,
        aggregator(Path(folder), "--storage", arguments.storage) as (address, process),
    ):
        asyncio.run(main(address, process, arguments.agents, arguments.rounds))
