"""What the doctor finds."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Level(Enum):
    """OK: well. NOTE: nothing is broken, and somebody may want to know. PROBLEM: something is."""

    OK = "ok"
    NOTE = "note"
    PROBLEM = "problem"


@dataclass(frozen=True)
class Finding:
    """How one thing is. about: a word. message: one line. remedy: what to do; empty: nothing."""

    about: str
    level: Level
    message: str
    remedy: str = ""


def ok(about: str, message: str) -> Finding:
    """It is well."""
    return Finding(about, Level.OK, message)


def note(about: str, message: str, remedy: str = "") -> Finding:
    """It is not broken."""
    return Finding(about, Level.NOTE, message, remedy)


def problem(about: str, message: str, remedy: str) -> Finding:
    """It is broken."""
    return Finding(about, Level.PROBLEM, message, remedy)
