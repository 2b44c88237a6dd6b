"""Runs a program for a Cortex-M4 under QEMU, as the board mps2-an386.

The program reads and writes files of its working folder and ends the run with a status of its own.
QEMU counts instructions (`-icount`), so a run takes the same time for the program however busy the
host is.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from tinyfleet.errors import InvalidInput

PROGRAM = "qemu-system-arm"
BOARD = "mps2-an386"
INSTRUCTIONS_PER_TICK = 40  # SysTick at 25 MHz, one instruction a nanosecond (shift=0)
FAULT_STATUS = 111  # MUST match PORT_FAULT_STATUS in firmware/port/port.h


def emulator_command(program: Path) -> list[str]:
    """The command that runs `program` (ELF); QEMU then ends with its parent, whatever happens."""
    if shutil.which(PROGRAM) is None:
        raise InvalidInput(f"{PROGRAM} is not installed; the package has the same name")
    guard = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []
    machine = ["-M", BOARD, "-display", "none", "-monitor", "none", "-serial", "none"]
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
