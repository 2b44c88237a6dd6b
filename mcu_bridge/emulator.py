"""QEMU's command lines for the board mps2-an386, a Cortex-M4F.

A program of the checks reads and writes files of its working folder and ends the run with a status
of its own; QEMU counts instructions (`-icount`), so a run takes the same time for the program
however busy the host is. The firmware has a serial line instead, and runs until it is ended.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from tinyfleet.errors import InvalidInput

PROGRAM = "qemu-system-arm"
BOARD = "mps2-an386"
INSTRUCTIONS_PER_TICK = 40  # SysTick at 25 MHz, one instruction a nanosecond (shift=0)
UNIQUE_ID_AT = 0xFFFF8  # the last 8 bytes of flash; MUST match port/mps2_an386/board.c
FAULT_STATUS = 111  # MUST match PORT_FAULT_STATUS in firmware/port/port.h

_MACHINE = ["-M", BOARD, "-display", "none"]


def _check_installed() -> None:
    if shutil.which(PROGRAM) is None:
        raise InvalidInput(f"{PROGRAM} is not installed; the package has the same name")


def serial_command(
    program: Path, line: int, control: int, unique_id: bytes = bytes(8)
) -> list[str]:
    """The command that runs the firmware with its serial line, and QEMU's control, on open sockets.

    line, control: file descriptors that the process inherits. unique_id: the board's own 8 bytes.
    There is no semihosting, so the firmware reaches nothing of this machine but the line.
    """
    _check_installed()
    serial = ["-chardev", f"socket,id=line,fd={line}", "-serial", "chardev:line"]
    qmp = ["-chardev", f"socket,id=control,fd={control}", "-mon", "chardev=control,mode=control"]
    number = int.from_bytes(unique_id, "little")
    identity = [
        "-device",
        f"loader,addr={UNIQUE_ID_AT:#x},data={number:#x},data-len={len(unique_id)}",
    ]
    kernel = ["-kernel", str(program.resolve())]
    return [PROGRAM, *_MACHINE, "-nodefaults", *serial, *qmp, *identity, *kernel]


def emulator_command(program: Path) -> list[str]:
    """The command that runs `program` (ELF); QEMU then ends with its parent, whatever happens."""
    _check_installed()
    guard = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []
    machine = [*_MACHINE, "-monitor", "none", "-serial", "none"]
    time = ["-icount", "shift=0,sleep=off"]
    host = ["-semihosting-config", "enable=on,target=native"]
    return [*guard, PROGRAM, *machine, *time, *host, "-kernel", str(program.resolve())]


def run_program(program: Path, folder: Path, timeout_s: float) -> int:
    """Run `program` in `folder` to its end; returns its status.

    Raises subprocess.TimeoutExpired beyond `timeout_s`; QEMU is then ended.
    """
    command = emulator_command(program)
    done = subprocess.run(
        command, cwd=folder, stdin=subprocess.DEVNULL, timeout=timeout_s, check=False
    )
    return done.returncode
