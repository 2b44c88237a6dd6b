"""Paths of fields, as settings name them: `linear_acceleration.x`, `position[wheel_left]`,
`data[0:6]`, `row[0].channel[3]`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from tinyfleet.errors import InvalidInput, one_line

MAX_PATH = 256  # our choice: characters
MAX_PARTS = 8  # our choice: axes of an array that one path names
MAX_INDEX = 2**24  # our choice: far above what a message has
MAX_WIDTH = 65_536  # our choice: values that are taken of one message
_PART = re.compile(r"(?P<name>[^\[\].]+)(\[(?P<key>[^\[\]]+)\])?")
_RANGE = re.compile(r"(?P<start>\d{1,9})(:(?P<stop>\d{1,9}))?", re.ASCII)


@dataclass(frozen=True)
class Part:
    """`name` or `name[key]`; key: "" where there is none."""

    name: str
    key: str


@dataclass(frozen=True)
class AxisRange:
    """Indices start to stop - 1 on the axis with that label."""

    label: str
    start: int
    stop: int

    @property
    def width(self) -> int:
        return self.stop - self.start


def parse_path(text: str) -> list[Part]:
    """The parts between the dots; raises InvalidInput."""
    parts, at = [], 0
    while len(text) <= MAX_PATH and (match := _PART.match(text, at)):
        parts.append(Part(match["name"], match["key"] or ""))
        at = match.end()
        if at == len(text) and len(parts) <= MAX_PARTS:
            return parts
        if text[at : at + 1] != ".":
            break
        at += 1
    raise InvalidInput(
        f"'{one_line(text)}' is no path of a field: write names with dots between them, "
        "each with [index], [first:end] or [joint] where it has several values"
    )


def parse_ranges(text: str) -> tuple[AxisRange, ...]:
    """A path into an array: `label[3]` or `label[0:6]` for each axis; raises InvalidInput."""
    ranges = tuple(_axis_range(text, part) for part in parse_path(text))
    labels = [one.label for one in ranges]
    if len(set(labels)) < len(labels):
        raise InvalidInput(f"'{one_line(text)}' names an axis twice")
    return ranges


def _axis_range(text: str, part: Part) -> AxisRange:
    match = _RANGE.fullmatch(part.key)
    if match is None:
        raise InvalidInput(
            f"'{one_line(text)}' must say which values of '{part.name}' it means: "
            f"{part.name}[3], or {part.name}[0:6] for six"
        )
    start = int(match["start"])
    stop = int(match["stop"]) if match["stop"] else start + 1
    if not start < stop <= MAX_INDEX:
        raise InvalidInput(f"'{one_line(text)}' must count up, to {MAX_INDEX} at most")
    return AxisRange(part.name, start, stop)
