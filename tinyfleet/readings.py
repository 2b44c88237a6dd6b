"""What a process can tell of itself at a moment: the lines of its diagnostics."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum


class Level(IntEnum):
    """How well something is; the numbers are those of ROS's diagnostic_msgs/DiagnosticStatus."""

    OK = 0
    WARN = 1
    ERROR = 2
    STALE = 3


@dataclass(frozen=True)
class Reading:
    """How one thing is.

    about: a word or two that name it, always the same. message: one line. values: what was
    measured, by name with its unit (`age_s`, `memory_mb`).
    """

    about: str
    level: Level = Level.OK
    message: str = "ok"
    values: Mapping[str, object] = field(default_factory=dict)


Readings = Callable[[], Iterable[Reading]]
"""Called in the event loop, about once a second; must not wait."""


def no_readings() -> Iterable[Reading]:
    """Nothing to tell."""
    return ()
