"""What the system says of this process; None where it does not say."""

from __future__ import annotations

import os
import time
from pathlib import Path

_PAGES = Path("/proc/self/statm")
_STAT = Path("/proc/self/stat")
_START_TICKS = 19  # of the fields behind the program's name, which may hold anything; see proc(5)


def resident_bytes() -> int | None:
    """Resident memory."""
    try:
        return int(_PAGES.read_text("ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return None


def cpu_seconds() -> float:
    """Processor time so far, of user and system."""
    return time.process_time()


def uptime_seconds() -> float | None:
    """Seconds since the process started."""
    try:
        behind_name = _STAT.read_text("utf-8", "replace").rpartition(")")[2].split()
        ticks = int(behind_name[_START_TICKS])
    except OSError:
        return None
    started = ticks / os.sysconf("SC_CLK_TCK")
    return max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - started)
