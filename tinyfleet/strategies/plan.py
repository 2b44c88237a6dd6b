"""What a strategy asks of a device, as data.

A `TrainingPlan` is the whole client half of an algorithm. The learner on a Pi, the firmware of a
microcontroller and the simulator interpret the same plan; none of them knows which strategy
made it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from tinyfleet.codec.selected import is_dense
from tinyfleet.codec.values import PRECISIONS
from tinyfleet.errors import InvalidInput, unknown_name

MAX_PHASES = 8  # our choice, like the other bounds here: far above what any strategy uses
MAX_SAMPLES = 1_000_000
MAX_PASSES = 10_000
MAX_PROXIMAL = 1000.0


@dataclass(frozen=True)
class Phase:
    """One stretch of SGD over the next samples of the device's stream.

    samples: how many samples are taken from the stream, 1 to 1,000,000.
    rate: inner learning rate, greater than 0 and at most 10.
    batch_size: samples per update, 1 to `samples`; the gradient is their mean. A last batch may
        be smaller.
    passes: how often the phase goes over its samples, in the same order. Only batch_size = 1 and
        passes = 1 is online: every sample is used once and forgotten. Everything else stores
        the samples on the device.
    trainable: names of the layers that learn; empty means all of them.
    proximal: mu, 0 to 1,000: how hard each update is pulled back to the parameters that the device
        started the plan from, by rate * mu of the way; rate * mu is at most 1. 0: not at all.
    """

    samples: int
    rate: float
    batch_size: int = 1
    passes: int = 1
    trainable: tuple[str, ...] = ()
    proximal: float = 0.0

    def __post_init__(self) -> None:
        _in_range("samples of a phase", self.samples, 1, MAX_SAMPLES)
        _in_range("batch size", self.batch_size, 1, self.samples)
        _in_range("passes", self.passes, 1, MAX_PASSES)
        if not (math.isfinite(self.rate) and 0.0 < self.rate <= 10.0):
            raise InvalidInput(f"inner rate must be above 0 and at most 10, got {self.rate}")
        if not 0.0 <= self.proximal <= MAX_PROXIMAL:
            raise InvalidInput(f"proximal must be 0 to {MAX_PROXIMAL:g}, got {self.proximal}")
        if self.rate * self.proximal > 1.0:
            raise InvalidInput(
                f"inner rate times proximal must be at most 1, got {self.rate * self.proximal:g}: "
                "an update would be pulled beyond the start"
            )

    @property
    def online(self) -> bool:
        """Whether a device can forget each sample after its update."""
        return self.batch_size == 1 and self.passes == 1

    @property
    def updates(self) -> int:
        """How many SGD updates the phase makes."""
        return self.passes * math.ceil(self.samples / self.batch_size)


@dataclass(frozen=True)
class Upload:
    """How much of what changed goes back, and how precisely.

    fraction: P, the part of the shared entries that is sent, above 0 and at most 1: those that
    changed most, ceil(P * shared entries) of them. precision: of the values, float32, float16 or
    int8; int8 is rounded stochastically, with one scale per update. error_feedback: whether a
    device adds what its earlier updates left out; not for a dense upload, which leaves out nothing.
    """

    fraction: float = 1.0
    precision: str = "float32"
    error_feedback: bool = False

    def __post_init__(self) -> None:
        if not 0.0 < self.fraction <= 1.0:
            raise InvalidInput(f"fraction must be above 0 and at most 1, got {self.fraction}")
        if self.precision not in PRECISIONS:
            raise unknown_name("precision", self.precision, PRECISIONS)
        if self.error_feedback and self.dense:
            raise InvalidInput(
                "error_feedback is for updates that leave something out: "
                "choose a fraction below 1 or a precision below float32"
            )

    @property
    def dense(self) -> bool:
        """Whether everything is sent as it is."""
        return is_dense(self.fraction, self.precision)


EVERYTHING = Upload()


@dataclass(frozen=True)
class Download:
    """What of the shared parameters goes down to a device.

    precision: of what it starts from, float32, float16 or int8; int8 with a power of two for each
    layer, rounded to nearest. It changes the result: a device trains from the rounded parameters,
    and what it sends back is the change of those. changes: whether a device keeps its last start
    and is sent only what differs from it, where that is shorter; the result stays the same.
    """

    precision: str = "float32"
    changes: bool = False

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise unknown_name("precision", self.precision, PRECISIONS)


AS_IT_IS = Download()


@dataclass(frozen=True)
class TrainingPlan:
    """The phases a device runs in order, each on the samples that follow in its stream.

    local: names of the layers that never leave the device: they are neither sent to it nor back,
    and begin each round as the run's seeded initialization. upload: what of the change goes back.
    download: what goes down. counted_from: the phase from whose beginning on the change is counted,
    0 to phases - 1: what the phases before it change is trained on, and is no part of what goes
    back.
    """

    phases: tuple[Phase, ...]
    local: tuple[str, ...] = ()
    upload: Upload = EVERYTHING
    download: Download = AS_IT_IS
    counted_from: int = 0

    def __post_init__(self) -> None:
        _in_range("phases of a plan", len(self.phases), 1, MAX_PHASES)
        _in_range("counted_from of a plan", self.counted_from, 0, len(self.phases) - 1)

    @property
    def samples(self) -> int:
        """How many samples the plan takes from the stream in all."""
        return sum(phase.samples for phase in self.phases)

    @property
    def online(self) -> bool:
        """Whether no phase needs stored samples."""
        return all(phase.online for phase in self.phases)

    @property
    def needs_start(self) -> bool:
        """Whether a device keeps what it started from, because updates are pulled back to it."""
        return any(phase.proximal > 0.0 for phase in self.phases)


def _in_range(what: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise InvalidInput(f"{what} must be {low} to {high}, got {value}")
