"""Boards take part like any agent: the same result bit for bit, whatever happens to them.

The boards are emulated: the firmware as a process of this machine, which is fast, and the firmware
for a Cortex-M4F under QEMU.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tinyfleet.cli.local_fleet import BOARDS, LocalFleet
from tinyfleet.client import Fleet
from tinyfleet.learner import make_learner
from tinyfleet.model import parameters_sha256
from tinyfleet.run import make_run
from tinyfleet.simulation import simulate
from tinyfleet.tasks import make_task
from tinyfleet.v1 import coordinator_pb2

FINISHED = coordinator_pb2.RUN_STATUS_FINISHED
ENDED = (FINISHED, coordinator_pb2.RUN_STATUS_STOPPED, coordinator_pb2.RUN_STATUS_FAILED)
HOST, CORTEX_M4 = "emulated://host", "emulated://mps2-an386"
PATIENCE_S = 90.0

needs_host_firmware = pytest.mark.needs_package("gcc", command="gcc")
pytestmark = [
    pytest.mark.needs_package("setpriv (util-linux)", command="setpriv"),
    pytest.mark.skipif(not Path("/proc").is_dir(), reason="processes are found in /proc"),
]
needs_cross = [
    pytest.mark.needs_package("gcc-arm-none-eabi", command="arm-none-eabi-gcc"),
    pytest.mark.needs_package("qemu-system-arm", command="qemu-system-arm"),
]
BOTH_KINDS = [
    pytest.param(HOST, marks=needs_host_firmware, id="host"),
    pytest.param(CORTEX_M4, marks=needs_cross, id="mps2-an386"),
]


@pytest.fixture
def fleet_with(tmp_path):
    """Starts a fleet with so many host agents and these boards; it ends with the test."""
    fleets = []

    def start(boards, agents=0, options=()):
        fleet = LocalFleet(tmp_path / "fleet", agents, options, boards=boards)
        fleets.append(fleet)
        return fleet.__enter__()

    yield start
    for fleet in fleets:
        fleet.stop()


def a_run(strategy, rounds, model="mlp_32", task=None, **options):
    task = task or make_task("sine", {}, None)
    return task, make_run(task, strategy, rounds, 3, model, options)


def until(condition, what):
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.02)
    raise AssertionError(f"{what}: not within {PATIENCE_S:g} s")


def finish(local, fleet, run_id, disturb=lambda state: None):
    """The run's last state; `disturb` is called with each before."""

    def ended():
        local.check()
        state = fleet.get_run(run_id)
        disturb(state)
        return state if state.status in ENDED else None

    return until(ended, f"the end of run {run_id}")


def assert_simulated(state, task, run):
    assert state.status == FINISHED, state.message
    expected = simulate(run, task, make_learner(run.model)).parameters
    assert state.parameters_sha256 == parameters_sha256(expected)


def updates_by_agent(fleet):
    return {agent.name: agent.updates for agent in fleet.list_agents()}


def log_of(local, name=BOARDS):
    return (local.folder / "logs" / f"{name}.log").read_text("utf-8")


def children(pid):
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def firmware_processes(local):
    """The emulated boards of a fleet: the processes that its process with boards has started."""
    (member,) = [one for one in local.members if one.name == BOARDS]
    return children(member.process.pid)


def kill(pid, number=signal.SIGKILL):
    os.kill(pid, number)


@pytest.mark.parametrize("url", BOTH_KINDS)
@pytest.mark.parametrize(
    ("strategy", "rounds"),
    [
        *(("tiny_reptile", 20), ("reptile", 3), ("fed_sgd", 3), ("tiny_meta_fed", 20)),
        *(("per_fed_avg", 3), ("fed_prox", 3)),
    ],
)
def test_run_on_boards_ends_where_the_simulator_ends(fleet_with, url, strategy, rounds):
    small = {"local_layers": 1, "precision": "int8", "down_precision": "int8"}
    options = {"tiny_meta_fed": small, "fed_prox": {"mu": 5.0}}
    task, run = a_run(strategy, rounds, **options.get(strategy, {}))
    local = fleet_with([url] * 2)
    with Fleet(local.coordinator) as fleet:
        local.wait_for_agents(fleet)
        state = finish(local, fleet, fleet.create_run(run).run_id)
        assert_simulated(state, task, run)
        slots = rounds * run.make_strategy().agents_per_round
        assert sum(updates_by_agent(fleet).values()) == slots
        assert set(updates_by_agent(fleet)) == {"board-1", "board-2"}
        encoded_there = 2 if strategy == "tiny_meta_fed" else 0
        assert log_of(local).count("the board encodes its updates") == encoded_there


@pytest.mark.parametrize("url", BOTH_KINDS)
def test_images_are_learned_on_boards_as_in_the_simulator(fleet_with, url, tmp_path):
    data = like_omniglot(tmp_path / "omniglot.npz")
    task, run = a_run("tiny_reptile", 3, "cnn_s", make_task("omniglot", {}, data), samples=12)
    local = fleet_with([url], options=["--data", str(data)])
    with Fleet(local.coordinator) as fleet:
        local.wait_for_agents(fleet)
        state = finish(local, fleet, fleet.create_run(run).run_id)
        assert_simulated(state, task, run)
        assert updates_by_agent(fleet) == {"board-1": 3}


def like_omniglot(path):
    """A file like omniglot.npz, with noise for drawings."""
    split = np.repeat([0, 1], 7).astype(np.uint8)
    images = np.random.default_rng(1).integers(0, 256, (14, 20, 28, 28), dtype=np.uint8)
    names = np.array(["background", "evaluation"])
    np.savez_compressed(path, images=images, split=split, split_names=names)
    return path


@needs_host_firmware
def test_hosts_and_boards_of_all_kinds_work_on_one_run(fleet_with):
    task, run = a_run("fed_avg", 10, agents_per_round=4)
    local = fleet_with([HOST, HOST], agents=2)
    with Fleet(local.coordinator) as fleet:
        local.wait_for_agents(fleet)
        state = finish(local, fleet, fleet.create_run(run).run_id)
        assert_simulated(state, task, run)
        updates = updates_by_agent(fleet)
        assert sum(updates.values()) == 40
        assert all(updates[name] for name in ("agent-1", "agent-2", "board-1", "board-2"))


@pytest.mark.parametrize("url", BOTH_KINDS)
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["power cut", "hang"])
def test_board_that_fails_in_a_round_does_not_change_the_result(fleet_with, url, number):
    cuts = 1 if number == signal.SIGSTOP else 4
    task, run = a_run("tiny_reptile", 30)
    local, at = fleet_with([url] * 2), []
    with Fleet(local.coordinator) as fleet:

        def disturb(state):
            if len(at) < cuts and state.rounds_done >= 6 * (len(at) + 1):
                at.append(state.rounds_done)
                for board in firmware_processes(local):
                    kill(board, number)

        local.wait_for_agents(fleet)
        state = finish(local, fleet, fleet.create_run(run).run_id, disturb)
        assert len(at) == cuts
        assert_simulated(state, task, run)
        assert "all done again" in log_of(local)


MIXED_RUN = ["--model", "mlp_32", "--rounds", "32", "--seed", "3", "--test-tasks", "5"]


@pytest.mark.parametrize("cut", [False, True], ids=["undisturbed", "kill -9 of one QEMU"])
@pytest.mark.parametrize("url", [pytest.param(CORTEX_M4, marks=needs_cross, id="mps2-an386")])
def test_mixed_fleet_as_users_start_it_ends_where_the_simulator_ends(tmp_path, result_of, url, cut):
    expected = result_of("simulate", *MIXED_RUN)["parameters_sha256"]
    log = tmp_path / "fleet" / "logs" / f"{BOARDS}.log"
    command = ["up", "--agents", "2", "--mcus", "2", "--board", url, "--state", log.parents[1]]
    with started(*command, *MIXED_RUN) as up:
        if cut:
            until(lambda: log.is_file() and said(log, "run joined") == 2, "both boards at work")
            kill(next(pid for pid in descendants(up.pid) if "qemu" in command_of(pid)))
        out, err = up.communicate(timeout=PATIENCE_S)
    assert up.returncode == 0, err
    assert re.search(r"^sha256 (\w+)$", out, re.MULTILINE)[1] == expected
    shares = {
        words[0]: int(words[-1])
        for words in map(str.split, out.splitlines())
        if words[1:] and re.fullmatch(r"(agent|board)-\d", words[0])
    }
    assert set(shares) == {"agent-1", "agent-2", "board-1", "board-2"}
    assert all(shares.values())
    assert sum(shares.values()) == 32
    assert not cut or said(log, "all done again")


@contextlib.contextmanager
def started(*arguments):
    """`tinyfleet ARGUMENTS` as a process of its own, ended by leaving if it has not ended yet."""
    command = [sys.executable, "-m", "tinyfleet.cli", *(str(one) for one in arguments)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            yield process
        finally:
            process.terminate()


def said(log, words):
    return log.read_text("utf-8").count(words)


def descendants(pid):
    found = children(pid)
    return found + [one for child in found for one in descendants(child)]


def command_of(pid):
    return Path(f"/proc/{pid}/cmdline").read_text("utf-8")


@needs_host_firmware
def test_agent_that_is_killed_takes_its_boards_along(fleet_with):
    task, run = a_run("tiny_reptile", 100)
    local, before = fleet_with([HOST] * 2), []
    with Fleet(local.coordinator) as fleet:

        def disturb(state):
            if not before and state.rounds_done >= 20:
                (member,) = [one for one in local.members if one.name == BOARDS]
                before.extend(firmware_processes(local))
                member.process.kill()

        local.wait_for_agents(fleet)
        state = finish(local, fleet, fleet.create_run(run).run_id, disturb)
        assert_simulated(state, task, run)
    assert len(before) == 2
    until(lambda: not any(is_alive(pid) for pid in before), "the end of the boards")


def is_alive(pid):
    try:
        status = Path(f"/proc/{pid}/status").read_text("utf-8")
    except OSError:
        return False
    return "State:\tZ" not in status


@needs_host_firmware
def test_run_that_no_board_has_memory_for_says_how_many_bytes_are_missing(fleet_with):
    _, run = a_run("reptile", 2, samples=40_000)  # stored, because there are several passes
    local = fleet_with([HOST])
    with Fleet(local.coordinator) as fleet:
        local.wait_for_agents(fleet)
        run_id = fleet.create_run(run).run_id
        state = until(lambda: message_of(fleet, run_id), "the reason why the run waits")
        assert "bytes are missing" in state.message
        (board,) = fleet.list_agents()
        assert "bytes are missing" in board.message
        assert (board.updates, board.assignment_id) == (0, "")
        fleet.stop_run(run_id)


def message_of(fleet, run_id):
    state = fleet.get_run(run_id)
    return state if "memory" in state.message else None


@needs_host_firmware
def test_missing_board_is_named_once_and_the_others_work(fleet_with, tmp_path):
    task, run = a_run("tiny_reptile", 20)
    missing = f"pty://{tmp_path}/ttyACM0"
    local = fleet_with([], agents=1, options=["--device", missing, "--device", HOST])
    with Fleet(local.coordinator) as fleet:
        local.wait_for_agents(fleet)
        until(lambda: len(fleet.list_agents(attached_only=True)) == 2, "the board that is there")
        state = finish(local, fleet, fleet.create_run(run).run_id)
        assert_simulated(state, task, run)
        assert set(updates_by_agent(fleet)) == {"agent-1", "agent-1.host-2"}
    (line,) = [one for one in log_of(local, "agent-1").splitlines() if missing in one]
    assert "no board, trying again" in line
