"""What a number was measured on: processor, cores, commit."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path


def describe_machine() -> str:
    """One line: processor, usable cores, Python, commit (and whether files were changed)."""
    cores = len(os.sched_getaffinity(0))
    return f"{_processor()}, {cores} cores, Python {platform.python_version()}, {_commit()}"


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
        if line.startswith(("model name", "Model")):
            return line.partition(":")[2].strip()
    return platform.machine()


def _commit() -> str:
    here = Path(__file__).parent
    described = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        cwd=here,
        capture_output=True,
        text=True,
        check=False,
    )
    return f"commit {described.stdout.strip()}" if described.returncode == 0 else "no commit known"
