"""The agent as a process: exit codes, signals, memory."""

import asyncio
import re
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest
from agent_peers import AggregatorPeer, CoordinatorPeer, Visit, listening

from tinyfleet.run import make_run
from tinyfleet.strategies.plan import Phase, TrainingPlan
from tinyfleet.tasks import make_task
from tinyfleet.v1 import aggregator_pb2 as agg

ROOT = Path(__file__).resolve().parents[3]
PATIENCE_S = 30.0
SPEC = make_run(make_task("sine", {}), "tiny_reptile", rounds=100, seed=5, model="mlp_32")
START = SPEC.initial_parameters()
PLAN = TrainingPlan((Phase(samples=32, rate=0.01),))
LONG_PLAN = TrainingPlan((Phase(samples=1000, rate=0.001, passes=300),))  # 0.1 s and more
MEMORY_BAR_MB = 60.0


async def start(*flags: str) -> Process:
    command = [sys.executable, "-m", "edge_agents", *flags]
    return await asyncio.create_subprocess_exec(*command, cwd=ROOT, stderr=PIPE)


async def ended(process: Process) -> tuple[int, str]:
    """Exit status and what was said on standard error."""
    _, said = await asyncio.wait_for(process.communicate(), PATIENCE_S)
    assert process.returncode is not None
    return process.returncode, said.decode()


@asynccontextmanager
async def attending(
    coordinator: CoordinatorPeer, *flags: str
) -> AsyncIterator[tuple[Process, Visit]]:
    async with listening(coordinator=coordinator) as address:
        process = await start("--coordinator", address, "--name", "pi-1", *flags)
        try:
            yield process, await asyncio.wait_for(coordinator.visits.get(), PATIENCE_S)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()


@pytest.mark.parametrize(
    ("flags", "status", "message"),
    [
        (("--name", "a b"), 2, "name must be"),
        (("--own-data", "no-such.npz"), 2, "cannot read own data"),
        (("--device", "emulated://toaster"), 2, "unknown emulated board 'toaster'"),
        (("--device", "pty:///a?baud=9"), 2, "takes no options"),
        (("--coordinator", "127.0.0.1:1", "--give-up-s", "0.1"), 3, "no coordinator at"),
    ],
)
async def test_agent_that_cannot_take_part_exits_with_its_status_and_one_line(
    flags: tuple[str, ...], status: int, message: str
) -> None:
    got, said = await ended(await start(*flags))
    assert got == status
    assert message in said.strip().split("\n")[-1]
    assert "Traceback" not in said


async def test_process_that_another_replaced_exits_with_4() -> None:
    coordinator = CoordinatorPeer("127.0.0.1:1")
    async with attending(coordinator) as (process, visit):
        coordinator.refusals = [(grpc.StatusCode.ABORTED, "replaced")]
        visit.end()
        status, said = await ended(process)
    assert status == 4
    assert said.strip().split("\n")[-1].startswith("tinyfleet-agent: another process attends")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_signal_while_training_still_delivers_and_exits_with_0(number: int) -> None:
    aggregator = AggregatorPeer()
    async with (
        listening(aggregator=aggregator) as address,
        attending(CoordinatorPeer(address)) as (process, visit),
    ):
        visit.brief("run", SPEC)
        visit.assign("run", 0, LONG_PLAN, START)
        assert process.stderr is not None
        await asyncio.wait_for(process.stderr.readuntil(b"run joined"), PATIENCE_S)
        process.send_signal(number)
        status, said = await ended(process)
        assert aggregator.updates.qsize() == 1
    assert status == 0
    assert " INFO agent stopping" in said
    assert not re.search("WARNING|ERROR|Traceback", said)


async def test_agent_that_cannot_deliver_stops_within_its_time() -> None:
    deaf = AggregatorPeer(answer=lambda key, times: agg.RECEIPT_STATUS_UNSPECIFIED)
    async with (
        listening(aggregator=deaf) as address,
        attending(CoordinatorPeer(address), "--drain-s", "0.2") as (process, visit),
    ):
        visit.brief("run", SPEC)
        visit.assign("run", 7, PLAN, START)
        await asyncio.wait_for(deaf.updates.get(), PATIENCE_S)
        process.terminate()
        status, said = await ended(process)
    assert status == 0
    assert "stopped with work in hand assignments=run-7-0-0" in said


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
async def test_agent_that_trains_stays_within_its_memory() -> None:
    aggregator = AggregatorPeer()
    async with (
        listening(aggregator=aggregator) as address,
        attending(CoordinatorPeer(address)) as (process, visit),
    ):
        visit.brief("run", SPEC)
        for index in range(300):
            visit.assign("run", index, PLAN, START)
            await asyncio.wait_for(aggregator.updates.get(), PATIENCE_S)
        assert resident_mb(process.pid) <= MEMORY_BAR_MB


def resident_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text("utf-8")
    (kilobytes,) = re.findall(r"VmRSS:\s+(\d+) kB", status)
    return int(kilobytes) / 1024


async def test_agent_without_boards_loads_nothing_for_them() -> None:
    program = """
import asyncio, sys
from edge_agents.agent import Agent
from edge_agents.settings import AgentSettings
agent = Agent(AgentSettings(coordinator='127.0.0.1:1', name='pi-1', give_up_s=0.1))
try:
    asyncio.run(agent.run(asyncio.Event()))
except Exception as error:
    print(type(error).__name__, [name for name in sys.modules if 'mcu' in name or 'serial' in name])
"""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", program), cwd=ROOT, stdout=PIPE
    )
    said, _ = await asyncio.wait_for(process.communicate(), PATIENCE_S)
    assert said.decode().strip() == "GaveUp []"
