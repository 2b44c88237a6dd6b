"""The device protocol's messages, version 3: their layouts, and nothing that waits for a board.

A response is checked in full before any of it is used: its length, that each number is in the range
that the page gives it, that floats are finite. MUST match docs/formats/device.md and
firmware/app/protocol.h.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from mcu_bridge.errors import BadAnswer, DeviceRefused, ModelDoesNotFit, Status
from mcu_bridge.sample_encoding import EncodedSamples, InputEncoding, TargetEncoding
from tinyfleet.strategies.plan import Phase

PROTOCOL_VERSION = 3


class Command(IntEnum):
    """Types of frames from host to board; the response has the same with the top bit set."""

    IDENTIFY = 0x01
    CONFIGURE = 0x02
    WRITE = 0x03
    COMMIT = 0x04
    READ = 0x05
    TRAIN = 0x06
    EVALUATE = 0x07
    RESULT = 0x08
    COUNTERS = 0x0A
    RESET = 0x0B
    ENCODE = 0x0C


class Region(IntEnum):
    """What WRITE and READ are about."""

    TABLE = 1
    PARAMETERS = 2
    UPDATE = 5


class Source(IntEnum):
    """Where the samples of a phase come from."""

    LINE = 0
    SENSOR = 1


KEEP_START = 1  # option bits of CONFIGURE
GRADIENT = 2

IDENTIFY = struct.Struct("<I")
IDENTIFIED = struct.Struct("<BBHIIIHHII8s16s16sIIII")
CONFIGURE = struct.Struct("<BBBxI")
CONFIGURED = struct.Struct("<B3xIIIIII")
WRITE = struct.Struct("<BB2xI")
OPENED = struct.Struct("<B3xII")  # WRITE, TRAIN, EVALUATE: next or total, then limit
COMMIT = struct.Struct("<I")
READ = struct.Struct("<B3xII")
READING = struct.Struct("<B3xII")
RUN = struct.Struct("<QIIIfBBBxfIf")
RESULT = struct.Struct("<BB2xIIIIQd")
COUNTERS = struct.Struct("<B3x12I")
ENCODE = struct.Struct("<QIB3xQQQQ")
ENCODED = struct.Struct("<B3xIfQ")
PLAIN = struct.Struct("<B3x")
LAYOUTS = {
    Command.IDENTIFY: IDENTIFIED,
    Command.CONFIGURE: CONFIGURED,
    Command.WRITE: OPENED,
    Command.COMMIT: PLAIN,
    Command.READ: READING,
    Command.TRAIN: OPENED,
    Command.EVALUATE: OPENED,
    Command.RESULT: RESULT,
    Command.COUNTERS: COUNTERS,
    Command.RESET: PLAIN,
    Command.ENCODE: ENCODED,
}


@dataclass(frozen=True)
class Configured:
    """How a board laid out a model, in bytes; what CONFIGURE answers.

    needed_bytes is what the model takes with all its options, available_bytes what the board has;
    arena_bytes is the learner's part of it.
    """

    needed_bytes: int
    available_bytes: int
    inputs: int
    outputs: int
    parameters: int
    arena_bytes: int


@dataclass(frozen=True)
class RunResult:
    """What RESULT says of a phase.

    finished: whether it is over. steps: samples of all passes so far.
    correct: right answers of an evaluation. crc32: of the sample bytes that came. ticks: in the
    learner alone. loss_sum: of the steps, in order; not finite when it diverged.
    """

    finished: bool
    diverged: bool
    steps: int
    updates: int
    correct: int
    crc32: int
    ticks: int
    loss_sum: float


@dataclass(frozen=True)
class DeviceCounters:
    """What a board counted since its reset.

    The bad frames by kind; stale: commands out of order; ring_overrun_bytes: lost because they
    came faster than the board reads; blocks_again: gaps and repeats in transfers; stack_used_bytes
    of stack_bytes at the highest.
    """

    frames: int
    overlong: int
    malformed: int
    corrupt: int
    wrong_version: int
    stale: int
    ring_overrun_bytes: int
    blocks_again: int
    samples_trained: int
    stack_used_bytes: int
    stack_bytes: int
    uptime_ms: int

    @property
    def bad_frames(self) -> int:
        """All frames that were dropped for what was in them."""
        return self.overlong + self.malformed + self.corrupt + self.wrong_version


def unpack(command: Command, response: bytes) -> tuple[Any, ...]:
    """The fields after the status of `response`. Raises DeviceRefused, BadAnswer."""
    status = status_of(response)
    if status != Status.OK:
        raise DeviceRefused(status, f"the command {command.name}")
    return fields(command, response)


def fields(command: Command, response: bytes) -> tuple[Any, ...]:
    """The fields after the status, whatever the status is. Raises BadAnswer."""
    layout = LAYOUTS[command]
    if len(response) != layout.size:
        raise BadAnswer(f"{len(response)} bytes for {command.name}, not {layout.size}")
    return layout.unpack(response)[1:]


def status_of(response: bytes) -> Status:
    """The status of any response. Raises BadAnswer for none or an unknown one."""
    if len(response) < PLAIN.size:
        raise BadAnswer(f"a response of {len(response)} bytes")
    try:
        return Status(response[0])
    except ValueError:
        raise BadAnswer(f"the unknown status {response[0]}") from None


def parse_configured(response: bytes, model: str) -> Configured:
    """CONFIGURE's answer. Raises ModelDoesNotFit, DeviceRefused, BadAnswer."""
    if status_of(response) == Status.DOES_NOT_FIT:
        needed, available, *_ = fields(Command.CONFIGURE, response)
        raise ModelDoesNotFit(needed, available, model)
    configured = Configured(*unpack(Command.CONFIGURE, response))
    if configured.needed_bytes > configured.available_bytes:
        raise BadAnswer("it accepted a model that does not fit")
    return configured


def run_request(
    mask: int, phase: Phase, encoded: EncodedSamples | None = None, seed: int = 0
) -> bytes:
    """TRAIN's payload: samples `encoded` come over the line, or else the sensor gives them."""
    inputs = encoded.inputs if encoded else InputEncoding.FLOAT32
    targets = encoded.targets if encoded else TargetEncoding.FLOAT32
    source = Source.LINE if encoded else Source.SENSOR
    divisor = encoded.divisor if encoded else 1.0
    counts = (phase.samples, phase.batch_size, phase.passes, phase.rate)
    return RUN.pack(mask, *counts, source, inputs, targets, divisor, seed, phase.proximal)


def evaluation_request(count: int, encoded: EncodedSamples | None = None, seed: int = 0) -> bytes:
    """EVALUATE's payload: TRAIN's with no layers, no rate, one pass."""
    like_training = run_request(0, Phase(count, 1.0), encoded, seed)
    mask, samples, batch, passes, _, *others = RUN.unpack(like_training)
    return RUN.pack(mask, samples, batch, passes, 0.0, *others)


def parse_result(response: bytes) -> RunResult:
    """RESULT's answer, of a phase that is over or not. Raises DeviceRefused, BadAnswer."""
    running = status_of(response) == Status.INCOMPLETE
    read = fields if running else unpack
    diverged, steps, updates, correct, crc32, ticks, loss_sum = read(Command.RESULT, response)
    if diverged not in (0, 1):
        raise BadAnswer(f"diverged is {diverged}, not 0 or 1")
    counts = (steps, updates, correct, crc32, ticks)
    return RunResult(not running, bool(diverged), *counts, loss_sum)
