"""The errors of the core library, one subclass per remedy.

TinyFleetError
├── InvalidInput    the caller's value is wrong: fix it (a name, a shape, a file, a range)
├── Diverged        training left the finite numbers: lower the rate or change the model
├── DoesNotFit      the target lacks memory or a feature: choose a smaller model or another target
├── Unreachable     a service does not answer: start it, or correct its address
└── Refused         a service answered no: its message says why

Every message is one line that names the value and the remedy; programs print it as it is.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class TinyFleetError(Exception):
    """Base of every error a user of the core library can cause or must handle."""


class InvalidInput(TinyFleetError, ValueError):
    """A name, shape, range or file that the caller has to correct."""


class Diverged(TinyFleetError):
    """Training produced a number that is not finite."""


class DoesNotFit(TinyFleetError):
    """The model needs more than the target has."""


class Unreachable(TinyFleetError):
    """A service does not answer: it is not running, or its address is wrong."""


class Refused(TinyFleetError):
    """A service answered, and the answer was no."""


def unknown_name(kind: str, name: str, known: Iterable[str]) -> InvalidInput:
    """An error for a name that is not among `known`, with the nearest one as a suggestion."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean '{near[0]}'?" if near else f"known: {', '.join(names)}"
    return InvalidInput(f"unknown {kind} '{one_line(name)}': {hint}")


def one_line(text: str) -> str:
    """The beginning of a text that somebody sent, fit for a one-line message."""
    return text[:80] if text.isprintable() else ascii(text[:80])[1:-1]
