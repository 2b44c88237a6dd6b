"""The member of a real board: the firmware, emulated, that is reset, halted and unplugged.

Whatever is done to the board in whichever step, the update has the bits of the host's training.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import tty
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from agent_peers import AggregatorPeer, CoordinatorPeer, Visit, listening

from edge_agents import boards
from edge_agents.boards import Board, BoardMember, Ports
from edge_agents.device_url import parse_device
from edge_agents.model_files import ModelFiles, default_folder
from edge_agents.preparation import ProcessData
from edge_agents.settings import AgentSettings
from edge_agents.trainers.thread import WorkThread
from mcu_bridge.device import Device, Patience
from mcu_bridge.images import firmware_image
from mcu_bridge.lines.emulated import EmulatedBoard, open_emulated
from mcu_bridge.noise import Noise, NoisyLine
from tinyfleet.learner import make_learner, run_plan
from tinyfleet.run import make_run, training_samples
from tinyfleet.strategies.plan import Phase, TrainingPlan
from tinyfleet.tasks import make_task

PATIENCE_S = 60.0
SINE = make_task("sine", {})
SPEC = make_run(SINE, "tiny_reptile", rounds=100, seed=5, model="mlp_32")
START = SPEC.initial_parameters()
PLAN = TrainingPlan(
    (
        Phase(samples=300, rate=0.001),
        Phase(samples=40, rate=0.001, batch_size=7, trainable=("dense_1",)),
        Phase(samples=20, rate=0.001, batch_size=3, passes=4),
    )
)
RUN = "run"
IMPATIENT = Patience(first_s=0.05, answer_s=1.0, progress_s=1.0)

pytestmark = [
    pytest.mark.needs_package("setpriv (util-linux)", command="setpriv"),
    pytest.mark.needs_package("gcc", command="gcc"),
]
BOTH_KINDS = [
    "host",
    pytest.param(
        "mps2-an386",
        marks=[
            pytest.mark.needs_package("gcc-arm-none-eabi", command="arm-none-eabi-gcc"),
            pytest.mark.needs_package("qemu-system-arm", command="qemu-system-arm"),
        ],
    ),
]


async def soon(waiting: Any) -> Any:
    return await asyncio.wait_for(waiting, PATIENCE_S)


class Bench:
    """Plugs in emulated boards. Each connection meets the next noise; the last one stays."""

    def __init__(self, kind: str, *noises: Noise) -> None:
        self.kind = kind
        self.boards: list[EmulatedBoard] = []
        self._noises = list(noises)

    async def connect(self, url: str) -> Device:
        board = await open_emulated(self.kind)
        self.boards.append(board)
        line = NoisyLine(board, self._noises.pop(0)) if self._noises else board
        return await Device.connect(line, IMPATIENT)

    @property
    def board(self) -> EmulatedBoard:
        return self.boards[-1]


@dataclass
class Attached:
    coordinator: CoordinatorPeer
    aggregator: AggregatorPeer
    visit: Visit


@asynccontextmanager
async def attached(board: Board) -> AsyncIterator[Attached]:
    aggregator, leave = AggregatorPeer(), asyncio.Event()
    async with AsyncExitStack() as stack:
        address = await stack.enter_async_context(listening(aggregator=aggregator))
        coordinator = CoordinatorPeer(address, heartbeat_ms=600_000)
        address = await stack.enter_async_context(listening(coordinator=coordinator))
        settings = AgentSettings(coordinator=address, name="pi-1", reconnect_s=0.1)
        choice = parse_device("--device", "pty:///b")
        data, files = ProcessData(None, None), ModelFiles(default_folder({}))
        member = BoardMember(settings, choice, 1, data, WorkThread(), board, files)
        running = asyncio.create_task(member.run(leave))
        try:
            yield Attached(coordinator, aggregator, await soon(coordinator.visits.get()))
        finally:
            leave.set()
            await asyncio.gather(running, return_exceptions=True)


def on(bench: Bench) -> Board:
    return Board("pty:///b", Ports(), 0.1, connect=bench.connect)


def expected(round: int) -> bytes:
    trained = START.copy()
    samples = training_samples(SINE, SPEC.seed, round, 0, PLAN.samples)
    run_plan(make_learner(SPEC.model), trained, samples, PLAN)
    return (trained - START).astype("<f4").tobytes()


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boards, "RETRY_PAUSES_S", (0.01, 0.01, 0.01))


async def trained(a: Attached, round: int) -> bytes:
    a.visit.assign(RUN, round, PLAN, START)
    header, data = await soon(a.aggregator.updates.get())
    assert (header.round, header.diverged) == (round, False)
    return data


@pytest.mark.parametrize("kind", BOTH_KINDS)
@pytest.mark.parametrize("accident", ["reset", "power_cut", "stop"])
async def test_accident_in_any_step_does_not_change_the_update(kind: str, accident: str) -> None:
    bench = Bench(kind)
    async with attached(on(bench)) as a:
        a.visit.brief(RUN, SPEC)
        assert await trained(a, 0) == expected(0)
        took_s = await seconds(trained(a, 1))
        for step in range(6):
            training = asyncio.create_task(trained(a, 2 + step))
            await asyncio.sleep(took_s * step / 6)
            await getattr(bench.board, accident)()
            assert await soon(training) == expected(2 + step)
        assert not a.visit.left.is_set()
        assert a.visit.heard.empty()  # nothing was declined
    assert all(board.process.poll() is not None for board in bench.boards)


async def seconds(work: Any) -> float:
    loop = asyncio.get_running_loop()
    begun = loop.time()
    await work
    return loop.time() - begun


async def test_line_that_errs_does_not_change_the_update(seed: int) -> None:
    noise = Noise(flip=1e-4, drop=1e-4, duplicate=1e-4, seed=seed)
    bench = Bench("host", *[noise] * 20)
    async with attached(on(bench)) as a:
        a.visit.brief(RUN, SPEC)
        for number in range(10):
            assert await trained(a, number) == expected(number)


class Socket:
    """A USB socket: the firmware for the host behind a device file that comes and goes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._program = firmware_image("host")
        self._process: subprocess.Popen[bytes] | None = None
        self._file: Path | None = None
        self._held = -1

    def plug_in(self, number: int) -> None:
        """A board appears as ttyACM<number>."""
        ours, theirs = os.openpty()
        tty.setraw(theirs)
        self._process = subprocess.Popen([str(self._program)], stdin=ours, stdout=ours)
        self._file = self._folder / f"ttyACM{number}"
        self._file.symlink_to(os.ttyname(theirs))
        os.close(ours)
        self._held = theirs  # as long as somebody has it open, the firmware's end does not fail

    def unplug(self) -> None:
        if self._process is not None and self._file is not None:
            self._process.kill()
            self._process.wait()
            self._file.unlink()
            os.close(self._held)
        self._process = self._file = None


async def test_board_that_is_unplugged_leaves_and_comes_back_under_another_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "board")
    monkeypatch.setattr(boards, "PROBE_S", 0.1)
    socket = Socket(tmp_path)
    socket.plug_in(0)
    try:
        async with attached(Board(f"pty://{tmp_path}/ttyACM*", Ports(), 0.1)) as a:
            a.visit.brief(RUN, SPEC)
            assert await trained(a, 0) == expected(0)
            training = a.visit.assign(RUN, 1, PLAN, START)
            socket.unplug()
            decline = (await soon(a.visit.heard.get())).decline
            assert (decline.assignment_id, decline.permanent) == (training, False)
            await soon(a.visit.left.wait())
            socket.plug_in(3)
            a.visit = await soon(a.coordinator.visits.get())
            a.visit.brief(RUN, SPEC)
            assert await trained(a, 2) == expected(2)
            socket.unplug()
            await soon(a.visit.left.wait())  # an idle board is missed, too
    finally:
        socket.unplug()
    said = [
        (r.message, Path(r.fields["address"]).name) for r in caplog.records if r.name == "board"
    ]
    assert said == [
        ("board reached", "ttyACM0"),
        ("connection to the board lost, trying again", "ttyACM*"),
        ("board reached", "ttyACM3"),
        ("connection to the board lost, trying again", "ttyACM*"),
    ]
