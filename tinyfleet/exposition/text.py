"""Families of samples, and the text in which Prometheus reads them.

That is its text exposition format 0.0.4.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Sample(NamedTuple):
    """A number with its labels. suffix: what follows the family's name, of a histogram."""

    value: float
    labels: Mapping[str, str] = {}
    suffix: str = ""


class Family(NamedTuple):
    """Samples of one name. kind: "counter", "gauge" or "histogram". help: one line."""

    name: str
    kind: str
    help: str
    samples: Sequence[Sample]


def text_of(families: Iterable[Family]) -> str:
    """The families as a scrape is answered; those without samples are left out."""
    return "".join(line + "\n" for family in families if family.samples for line in _lines(family))


class Counts:
    """A counter of what happened, by the values of its labels."""

    def __init__(self, name: str, help: str, *labels: str) -> None:
        self._about = (name, "counter", help)
        self._labels = labels
        self._counts: dict[tuple[str, ...], int] = {}

    def add(self, *values: str) -> None:
        """It happened once more. values: of the labels, of which there must be few."""
        self._counts[values] = self._counts.get(values, 0) + 1

    def family(self) -> Family:
        """All of it, as it is now."""
        samples = [
            Sample(count, dict(zip(self._labels, values, strict=True)))
            for values, count in self._counts.items()
        ]
        return Family(*self._about, samples)


class Histogram:
    """How large what happened was, in buckets, by the values of its labels."""

    def __init__(self, name: str, help: str, bounds: Sequence[float], *labels: str) -> None:
        """bounds: the largest value of each bucket, rising; the last bucket has none."""
        self._about = (name, "histogram", help)
        self._bounds = bounds
        self._labels = labels
        self._buckets: dict[tuple[str, ...], list[int]] = {}
        self._sums: dict[tuple[str, ...], float] = {}

    def observe(self, size: float, *values: str) -> None:
        """It happened once more, and was so large."""
        buckets = self._buckets.setdefault(values, [0] * (len(self._bounds) + 1))
        buckets[bisect.bisect_left(self._bounds, size)] += 1
        self._sums[values] = self._sums.get(values, 0.0) + size

    def family(self) -> Family:
        """All of it, as it is now."""
        samples: list[Sample] = []
        for values, buckets in self._buckets.items():
            labels = dict(zip(self._labels, values, strict=True))
            samples += _of_one(labels, self._bounds, buckets, self._sums[values])
        return Family(*self._about, samples)


def _of_one(
    labels: dict[str, str], bounds: Sequence[float], buckets: list[int], total: float
) -> Iterator[Sample]:
    below = 0
    for bound, count in zip((*bounds, math.inf), buckets, strict=True):
        below += count
        yield Sample(below, {**labels, "le": _number(bound)}, "_bucket")
    yield Sample(total, labels, "_sum")
    yield Sample(below, labels, "_count")


def _lines(family: Family) -> Iterator[str]:
    yield f"# HELP {family.name} {_escaped(family.help)}"
    yield f"# TYPE {family.name} {family.kind}"
    for value, labels, suffix in family.samples:
        pairs = ",".join(f'{key}="{_quoted(text)}"' for key, text in labels.items())
        braced = f"{{{pairs}}}" if pairs else ""
        yield f"{family.name}{suffix}{braced} {_number(value)}"


def _number(value: float) -> str:
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return "NaN" if math.isnan(value) else repr(value)


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n")


def _quoted(text: str) -> str:
    return _escaped(text).replace('"', r"\"")
