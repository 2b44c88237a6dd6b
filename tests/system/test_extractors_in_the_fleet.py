"""A head that a fleet learns behind an extractor is the simulator's, whatever happens."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1]))
from tflite_files import INT8, dense_file

from tinyfleet.cli.local_fleet import LocalFleet
from tinyfleet.client import Fleet
from tinyfleet.errors import Unreachable
from tinyfleet.learner import make_learner
from tinyfleet.litert.extractor import FeatureTask, extractor_of
from tinyfleet.litert.file import TfliteFile
from tinyfleet.litert.graph import Graph
from tinyfleet.model import parameters_sha256
from tinyfleet.run import make_run
from tinyfleet.simulation import simulate
from tinyfleet.tasks import make_task
from tinyfleet.v1 import coordinator_pb2

FINISHED = coordinator_pb2.RUN_STATUS_FINISHED
FAILED = coordinator_pb2.RUN_STATUS_FAILED
ENDED = (FINISHED, coordinator_pb2.RUN_STATUS_STOPPED, FAILED)
PATIENCE_S = 90.0
HOST = "emulated://host"
SINE = make_task("sine", {})
CONTENT = dense_file(inputs=1, outputs=16)

needs_host_firmware = pytest.mark.needs_package("gcc", command="gcc")
LOCAL = {"local_layers": 1, "precision": "int8", "fraction": 0.5}


@pytest.fixture
def fleet_with(tmp_path):
    """Starts a fleet with so many agents and these boards; it ends with the test."""
    fleets = []

    def start(agents, boards=()):
        fleet = LocalFleet(tmp_path / "fleet", agents, boards=list(boards))
        fleets.append(fleet)
        return fleet.__enter__()

    yield start
    for fleet in fleets:
        fleet.stop()


def a_run(strategy, rounds, content=CONTENT, **options):
    file = TfliteFile(content)
    extractor = extractor_of(file, Graph(file), SINE.input_shape)
    return make_run(SINE, strategy, rounds, 3, "mlp_32", options, extractor)


def finish(local, fleet, run_id, disturb=lambda state: None):
    """The run's last state; `disturb` is called with each before."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        local.check()
        try:
            state = fleet.get_run(run_id)
        except Unreachable:
            continue
        disturb(state)
        if state.status in ENDED:
            return state
        time.sleep(0.02)
    raise AssertionError(f"run {run_id} did not end within {PATIENCE_S:g} s")


def assert_simulated(state, run, content=CONTENT):
    assert state.status == FINISHED, state.message
    task = FeatureTask(SINE, Graph(TfliteFile(content)))
    expected = simulate(run, task, make_learner(run.model)).parameters
    assert state.parameters_sha256 == parameters_sha256(expected)


@needs_host_firmware
@pytest.mark.parametrize("kind", ["float32", "int8"])
@pytest.mark.parametrize(("strategy", "options"), [("tiny_reptile", {}), ("tiny_meta_fed", LOCAL)])
def test_agents_and_boards_learn_the_head_that_the_simulator_learns(
    fleet_with, strategy, options, kind
):
    content = CONTENT if kind == "float32" else dense_file(inputs=1, outputs=16, kind=INT8)
    run = a_run(strategy, 60, content, **options)
    local = fleet_with(2, [HOST])
    with Fleet(local.coordinator) as fleet:
        local.wait_for_agents(fleet)
        assert not fleet.put_file(content)
        state = finish(local, fleet, fleet.create_run(run).run_id)
        assert_simulated(state, run, content)
        updates = {agent.name: agent.updates for agent in fleet.list_agents()}
    assert sum(updates.values()) == 60
    assert all(updates[name] for name in ("agent-1", "agent-2", "board-1"))
    kept = local.folder / "models" / "agent-1" / run.extractor.sha256
    assert kept.read_bytes() == content


def test_the_file_outlives_the_aggregator_that_was_killed(fleet_with):
    run, killed = a_run("tiny_reptile", 1500), []
    local = fleet_with(2)
    with Fleet(local.coordinator) as fleet:
        local.wait_for_agents(fleet)
        fleet.put_file(CONTENT)
        assert fleet.put_file(CONTENT)  # it is there already

        def disturb(state):
            if len(killed) < 3 and state.rounds_done >= 300 * (len(killed) + 1):
                killed.append(state.rounds_done)
                for member in local.members:
                    if member.name in ("aggregator", "agent-1"):
                        member.process.kill()
                (local.folder / "models" / "agent-1" / run.extractor.sha256).unlink()

        state = finish(local, fleet, fleet.create_run(run).run_id, disturb)
        assert len(killed) == 3
        assert_simulated(state, run)


def test_a_run_whose_file_nobody_put_fails_and_says_what_to_do(fleet_with):
    run = a_run("tiny_reptile", 5)
    local = fleet_with(0)
    with Fleet(local.coordinator) as fleet:
        state = finish(local, fleet, fleet.create_run(run).run_id)
    assert state.status == FAILED
    assert "needs the file" in state.message
    assert "tinyfleet run start" in state.message


def test_an_agent_without_a_runtime_leaves_the_run_to_one_that_has_one(fleet_with, tmp_path):
    run = a_run("tiny_reptile", 40)
    local = fleet_with(0)
    with Fleet(local.coordinator) as fleet, agent(local, "bare", without_litert(tmp_path)):
        fleet.put_file(CONTENT)
        run_id = fleet.create_run(run).run_id
        until(lambda: "pip install" in fleet.get_run(run_id).message, "the reason why it waits")
        with agent(local, "able", os.environ):
            assert_simulated(finish(local, fleet, run_id), run)
            updates = {one.name: one.updates for one in fleet.list_agents(attached_only=True)}
    assert updates == {"bare": 0, "able": 40}


def without_litert(folder):
    """An environment in which no LiteRT can be imported."""
    for name in ("ai_edge_litert", "tflite_runtime"):
        (folder / f"{name}.py").write_text("raise ImportError('not here')")
    return os.environ | {"PYTHONPATH": str(folder)}


@contextlib.contextmanager
def agent(local, name, environment):
    """An agent of the fleet with an environment of its own."""
    command = [sys.executable, "-m", "edge_agents", "--coordinator", local.coordinator]
    where = ["--name", name, "--models", str(local.folder / "models" / name)]
    with subprocess.Popen(
        [*command, *where], env=dict(environment), stderr=subprocess.DEVNULL
    ) as one:
        try:
            yield one
        finally:
            one.terminate()


def until(condition, what):
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {PATIENCE_S:g} s"
        time.sleep(0.02)


def test_up_ends_where_simulate_ends(result_of, tmp_path):
    body = tmp_path / "body.tflite"
    body.write_bytes(CONTENT)
    words = ["--extractor", body, "--rounds", "60", "--seed", "3", "--test-tasks", "20"]
    simulated = result_of("simulate", *words)
    learned = result_of("up", "--agents", 2, *words)
    assert learned["parameters_sha256"] == simulated["parameters_sha256"]
    assert learned["after"] == simulated["after"]
