"""The firmware's programs, built when they are asked for and when a source has changed.

In a checkout they lie under build/firmware, as `make -C mcu_bridge/firmware` leaves them;
installed, in the user's cache. Where the variable TINYFLEET_FIRMWARE names a folder, they lie there
and are never built: a container has no compiler.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import tinyfleet
from tinyfleet.errors import InvalidInput, one_line, unknown_name

READY_VARIABLE = "TINYFLEET_FIRMWARE"
SOURCES = Path(__file__).resolve().parent / "firmware"


@dataclass(frozen=True)
class _Image:
    """Where a board's program lies below the build folder, and what builds it: command, package."""

    path: str
    tools: tuple[tuple[str, str], ...]


_MAKE = ("make", "make")
_CROSS = (
    _MAKE,
    ("arm-none-eabi-gcc", "gcc-arm-none-eabi libnewlib-arm-none-eabi"),
)
_IMAGES = {
    "mps2-an386": _Image("mps2_an386/tinyfleet.elf", _CROSS),
    "nrf52840": _Image("nrf52840/tinyfleet.elf", _CROSS),
    "nano33ble": _Image("nano33ble/tinyfleet.elf", _CROSS),
    "host": _Image("host/tinyfleet_device", (_MAKE, ("cc", "gcc libc6-dev"))),
}


def firmware_image(board: str) -> Path:
    """The program for `board` (a name in _IMAGES), built first when it is not fresh.

    Blocks while it builds, and while another process does. Raises InvalidInput for another board,
    for missing tools (naming the packages that have them) and for a build that fails.
    """
    if ready_folder() is not None:
        return _ready_image(board)
    if missing := missing_packages(board):
        raise InvalidInput(
            f"the firmware for {board} cannot be built here; install: {' '.join(missing)}"
        )
    folder = build_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # freed with the file
            _make(board, folder, image_path(board))
    except OSError as error:
        raise InvalidInput(
            f"the firmware cannot be built in {folder}: {error.strerror};"
            " make it writable, or set XDG_CACHE_HOME to another folder"
        ) from None
    return image_path(board)


def image_path(board: str) -> Path:
    """Where the program for `board` is, or will be when it has been built; never builds."""
    if board not in _IMAGES:
        raise unknown_name("board", board, _IMAGES)
    return build_folder() / _IMAGES[board].path


def missing_packages(board: str) -> list[str]:
    """What has to be installed to build the program for `board`, as Debian names it."""
    if board not in _IMAGES:
        raise unknown_name("board", board, _IMAGES)
    if ready_folder() is not None:
        return []
    return [package for tool, package in _IMAGES[board].tools if shutil.which(tool) is None]


def ready_folder() -> Path | None:
    """The folder of programs that are not built here, if there is one."""
    folder = os.environ.get(READY_VARIABLE)
    return Path(folder) if folder else None


def _ready_image(board: str) -> Path:
    path = image_path(board)
    if not path.is_file():
        raise InvalidInput(f"no firmware for {board} at {path}: correct {READY_VARIABLE}")
    return path


def build_folder() -> Path:
    """Where programs are: in a folder of ready ones, of a checkout, or in the user's cache."""
    if (ready := ready_folder()) is not None:
        return ready
    checkout = SOURCES.parents[1]
    if (checkout / "pyproject.toml").is_file():
        return checkout / "build" / "firmware"
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "tinyfleet" / f"firmware-{tinyfleet.__version__}"


def _make(board: str, folder: Path, target: Path) -> None:
    settings = [f"BUILD={_below(folder)}", f"PYTHON={sys.executable}"]
    command = ["make", "-s", f"-j{os.cpu_count() or 1}", "-C", str(SOURCES), *settings]
    # A `make` above this one has settings of its own: its targets and jobs are not ours.
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS"))}
    done = subprocess.run(
        [*command, str(_below(target))],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0 or not target.is_file():
        lines = [line for line in done.stderr.splitlines() if "error" in line.lower()]
        reason = one_line(lines[0]) if lines else f"make ended with status {done.returncode}"
        raise InvalidInput(
            f"the firmware for {board} does not build: {reason}; all of it: make -C {SOURCES}"
        )


def _below(path: Path) -> Path:
    """The path as the Makefile names it in a checkout, so that both make the same targets."""
    checkout = SOURCES.parents[1]
    return Path("../..") / path.relative_to(checkout) if path.is_relative_to(checkout) else path
