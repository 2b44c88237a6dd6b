"""Builds of the C learner from this source tree, with the warnings that the firmware forbids."""

import os
import subprocess
from pathlib import Path

import pytest

from tinyfleet.learner.native import load_library

SOURCES = Path(__file__).parents[3] / "mcu_bridge/firmware/learner"
STRICT = ("-std=c99", "-ffp-contract=off")
WARNINGS = ("-Wall", "-Wextra", "-Wpedantic", "-Werror", "-Wconversion", "-Wdouble-promotion")


def needs_gcc(test):
    """Skip the test where there is no gcc; in CI that is a failure."""
    return pytest.mark.needs_package("gcc", command="gcc")(test)


def build_file(folder, *flags):
    """Compile the learner with `flags` into `folder`; returns the shared library's path."""
    path = folder / f"learner{'_'.join(flags).replace('/', '_')}.so"
    sources = sorted(str(source) for source in SOURCES.glob("*.c"))
    command = ["gcc", *STRICT, *WARNINGS, *flags, "-fPIC", "-shared", *sources, "-o", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return path


def build(folder, *flags):
    """Compile the learner with `flags` and load it."""
    return load_library(build_file(folder, *flags))


def runs_on_this_processor(flag):
    """Whether code compiled with an x86 `-m` flag can run here."""
    if os.uname().machine != "x86_64":
        return False
    return f" {flag.removeprefix('-m')} " in Path("/proc/cpuinfo").read_text("utf-8")
