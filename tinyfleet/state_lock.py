"""Who has a state folder: the service whose database lies there, or a command that works on it."""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path

from tinyfleet.errors import InvalidInput, Refused


def lock_state(folder: Path, name: str) -> int:
    """An open file that holds the folder's database `name`, however the process ends.

    The folder is made where it is missing. Raises InvalidInput when it cannot be used, Refused when
    another process holds it.
    """
    path = folder / f"{name}.lock"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise InvalidInput(
            f"cannot use state folder {folder}: {error.strerror}; choose another --state"
        ) from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        holder = _holder(lock)
        os.close(lock)
        raise Refused(
            f"state folder {folder} is in use by process {holder}: "
            "stop it or choose another --state"
        ) from None
    # The holder's number is for the message above only: a full disk must not keep us from starting.
    with contextlib.suppress(OSError):
        os.truncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
    return lock


def _holder(lock: int) -> str:
    return os.pread(lock, 20, 0).decode("ascii", "replace").strip() or "unknown"
