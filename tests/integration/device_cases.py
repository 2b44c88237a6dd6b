"""What the tests of an attached board share: a whole assignment, and lines that disturb it."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import numpy as np
from device_lines import EventfulLine, KeptLine
from learner_cases import CASES, Case

from mcu_bridge.device import Device, Patience
from mcu_bridge.errors import DeviceRestarted
from mcu_bridge.lines.emulated import EmulatedBoard
from tinyfleet.exchange import Exchange
from tinyfleet.learner.protocol import Samples
from tinyfleet.model.initialization import initial_parameters
from tinyfleet.model.spec import ModelSpec
from tinyfleet.strategies.plan import Phase, TrainingPlan, Upload

IMPATIENT = Patience(first_s=0.1, answer_s=0.5, progress_s=0.5)


async def configure(device: Device, case: Case, *, keep_start: bool = False) -> None:
    """The board with all that the case needs, and its parameters."""
    phase = case.phase
    stored = phase.samples if phase.passes > 1 else 0
    gradient = phase.batch_size > 1
    await device.configure(
        case.spec,
        keep_start=keep_start or case.phase.proximal > 0,
        gradient=gradient,
        stored_samples=stored,
    )
    await device.write_parameters(case.parameters)


def images(phase: Phase, seed: int = 1, spec: ModelSpec = CASES["images"].spec) -> Case:
    """A case whose samples are images of 8 bits a pixel, which travel as bytes."""
    random = np.random.default_rng(seed)
    pixels = random.integers(0, 256, (phase.samples, spec.inputs)).astype(np.float32)
    classes = random.integers(0, spec.outputs, phase.samples)
    targets = np.eye(spec.outputs, dtype=np.float32)[classes]
    samples = Samples(pixels / np.float32(255.0), targets)
    return Case(spec, initial_parameters(spec, seed), samples, phase)


def uploading(
    spec: ModelSpec, fraction: float, precision: str = "float32", local: tuple[str, ...] = ()
) -> Exchange:
    """The traffic of a plan that has so much sent."""
    plan = TrainingPlan((Phase(1, 0.1),), local, Upload(fraction, precision))
    return Exchange(spec, plan)


SLOT = (3, 7, 2)
"""Seed, round and slot that an update is rounded for."""


async def encoded(device: Device, exchange: Exchange) -> bytes:
    """The update that the board writes."""
    return (await device.encode(exchange, exchange.noise(*SLOT))).data


@dataclass(frozen=True)
class Outcome:
    """All that an assignment brings home, to the bit."""

    loss: float
    accuracy: float
    parameters: bytes
    update: bytes


ASSIGNMENT = images(Phase(4, 0.02, passes=2), seed=9)


async def assignment(device: Device) -> Outcome:
    """Every step that a round consists of."""
    await configure(device, ASSIGNMENT, keep_start=True)
    trained = await device.train(ASSIGNMENT.phase, ASSIGNMENT.samples)
    found = await device.evaluate(ASSIGNMENT.samples)
    parameters = await device.read_parameters()
    update = await encoded(device, uploading(ASSIGNMENT.spec, 0.1, "int8"))
    return Outcome(trained.loss, found.accuracy, parameters.tobytes(), update)


async def disturbed(
    board: EmulatedBoard,
    write: int,
    event: Callable[[], Awaitable[None]],
    patience: Patience | None = None,
) -> Outcome:
    """An assignment with an event just before the host's nth write, if there are so many."""
    device = await Device.connect(EventfulLine(board, write, event), patience)
    try:
        return await assignment(device)
    finally:
        await device.close()


async def writes_of_an_assignment(board: EmulatedBoard) -> tuple[int, Outcome]:
    """How many there are at the least, and what comes out.

    A board that is slow for a moment is asked more often: the fewest of a few tries count.
    """
    tries = [await _writes_of_one_assignment(board) for _ in range(3)]
    return min(writes for writes, _ in tries), tries[0][1]


async def _writes_of_one_assignment(board: EmulatedBoard) -> tuple[int, Outcome]:
    line = EventfulLine(board)
    async with await Device.connect(line) as device:
        outcome = await assignment(device)
    return line.writes, outcome


@dataclass
class Resets:
    """How many resets came before an assignment had ended, and how many of them it noticed."""

    came: int = 0
    noticed: int = 0


async def survive_resets(board: EmulatedBoard, times: int) -> Resets:
    """Reset the board so often, all over an assignment.

    After each the board is connected anew, and the assignment must have the same outcome. One that
    notices nothing had nothing more to ask of the board.
    """
    writes, expected = await writes_of_an_assignment(board)
    resets = Resets()

    async def reset() -> None:
        resets.came += 1
        await board.reset()

    for write in range(2, writes, max(1, writes // times)):  # the first one identifies
        try:
            assert await disturbed(board, write, reset) == expected
        except DeviceRestarted:
            resets.noticed += 1
        async with await Device.connect(KeptLine(board)) as device:
            assert await assignment(device) == expected
    return resets
