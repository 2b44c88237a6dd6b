"""The doctor's look at this machine: what is installed, data, state folders, boards."""

from __future__ import annotations

import getpass
import importlib
import importlib.util
import os
import shutil
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from urllib.parse import quote

from tinyfleet import __version__
from tinyfleet.backup.archive import NAMES
from tinyfleet.cli.console import si_bytes
from tinyfleet.cli.doctor.finding import Finding, note, ok, problem
from tinyfleet.errors import DoesNotFit, one_line
from tinyfleet.learner.native import load_library

OLDEST_S = 1_767_225_600  # 2026-01-01: a Pi without a clock begins earlier
FULL_BYTES = 100_000_000  # our choice: a database and its log need room to grow
TIGHT_BYTES = 1_000_000_000  # our choice
DEVICES = Path("/dev")
LOCKS = Path("/proc/locks")


def look_at_installation() -> Iterator[Finding]:
    """The version, the C learner, and whether there is a clock at all."""
    yield ok("version", f"TinyFleet {__version__}")
    try:
        load_library()
        yield ok("learner", "the C learner works")
    except DoesNotFit as error:
        yield note(
            "learner", f"slower, in NumPy: {error}", "the same results, tens of times slower"
        )
    if (now := time.time()) < OLDEST_S:
        yield problem(
            "clock",
            f"it says {time.strftime('%Y-%m-%d', time.gmtime(now))}: nobody has set it",
            "set the clock: timedatectl set-ntp true",
        )


def look_at_data(path: Path | None) -> Finding:
    """The file or folder of a task's data."""
    if path is None:
        return ok("data", "none set: tasks that draw their own, as sine, need none")
    remedy = "correct --data or TINYFLEET_DATA"
    if not path.exists():
        return problem("data", f"{path} is not there", remedy)
    if not os.access(path, os.R_OK | (os.X_OK if path.is_dir() else 0)):
        return problem("data", f"this user cannot read {path}", f"chmod a+r {path}, or {remedy}")
    empty = not any(path.iterdir()) if path.is_dir() else path.stat().st_size == 0
    if empty:
        return problem("data", f"{path} is empty", remedy)
    return ok("data", f"{path} can be read")


def look_at_state(state: Path) -> Iterator[Finding]:
    """A state folder: whether a service can write there, has room, and has a sound database."""
    if not state.is_dir():
        yield problem("state", f"{state} is no folder", "give the --state of your services")
        return
    if not os.access(state, os.W_OK | os.X_OK):
        yield note(
            "state",
            f"{_user()} cannot write to {state}",
            "that is as it should be where services run as a user of their own; run as that user",
        )
    yield _room(state)
    files = [
        path
        for name in NAMES
        for path in (state / f"{name}.sqlite", state / name / f"{name}.sqlite")
        if path.is_file()
    ]
    for path in files:
        yield _database(path)
    if not files:
        yield note("state", f"no database in {state} yet", "a service makes it when it starts")


def look_at_boards() -> Iterator[Finding]:
    """Serial ports and who may open them; what emulated boards need."""
    ports = sorted(port for kind in ("ttyACM*", "ttyUSB*") for port in DEVICES.glob(kind))
    for port in ports:
        if os.access(port, os.R_OK | os.W_OK):
            yield ok("boards", f"{port} can be opened")
        else:
            remedy = f"sudo usermod -aG {_group_of(port)} {_user()}, then log in again"
            yield problem("boards", f"{_user()} may not open {port}", remedy)
    bridge = _bridge("images")
    if bridge is None:
        return
    if not ports:
        yield ok("boards", "no serial port")
    elif importlib.util.find_spec("serial") is None:
        yield problem("boards", "pyserial is missing", "pip install 'tinyfleet[mcu]'")
    yield _emulation(bridge)


def _emulation(images: ModuleType) -> Finding:
    missing = sorted(
        {one for board in ("mps2-an386", "host") for one in images.missing_packages(board)}
    )
    if shutil.which("qemu-system-arm") is None:
        missing.append("qemu-system-arm")
    if not missing:
        return ok("boards", "emulated boards can be built and run")
    return note(
        "boards",
        "emulated boards need more",
        f"if you want some: sudo apt-get install {' '.join(missing)}",
    )


def _room(state: Path) -> Finding:
    free = shutil.disk_usage(state).free
    message = f"{si_bytes(free)} free in {state}"
    if free < FULL_BYTES:
        return problem("state", message, "make room: services stop accepting when it is full")
    if free < TIGHT_BYTES:
        return note("state", message, "it gets tight: make room, or lower --max-rows of metrics")
    return ok("state", message)


def _database(path: Path) -> Finding:
    """Whether a database can be read, and who has it open."""
    try:
        database = sqlite3.connect(f"file:{quote(str(path.absolute()))}?mode=ro", uri=True)
        try:
            (schema,) = database.execute("SELECT version_num FROM alembic_version").fetchone()
        finally:
            database.close()
    except (sqlite3.Error, TypeError) as error:
        reason = one_line(str(error))
        if not os.access(path, os.R_OK):
            return note("state", f"{_user()} cannot read {path}", "run as the services' user")
        return problem("state", f"{path}: {reason}", "restore a backup: docs/operations.md")
    return ok("state", f"{path}: schema {schema}, {_holder(path)}")


def _holder(path: Path) -> str:
    """Who has it open. The system is asked: to try the lock would keep a service from starting."""
    try:
        inode = path.with_suffix(".lock").stat().st_ino
        lines = LOCKS.read_text("ascii").splitlines()
    except OSError:
        return "not in use"
    held = [words for words in map(str.split, lines) if words[1] == "FLOCK" and len(words) > 5]
    holders = [words[4] for words in held if words[5].rpartition(":")[2] == str(inode)]
    return f"used by process {holders[0]}" if holders else "not in use"


def _bridge(name: str) -> ModuleType | None:
    """A module of the bridge to boards, which the core library stands without."""
    try:
        return importlib.import_module(f"mcu_bridge.{name}")
    except ModuleNotFoundError:
        return None


def _group_of(port: Path) -> str:
    import grp

    try:
        return grp.getgrgid(port.stat().st_gid).gr_name
    except (KeyError, OSError):
        return "dialout"


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"user {os.geteuid()}"
