"""An agent has no port: a file that its event loop touches tells whether it is alive."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from edge_agents import alive
from edge_agents.alive import STALE_S, alive_file, why_not_alive
from tinyfleet.errors import InvalidInput


async def test_the_file_is_there_while_the_agent_runs_and_gone_afterwards(tmp_path: Path) -> None:
    path = tmp_path / "alive"
    async with alive_file(path):
        assert path.is_file()
    assert not path.exists()


async def test_the_event_loop_touches_the_file_again_and_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alive, "BEAT_S", 0.001)
    path = tmp_path / "alive"
    async with alive_file(path):
        for _ in range(2):
            os.utime(path, (1, 1))
            while path.stat().st_mtime == 1:  # noqa: ASYNC110 - a file tells nobody that it changed
                await asyncio.sleep(0.001)


async def test_a_file_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="cannot write the alive file"):
        async with alive_file(tmp_path / "no-such-folder" / "alive"):
            pass


def test_an_old_file_is_a_hanging_agent_and_none_is_no_agent(tmp_path: Path) -> None:
    path = tmp_path / "alive"
    assert "no agent is alive" in why_not_alive(path, 0.0)
    path.touch()
    os.utime(path, (1000, 1000))
    assert why_not_alive(path, 1000 + STALE_S) == ""
    assert "no sign of life for 31 s" in why_not_alive(path, 1000 + STALE_S + 1)


def test_the_check_is_a_command_that_tells_by_its_status(tmp_path: Path) -> None:
    path = tmp_path / "alive"
    command = [sys.executable, "-m", "edge_agents.alive", str(path)]
    absent = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (absent.returncode, "no agent is alive" in absent.stderr) == (1, True)
    path.touch()
    assert subprocess.run(command, check=False).returncode == 0
