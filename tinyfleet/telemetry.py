"""What a process measures, collected off the path of whatever it is doing.

The part without sockets or clock: what a valid sample is, the protocol that measured code sees
(`Telemetry`), and the bounded buffer behind it. `tinyfleet.telemetry_grpc.Reporter` empties the
buffer into the metrics service; only programs' mains know it.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable
from functools import lru_cache
from operator import index
from typing import NamedTuple, Protocol

from tinyfleet.errors import InvalidInput

MAX_NAME_BYTES = 64
MAX_UNIT_BYTES = 16
MAX_LABEL_BYTES = 256  # of a run id or a source
MAX_ROUND = 2**32 - 1
MAX_VALUE = 1e300  # either sign: the sum of all that a service keeps stays finite
# Our choice: with 100 samples a second, the buffer rides out three minutes without a service.
CAPACITY = 20_000
DROPPED = "samples_dropped_total"

_NAME = re.compile(r"[a-z0-9_]+\Z")


class Measurement(NamedTuple):
    """One sample: `value` of metric `name`, in `unit` ("" for a plain number), at `time`.

    run_id: "" when it belongs to no run. round: from 0, None when it belongs to none.
    time: seconds since 1970-01-01T00:00:00Z.
    """

    name: str
    value: float
    unit: str
    run_id: str
    round: int | None
    time: float


class Telemetry(Protocol):
    """Where code reports what it measures. Cheap, never blocks, never raises."""

    def report(
        self, name: str, value: float, unit: str = "", run_id: str = "", round: int | None = None
    ) -> None:
        """Take one sample.

        name: lower-case letters, digits and '_', at most 64 bytes, ending in the unit where there
        is one (`training_seconds`) or in `_total` for a count that only grows. unit: at most 16
        bytes, e.g. "seconds", "bytes"; empty for a plain number.
        """
        ...


class NoTelemetry:
    """Measures nothing: for programs that were asked not to report."""

    def report(
        self, name: str, value: float, unit: str = "", run_id: str = "", round: int | None = None
    ) -> None:
        """Forget the sample."""


class SampleBuffer:
    """Samples that wait for delivery; a full buffer drops the oldest and counts it.

    Samples that no service would take (NaN, infinities, malformed names) are dropped and counted as
    well. The count goes out as the metric `samples_dropped_total`, with the next samples that do.
    """

    def __init__(self, clock: Callable[[], float], capacity: int = CAPACITY) -> None:
        """clock: seconds since 1970-01-01T00:00:00Z. capacity: most samples kept, at least 1."""
        self._clock = clock
        self._capacity = capacity
        self._waiting: deque[Measurement] = deque()
        self._dropped_before = 0
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, name: str, value: float, unit: str, run_id: str, round: int | None) -> None:
        """Take one sample; see `Telemetry.report`. Constant time, never raises."""
        waiting = self._waiting
        if len(waiting) >= self._capacity:
            waiting.popleft()
            self.dropped += 1
        waiting.append(Measurement(name, value, unit, run_id, round, self._clock()))

    def take(self, limit: int) -> list[Measurement]:
        """Remove and return up to `limit` of the oldest samples; [] when there is nothing to send.

        One more sample follows them when some were dropped since the last call.
        """
        count = min(limit, len(self._waiting))
        taken = [self._waiting.popleft() for _ in range(count)]
        valid = [sample for sample in taken if _is_valid(sample)]
        self.dropped += len(taken) - len(valid)
        if self.dropped > self._dropped_before:
            self._dropped_before = self.dropped
            valid.append(Measurement(DROPPED, float(self.dropped), "", "", None, self._clock()))
        return valid


def check_measurement(name: str, value: float, unit: str, run_id: str, round: int | None) -> None:
    """Raise InvalidInput unless the metrics service takes such a sample; see `Telemetry.report`."""
    _check_name(name)
    _check_unit(unit)
    check_label("run_id", run_id)
    if round is not None and not 0 <= index(round) <= MAX_ROUND:
        raise InvalidInput(f"round must be 0 to {MAX_ROUND}, got {round}")
    if not abs(value) <= MAX_VALUE:  # NaN is not
        raise InvalidInput(f"{name} must be a number of at most {MAX_VALUE:g}, got {value}")


@lru_cache(maxsize=1024)
def check_label(what: str, label: str) -> None:
    """Raise InvalidInput unless `label` has at most 256 bytes, all of them printable."""
    if len(label.encode()) > MAX_LABEL_BYTES or not label.isprintable():
        raise InvalidInput(f"{what} must be at most {MAX_LABEL_BYTES} printable bytes")


@lru_cache(maxsize=1024)
def _check_name(name: str) -> None:
    if len(name) > MAX_NAME_BYTES or not _NAME.match(name):
        raise InvalidInput(
            f"a metric's name is 1 to {MAX_NAME_BYTES} of a-z, 0-9 and _, got {name[:80]!r}"
        )


@lru_cache(maxsize=1024)
def _check_unit(unit: str) -> None:
    if len(unit.encode()) > MAX_UNIT_BYTES or not unit.isprintable():
        raise InvalidInput(
            f"a unit has at most {MAX_UNIT_BYTES} printable bytes, got {unit[:80]!r}"
        )


def _is_valid(sample: Measurement) -> bool:
    """Whether a sample can be sent; a caller's mistake must not cost the rest of its batch."""
    try:
        check_measurement(sample.name, sample.value, sample.unit, sample.run_id, sample.round)
    except (InvalidInput, TypeError, AttributeError, ValueError, OverflowError):
        return False
    return True
