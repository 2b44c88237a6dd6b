"""1,000 agent sessions against one coordinator process: how long until all are attached.

    python benchmarks/bench_sessions.py [--json] [--sessions 1000] [--channels 8]

This process is the load generator: it opens all Attend streams at once over a few channels, says
hello on each and reads the welcome. The clock stops when the coordinator lists all of them as
attached. Then each session attaches a second time under its name: the older streams must end with
ABORTED and the fleet must not grow. Fails when a bar is missed or a session is lost.

The last line needs no network: what the dispatcher itself takes for a round of 32 slots.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
from machine import describe_machine

from services.coordinator.core import Attendance, Dispatcher, Rules
from services.coordinator.fleet import Capabilities, Needs
from services.coordinator.work import ModelChange
from tinyfleet.run import make_run
from tinyfleet.tasks import make_task
from tinyfleet.v1 import coordinator_pb2, coordinator_pb2_grpc

BAR_S = 30.0
START_S = 30.0
SLOTS, ROUNDS = 32, 300


@contextmanager
def coordinator(folder: Path) -> Iterator[tuple[str, int]]:
    """Address and process id of a coordinator with its database in `folder`."""
    port_file = folder / "port"
    options = {
        "--listen": "127.0.0.1:0",
        "--state": folder,
        "--port-file": port_file,
        "--metrics": "",
        "--log-level": "error",
    }
    arguments = [str(part) for pair in options.items() for part in pair]
    process = subprocess.Popen([sys.executable, "-m", "services.coordinator", *arguments])
    try:
        until = time.monotonic() + START_S
        while not port_file.exists():
            if process.poll() is not None or time.monotonic() > until:
                raise SystemExit("the coordinator did not start")
            time.sleep(0.02)
        yield port_file.read_text().strip(), process.pid
    finally:
        process.terminate()
        process.wait(30)


async def attach_all(address: str, sessions: int, channels: int) -> dict[str, float]:
    """Seconds until all are attached, then until all are attached a second time."""
    # A pool of its own makes each channel a connection; otherwise gRPC shares one.
    options = [("grpc.use_local_subchannel_pool", 1)]
    opened = [grpc.aio.insecure_channel(address, options=options) for _ in range(channels)]
    stubs = [coordinator_pb2_grpc.CoordinatorServiceStub(channel) for channel in opened]
    began = time.perf_counter()
    first = await asyncio.gather(*(attach(stubs, number) for number in range(sessions)))
    attached = await count_attached(stubs[0], sessions)
    first_s = time.perf_counter() - began
    began = time.perf_counter()
    second = await asyncio.gather(*(attach(stubs, number) for number in range(sessions)))
    codes = await asyncio.gather(*(call.code() for call in first))
    again = await count_attached(stubs[0], sessions)
    again_s = time.perf_counter() - began
    for call in second:
        call.cancel()
    await asyncio.gather(*(channel.close() for channel in opened))
    assert attached == again == sessions, f"{attached}, then {again} of {sessions} are attached"
    assert set(codes) == {grpc.StatusCode.ABORTED}, set(codes)
    return {"attached_s": first_s, "attached_again_s": again_s}


async def attach(stubs: list[Any], number: int) -> Any:
    """One session: an open stream whose welcome has come."""
    call = stubs[number % len(stubs)].Attend()
    hello = coordinator_pb2.Hello(agent=f"agent-{number:04}", instance_id="one")
    await call.write(coordinator_pb2.AttendRequest(hello=hello))
    message = await call.read()
    assert message is not grpc.aio.EOF, await call.details()
    assert message.WhichOneof("message") == "welcome"
    return call


async def count_attached(stub: Any, expected: int) -> int:
    """How many agents the coordinator lists as attached, when they are all there or late."""
    for _ in range(100):
        request = coordinator_pb2.ListAgentsRequest(attached_only=True)
        found = len((await stub.ListAgents(request)).agents)
        if found == expected:
            break
        await asyncio.sleep(0.05)
    return found


def dispatcher_round_us(agents: int) -> float:
    """Median microseconds of the events of one round of 32 slots, with so many agents attached."""
    core = Dispatcher(Rules())
    options = {"agents_per_round": SLOTS}
    spec = make_run(make_task("sine", {}), "reptile", ROUNDS + 1, 1, "mlp_32", options)
    core.add_run("run", spec, Needs("sine", 0))
    for number in range(agents):
        core.attach(Attendance(number, f"agent-{number:04}", "one", Capabilities()), 0.0)
    core.model_changed("run", ModelChange(0, whole=True), 0.0)
    times = []
    for version in range(1, ROUNDS):
        began = time.perf_counter()
        for slot in range(SLOTS - 1):
            core.model_changed("run", ModelChange(version - 1, received=[slot]), 0.0)
        core.model_changed("run", ModelChange(version), 0.0)
        times.append(time.perf_counter() - began)
    return 1e6 * statistics.median(times)


def resident_mb(process: int) -> float:
    """Resident memory of a process, in MB."""
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def measure(sessions: int, channels: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder, coordinator(Path(folder)) as (address, process):
        before = resident_mb(process)
        times = asyncio.run(attach_all(address, sessions, channels))
        grown = resident_mb(process) - before
    return {
        "machine": describe_machine(),
        "sessions": sessions,
        "channels": channels,
        **{name: round(value, 2) for name, value in times.items()},
        "coordinator_kb_per_session": round(1000 * grown / sessions, 1),
        "dispatcher_round_us_32_agents": round(dispatcher_round_us(32)),
        f"dispatcher_round_us_{sessions}_agents": round(dispatcher_round_us(sessions)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--sessions", type=int, default=1000, choices=range(32, 4001), metavar="N")
    parser.add_argument("--channels", type=int, default=8, choices=range(1, 65), metavar="N")
    options = parser.parse_args()
    result = measure(options.sessions, options.channels)
    if options.json:
        print(json.dumps(result))
    else:
        for name, value in result.items():
            print(f"{name:>32}  {value}")
    if max(result["attached_s"], result["attached_again_s"]) > BAR_S:
        sys.exit(f"missed the bar: {result['attached_s']} s, at most {BAR_S:g} s")


if __name__ == "__main__":
    main()
