"""What samples, questions and answers are, and how samples become one value. Pure.

Both stores answer by the definitions here: the in-memory one calls them, the database is held to
them by the tests.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from tinyfleet.errors import InvalidInput
from tinyfleet.telemetry import check_label, check_measurement

MAX_BATCH = 10_000
MAX_REQUEST_ID_BYTES = 64
MAX_ROWS = 100_000
DEFAULT_ROWS = 1000
NANOSECONDS = 1_000_000_000
# A clock before this was never set; one further ahead than a day would keep its samples too long.
EARLIEST_NS = 946_684_800 * NANOSECONDS  # 2000-01-01
AHEAD_NS = 86_400 * NANOSECONDS


class Sample(NamedTuple):
    """One measurement. run_id "" and round None: it belongs to none. time_ns: since 1970, UTC."""

    run_id: str
    round: int | None
    source: str
    name: str
    value: float
    unit: str
    time_ns: int


@dataclass(frozen=True)
class Batch:
    """Samples that are stored together, or not at all if `request_id` was stored before."""

    request_id: str
    samples: Sequence[Sample]


@dataclass(frozen=True)
class Filter:
    """Which samples are meant. Empty strings and None hold for every sample.

    A range of rounds leaves out samples that belong to no round.
    """

    run_id: str = ""
    source: str = ""
    name: str = ""
    first_round: int | None = None
    last_round: int | None = None

    def __post_init__(self) -> None:
        if self.last_round is not None and (self.first_round or 0) > self.last_round:
            raise InvalidInput(
                f"first_round {self.first_round} is after last_round {self.last_round}"
            )

    def matches(self, sample: Sample) -> bool:
        """Whether the sample is meant."""
        return (
            self.run_id in ("", sample.run_id)
            and self.source in ("", sample.source)
            and self.name in ("", sample.name)
            and self._in_range(sample.round)
        )

    def _in_range(self, round: int | None) -> bool:
        if self.first_round is None and self.last_round is None:
            return True
        if round is None:
            return False
        last = math.inf if self.last_round is None else self.last_round
        return (self.first_round or 0) <= round <= last


class Aggregation(StrEnum):
    """How the samples of a group become one value."""

    LAST = "last"
    MEAN = "mean"
    MIN = "min"
    MAX = "max"
    PERCENTILE = "percentile"
    SUM = "sum"
    COUNT = "count"


# What samples can be grouped by, in the order in which groups are sorted.
KEYS = ("run_id", "source", "name", "round")


@dataclass(frozen=True)
class Question:
    """Asks for one value per group of the samples meant by `which`.

    percentile: 0 to 100, for PERCENTILE only. group_by: some of KEYS, in that order; () makes one
    group of all. limit: most groups.
    """

    which: Filter
    aggregation: Aggregation
    percentile: float = 0.0
    group_by: tuple[str, ...] = ()
    limit: int = DEFAULT_ROWS

    def __post_init__(self) -> None:
        if not 0.0 <= self.percentile <= 100.0:
            raise InvalidInput(f"a percentile is 0 to 100, got {self.percentile}")


@dataclass(frozen=True)
class Group:
    """The value of one group. Keys that were not grouped by are "" and None.

    unit: "" unless all samples of the group share it. count: how many samples, at least 1.
    """

    value: float
    count: int
    unit: str
    run_id: str = ""
    source: str = ""
    name: str = ""
    round: int | None = None


@dataclass(frozen=True)
class Summary:
    """One metric of a run; rounds are None when no sample names one."""

    name: str
    unit: str
    count: int
    last: float
    mean: float
    min: float
    max: float
    p50: float
    p95: float
    p99: float
    first_round: int | None
    last_round: int | None


@dataclass(frozen=True)
class Retention:
    """What may be deleted: samples measured before `before_ns`, and all but the newest `max_rows`.

    requests_before_ns: batches stored before this are forgotten and no longer recognised.
    """

    before_ns: int
    max_rows: int
    requests_before_ns: int


def check_batch(batch: Batch, now_ns: int) -> None:
    """Raise InvalidInput, naming the sample, unless the batch may be stored."""
    if not batch.request_id or len(batch.request_id.encode()) > MAX_REQUEST_ID_BYTES:
        raise InvalidInput(f"request_id must be 1 to {MAX_REQUEST_ID_BYTES} bytes")
    if len(batch.samples) > MAX_BATCH:
        raise InvalidInput(
            f"a request has at most {MAX_BATCH} samples, got {len(batch.samples)}: send several"
        )
    for position, sample in enumerate(batch.samples):
        try:
            _check_sample(sample, now_ns)
        except InvalidInput as error:
            raise InvalidInput(f"samples[{position}]: {error}") from None


def percentile(ordered: Sequence[float], percent: float) -> float:
    """The `percent`-th percentile (0 to 100) of values in ascending order, at least one.

    Linear interpolation between the nearest ranks: rank `percent / 100 * (n - 1)`, from 0.
    """
    rank = percent / 100.0 * (len(ordered) - 1)
    below = math.floor(rank)
    low, high = float(ordered[below]), float(ordered[min(below + 1, len(ordered) - 1)])
    share = rank - below
    # Not low + share * (high - low): the difference of two finite values may overflow.
    return low if low == high else (1.0 - share) * low + share * high


def aggregate(samples: Sequence[Sample], aggregation: Aggregation, percent: float) -> float:
    """One value of samples in their order of arrival, at least one."""
    values = [sample.value for sample in samples]
    match aggregation:
        case Aggregation.LAST:
            # Of several at the same time, the one that arrived last.
            return max(enumerate(samples), key=lambda entry: (entry[1].time_ns, entry[0]))[1].value
        case Aggregation.MEAN:
            return math.fsum(values) / len(values)
        case Aggregation.MIN:
            return min(values)
        case Aggregation.MAX:
            return max(values)
        case Aggregation.SUM:
            return math.fsum(values)
        case Aggregation.COUNT:
            return float(len(values))
        case Aggregation.PERCENTILE:
            return percentile(sorted(values), percent)


def group_samples(samples: Iterable[Sample], question: Question) -> list[Group]:
    """The groups of samples in their order of arrival, sorted by their keys; at most the limit.

    Samples without a round sort before round 0.
    """
    members: dict[tuple[str | int, ...], list[Sample]] = defaultdict(list)
    for sample in samples:
        if question.which.matches(sample):
            members[_key(sample, question.group_by)].append(sample)
    return [_group(members[key], question) for key in sorted(members)[: question.limit]]


def summarize_samples(samples: Iterable[Sample], run_id: str) -> list[Summary]:
    """A run at a glance: one summary per metric, sorted by name; [] when nothing names the run."""
    members: dict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        if sample.run_id == run_id:
            members[sample.name].append(sample)
    return [_summary(name, members[name]) for name in sorted(members)]


def shared_unit(units: Iterable[str]) -> str:
    """The one unit of all, or "" when they differ."""
    distinct = set(units)
    return distinct.pop() if len(distinct) == 1 else ""


def _check_sample(sample: Sample, now_ns: int) -> None:
    check_measurement(sample.name, sample.value, sample.unit, sample.run_id, sample.round)
    check_label("source", sample.source)
    if not sample.source:
        raise InvalidInput("source is not set: name who measured")
    if not EARLIEST_NS <= sample.time_ns <= now_ns + AHEAD_NS:
        raise InvalidInput(
            f"time is {sample.time_ns / NANOSECONDS:.0f} s after 1970, before the year 2000 or "
            f"more than a day ahead: set the clock of '{sample.source}'"
        )


def _key(sample: Sample, group_by: tuple[str, ...]) -> tuple[str | int, ...]:
    """What groups are told apart and sorted by; no round is -1."""
    parts = (getattr(sample, key) for key in group_by)
    return tuple(-1 if part is None else part for part in parts)


def _group(members: Sequence[Sample], question: Question) -> Group:
    keys = {key: getattr(members[0], key) for key in question.group_by}
    return Group(
        value=aggregate(members, question.aggregation, question.percentile),
        count=len(members),
        unit=shared_unit(sample.unit for sample in members),
        **keys,
    )


def _summary(name: str, members: Sequence[Sample]) -> Summary:
    ordered = sorted(sample.value for sample in members)
    rounds = [sample.round for sample in members if sample.round is not None]
    return Summary(
        name=name,
        unit=shared_unit(sample.unit for sample in members),
        count=len(members),
        last=aggregate(members, Aggregation.LAST, 0.0),
        mean=math.fsum(ordered) / len(ordered),
        min=ordered[0],
        max=ordered[-1],
        p50=percentile(ordered, 50.0),
        p95=percentile(ordered, 95.0),
        p99=percentile(ordered, 99.0),
        first_round=min(rounds, default=None),
        last_round=max(rounds, default=None),
    )
