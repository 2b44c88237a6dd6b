"""The self-test of an attached board: does the line carry every byte, does training give our bits?

What `tinyfleet device selftest` runs, on a good line or over a NoisyLine: parameters there and back
many times, then one training of a dense and one of a convolutional model, compared with this
machine's learner bit for bit.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from mcu_bridge.device.client import Device
from mcu_bridge.device.identity import DeviceIdentity
from mcu_bridge.device.messages import DeviceCounters
from mcu_bridge.link.frame import ReaderCounters
from tinyfleet.errors import InvalidInput
from tinyfleet.learner.native import NativeLearner
from tinyfleet.learner.protocol import Samples, Trained
from tinyfleet.model.builtin import builtin_model
from tinyfleet.model.initialization import initial_parameters
from tinyfleet.model.layers import Conv2D, Dense, Flatten, MaxPool2D, ReLU
from tinyfleet.model.spec import LOSSES, ModelSpec, Parameters
from tinyfleet.strategies.plan import Phase

MAX_TRANSFERS = 100_000  # our choice: some days at 115,200 baud
BITS_A_BYTE = 10  # on a serial line: a start bit, eight of data, a stop bit
_SAMPLES = 32
_RATE = 0.02
_SQUARED_ERROR, _CROSS_ENTROPY = LOSSES


@dataclass(frozen=True)
class SelfTestStep:
    """How far a self-test is: `done` of `total` in the part called `part`."""

    part: str
    done: int
    total: int


@dataclass(frozen=True)
class TransferCheck:
    """Parameters written and read back `count` times.

    wrong: how many came back with another bit. payload_bytes: of parameters, both ways.
    """

    count: int
    wrong: int
    payload_bytes: int
    seconds: float

    @property
    def bytes_per_second(self) -> float:
        """Parameters' bytes a second, all else left out of the bytes and none out of the time."""
        return self.payload_bytes / self.seconds

    def line_share(self, baud: int) -> float:
        """Which part of what a line of `baud` bits a second carries were bytes of parameters."""
        return self.bytes_per_second * BITS_A_BYTE / baud


@dataclass(frozen=True)
class TrainingCheck:
    """One training here and there.

    same_bits: of every parameter and of the loss. ticks: in the board's learner, by its clock; on
    an emulated board that is no measure of a real one.
    """

    model: str
    samples: int
    same_bits: bool
    ticks: int
    board_seconds: float

    @property
    def ticks_per_sample(self) -> float:
        return self.ticks / self.samples


@dataclass(frozen=True)
class SelfTestReport:
    """What a self-test found. repeated: frames that the host sent again; received: by the host."""

    identity: DeviceIdentity
    transfers: TransferCheck
    trainings: tuple[TrainingCheck, ...]
    repeated: int
    received: ReaderCounters
    counters: DeviceCounters

    @property
    def passed(self) -> bool:
        """Whether no byte and no bit was wrong. Repeats are no failure: they are what repairs."""
        return self.transfers.wrong == 0 and all(check.same_bits for check in self.trainings)


Listener = Callable[[SelfTestStep], None]


async def run_selftest(
    device: Device, *, transfers: int = 20, listener: Listener | None = None
) -> SelfTestReport:
    """Test the board; its model and parameters are others afterwards.

    Raises what the device's calls raise, when the board is lost or does not answer.
    """
    if not 1 <= transfers <= MAX_TRANSFERS:
        raise InvalidInput(f"transfers must be 1 to {MAX_TRANSFERS}, got {transfers}")
    heard = listener or _unheard
    moved = await check_transfers(device, transfers, heard)
    trained = []
    specs = (_dense_model(), _image_model())
    for done, spec in enumerate(specs):
        heard(SelfTestStep("training", done, len(specs)))
        trained.append(await check_training(device, spec))
    heard(SelfTestStep("training", len(specs), len(specs)))
    link = device.link
    repeated, received = link.counters.repeated, replace(link.received)
    counters = await device.counters()
    return SelfTestReport(device.identity, moved, tuple(trained), repeated, received, counters)


async def check_transfers(device: Device, count: int, listener: Listener) -> TransferCheck:
    """Write and read back `count` times, each time other parameters."""
    spec = _dense_model()
    await device.configure(spec)
    wrong, seconds = 0, 0.0
    for done in range(count):
        listener(SelfTestStep("transfers", done, count))
        parameters = initial_parameters(spec, done)
        start = time.perf_counter()
        await device.write_parameters(parameters)
        back = await device.read_parameters()
        seconds += time.perf_counter() - start
        wrong += not _same_bits(parameters, back)
    listener(SelfTestStep("transfers", count, count))
    return TransferCheck(count, wrong, 2 * count * spec.parameter_bytes, seconds)


async def check_training(device: Device, spec: ModelSpec) -> TrainingCheck:
    """Train on the board and here, on the same samples."""
    samples, phase = _samples(spec), Phase(_SAMPLES, _RATE)
    here = initial_parameters(spec, 1)
    await device.configure(spec)
    await device.write_parameters(here)
    done_there = await device.train(phase, samples)
    ticks = round(device.busy_seconds * device.identity.ticks_hz)
    there = await device.read_parameters()
    done_here = NativeLearner(spec).train(here, samples, phase)
    same = _same_bits(here, there) and _same(done_here, done_there)
    return TrainingCheck(spec.name, _SAMPLES, same, ticks, device.busy_seconds)


def _dense_model() -> ModelSpec:
    return builtin_model("mlp_32", (1, 1, 1), 1, _SQUARED_ERROR)


def _image_model() -> ModelSpec:
    layers = (Conv2D(8, 3, 1, 1), ReLU(), MaxPool2D(2, 2), Flatten(), Dense(5))
    return ModelSpec("small_cnn", (12, 12, 1), layers, _CROSS_ENTROPY)


def _samples(spec: ModelSpec) -> Samples:
    """Sines for one output, else images of 8 bits a pixel: each in the encoding it has in use."""
    random = np.random.default_rng(1)
    if spec.outputs == 1:
        inputs = random.uniform(-np.pi, np.pi, (_SAMPLES, spec.inputs)).astype(np.float32)
        return Samples(inputs, np.sin(inputs))
    pixels = random.integers(0, 256, (_SAMPLES, spec.inputs)).astype(np.float32)
    classes = np.eye(spec.outputs, dtype=np.float32)[random.integers(0, spec.outputs, _SAMPLES)]
    return Samples(pixels / np.float32(255.0), classes)


def _same_bits(one: Parameters, other: Parameters) -> bool:
    return np.array_equal(one.view(np.uint32), other.view(np.uint32))


def _same(one: Trained, other: Trained) -> bool:
    return one.finite and (one.loss, one.updates) == (other.loss, other.updates)


def _unheard(step: SelfTestStep) -> None:
    """Nobody asked how far it is."""
