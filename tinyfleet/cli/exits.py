"""Exit codes of `tinyfleet`, and the one error that only a command can meet.

0  done
1  an error in TinyFleet itself; `tinyfleet --debug ...` shows the traceback
2  the command, a file or a value is wrong: fix it
3  a service could not be reached: start it or fix the address
4  refused or failed: training diverged, the model does not fit, a service said no
5  interrupted: what was done is kept where the message says
"""

from __future__ import annotations

from enum import IntEnum

from tinyfleet.errors import InvalidInput, TinyFleetError, Unreachable


class ExitCode(IntEnum):
    """What each exit code means; the module says what to do."""

    DONE = 0
    INTERNAL = 1
    INVALID = 2
    NOT_REACHABLE = 3
    FAILED = 4
    INTERRUPTED = 5


class Interrupted(TinyFleetError):
    """The user or the system asked the command to stop; the message says what is kept."""


def exit_code_of(error: TinyFleetError) -> ExitCode:
    """The exit code for an error; whatever has none of its own is a failure."""
    for kind, code in _CODES.items():
        if isinstance(error, kind):
            return code
    return ExitCode.FAILED


_CODES: dict[type[TinyFleetError], ExitCode] = {
    InvalidInput: ExitCode.INVALID,
    Unreachable: ExitCode.NOT_REACHABLE,
    Interrupted: ExitCode.INTERRUPTED,
}
