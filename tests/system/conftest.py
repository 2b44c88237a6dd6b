"""Real processes: the command as users run it, and a fleet to disturb."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tinyfleet.cli.local_fleet import LocalFleet
from tinyfleet.client import Fleet

sys.path.insert(0, str(Path(__file__).parent))  # for `refusals`

Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def tinyfleet(tmp_path: Path) -> Command:
    """Runs `tinyfleet ARGUMENTS`, in an empty folder, and gives what it printed.

    Of the settings in the environment it gets only those that the test has made itself.
    """
    callers = {name for name in os.environ if name.startswith("TINYFLEET")}

    def run(*arguments: object, timeout_s: float = 100) -> subprocess.CompletedProcess[str]:
        here = {name: value for name, value in os.environ.items() if name not in callers}
        command = [sys.executable, "-m", "tinyfleet.cli", *(str(one) for one in arguments)]
        return subprocess.run(
            command,
            cwd=tmp_path,
            env=here,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    return run


@pytest.fixture
def result_of(tinyfleet: Command) -> Callable[..., Any]:
    """Runs `tinyfleet ARGUMENTS --json` and gives the object it ends with."""

    def run(*arguments: object, timeout_s: float = 100) -> Any:
        done = tinyfleet(*arguments, "--json", timeout_s=timeout_s)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


@pytest.fixture
def fleet_of(tmp_path: Path) -> Iterator[Callable[[int], LocalFleet]]:
    """Starts a fleet of so many agents that the test may disturb; it ends with the test."""
    fleets: list[LocalFleet] = []

    def start(agents: int) -> LocalFleet:
        fleets.append(LocalFleet(tmp_path / "fleet", agents))
        return fleets[-1].__enter__()

    yield start
    for fleet in fleets:
        fleet.stop()


@pytest.fixture
def fleet_without_agents(tmp_path):
    """A local fleet with no agent yet, and a client of it."""
    with LocalFleet(tmp_path / "fleet", 0) as local, Fleet(local.coordinator) as fleet:
        yield local, fleet
