"""Commands that are stopped or killed: they leave nothing running, and keep what they had."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from refusals import INTERRUPTED, until


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda one: one.name)
def test_up_stops_its_whole_fleet_when_told_to(tmp_path, number):
    process = _up(tmp_path)
    until(lambda: _rounds_begun(tmp_path), "the run")
    members = _members(tmp_path)
    assert len(members) == 5
    process.send_signal(number)
    _, errors = process.communicate(timeout=40)
    assert process.returncode == INTERRUPTED, errors
    last = errors.strip().splitlines()[-1]
    assert last.startswith("tinyfleet: interrupted: run ")
    assert "Traceback" not in errors
    assert _members(tmp_path) == []


def test_up_that_is_killed_leaves_nothing_running(tmp_path):
    process = _up(tmp_path)
    until(lambda: _rounds_begun(tmp_path), "the run")
    assert len(_members(tmp_path)) == 5
    process.kill()
    process.communicate(timeout=20)
    until(lambda: not _members(tmp_path), "the end of all members")


def _up(folder):
    words = ["--agents", "2", "--rounds", "1000000", "--model", "mlp_32", "--state", folder / "up"]
    return subprocess.Popen(
        [sys.executable, "-m", "tinyfleet.cli", "up", *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _rounds_begun(folder):
    log = folder / "up" / "logs" / "agent-1.log"
    return log.exists() and "run joined" in log.read_text()


def _members(folder):
    """Services and agents of the fleet in that folder, from the list of all processes."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit():
                words = (entry / "cmdline").read_bytes().split(b"\0")
                ours = str(folder).encode() in b" ".join(words) or _logs_into(entry, folder)
                if ours and (
                    b"edge_agents" in words or any(w.startswith(b"services.") for w in words)
                ):
                    found.append(int(entry.name))
    return found


def _logs_into(entry, folder):
    return str(entry.joinpath("fd", "1").readlink()).startswith(str(folder))


def test_simulate_keeps_what_it_has_when_it_is_stopped(tmp_path):
    words = ["--rounds", "10000000", "--model", "mlp_32", "--out", "out"]
    process = subprocess.Popen(
        [sys.executable, "-m", "tinyfleet.cli", "simulate", *words],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    until((tmp_path / "out").exists, "the folder")
    time.sleep(1.0)  # the only thing it does now is train
    process.terminate()
    output, errors = process.communicate(timeout=30)
    assert (process.returncode, output) == (INTERRUPTED, "")
    assert "add --resume out/checkpoint.tinyfleet to go on" in errors
    assert (tmp_path / "out" / "checkpoint.tinyfleet").exists()
