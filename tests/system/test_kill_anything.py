"""An operator kills any process at any time and loses nothing.

The proof is the final model: training is deterministic, so an update that was lost, applied twice
or applied to the wrong version would end in other parameters than the simulator's.
"""

from __future__ import annotations

import itertools
import sqlite3
import time

import numpy as np
import pytest

from tinyfleet.client import Fleet
from tinyfleet.errors import Unreachable
from tinyfleet.learner import make_learner
from tinyfleet.model import parameters_sha256
from tinyfleet.run import make_run
from tinyfleet.simulation import simulate
from tinyfleet.strategies import Update
from tinyfleet.tasks import make_task
from tinyfleet.v1 import coordinator_pb2

ROUNDS = 3000
FINISHED = coordinator_pb2.RUN_STATUS_FINISHED
ENDED = (FINISHED, coordinator_pb2.RUN_STATUS_STOPPED, coordinator_pb2.RUN_STATUS_FAILED)


def a_run(rounds, strategy, **options):
    task = make_task("sine", {}, None)
    return task, make_run(task, strategy, rounds, 3, "mlp_32", options)


def state_of(fleet, run_id):
    """The run's state, asked for again while the coordinator is being restarted."""
    for _ in range(600):
        try:
            return fleet.get_run(run_id)
        except Unreachable:
            time.sleep(0.05)
    raise AssertionError("the coordinator did not come back")


def kill_in_turn(local, fleet, run_id, victims, every_rounds):
    """Kill one victim after the other, `every_rounds` rounds apart, until the run ends."""
    order = itertools.cycle(victims)
    next_at, kills = every_rounds, 0
    while (state := state_of(fleet, run_id)).status not in ENDED:
        if state.rounds_done >= next_at:
            victim = next(order)
            next(member for member in local.members if member.name == victim).process.kill()
            kills, next_at = kills + 1, state.rounds_done + every_rounds
        local.check()
        time.sleep(0.02)
    return state, kills


@pytest.mark.parametrize(
    "victims",
    [
        ("aggregator",),
        ("coordinator",),
        ("agent-1", "agent-2", "agent-3"),
        ("metrics", "agent-2", "aggregator", "coordinator"),
    ],
    ids=["aggregator", "coordinator", "agents", "all"],
)
def test_a_run_survives_kill_9(fleet_of, victims):
    task, run = a_run(ROUNDS, "tiny_reptile")
    local = fleet_of(3)
    with Fleet(local.coordinator) as fleet:
        local.wait_for_agents(fleet)
        run_id = fleet.create_run(run).run_id
        state, kills = kill_in_turn(local, fleet, run_id, victims, every_rounds=400)
        assert kills >= len(victims)
        assert state.status == FINISHED, state.message
        expected = simulate(run, task, make_learner(run.model)).parameters
        assert state.parameters_sha256 == parameters_sha256(expected)
        assert (
            parameters_sha256(fleet.fetch_checkpoint(run_id).parameters) == state.parameters_sha256
        )


@pytest.mark.parametrize(
    ("strategy", "rounds"), [("reptile", 400), ("tiny_meta_fed", 600), ("fed_yogi", 400)]
)
def test_a_round_of_several_agents_survives_kill_9(fleet_of, strategy, rounds):
    small = {"precision": "int8", "down_precision": "int8", "fraction": 0.1, "local_layers": 1}
    options = small if strategy == "tiny_meta_fed" else {}
    task, run = a_run(rounds, strategy, agents_per_round=4, **options)
    local = fleet_of(3)
    with Fleet(local.coordinator) as fleet:
        local.wait_for_agents(fleet)
        run_id = fleet.create_run(run).run_id
        victims = ("agent-1", "aggregator", "agent-3", "coordinator")
        state, kills = kill_in_turn(local, fleet, run_id, victims, every_rounds=60)
        assert kills >= len(victims)
        assert state.status == FINISHED, state.message
        expected = simulate(run, task, make_learner(run.model))
        assert state.parameters_sha256 == parameters_sha256(expected.parameters)
        assert (state.bytes_up, state.samples) == (expected.bytes_up, expected.samples)
        if strategy == "tiny_meta_fed":  # agents keep their starts, but from process to process
            assert 0 < state.bytes_down < expected.bytes_down / 2
        else:
            assert state.bytes_down == expected.bytes_down


def witness_updates(folder):
    """Have the journal's database keep each update it is given, also when a snapshot has it."""
    with sqlite3.connect(folder / "state/aggregator/aggregator.sqlite", timeout=10) as database:
        database.execute("CREATE TABLE witnessed AS SELECT * FROM updates WHERE 0")
        database.execute(
            "CREATE TRIGGER witness AFTER INSERT ON updates BEGIN"
            " INSERT INTO witnessed SELECT * FROM updates WHERE id = new.id; END"
        )


def witnessed(folder):
    """(round, slot, version, base version, samples, delta or None) of all updates, as stored."""
    query = (
        "SELECT round, slot, version, base_version, samples, delta FROM witnessed ORDER BY rowid"
    )
    with sqlite3.connect(folder / "state/aggregator/aggregator.sqlite", timeout=10) as database:
        return database.execute(query).fetchall()


def replayed(run, rows):
    """The parameters that the strategy's rule makes of the updates, in the order of the journal."""
    strategy, model = run.make_strategy(), run.initial_parameters()
    for version in range(run.rounds):
        updates = []
        for _, slot, applied_to, base, samples, data in rows[version * 4 : version * 4 + 4]:
            assert applied_to == version
            delta = np.zeros_like(model) if data is None else np.frombuffer(data, "<f4")
            updates.append(Update(slot, delta, samples, version - base))
        model = strategy.apply(model, updates, version)
    return model


def test_a_run_whose_rounds_overlap_survives_kill_9(fleet_of):
    _, run = a_run(600, "fed_buff", buffer=4, concurrency=6, max_staleness=2)
    local = fleet_of(3)
    witness_updates(local.folder)
    with Fleet(local.coordinator) as fleet:
        local.wait_for_agents(fleet)
        run_id = fleet.create_run(run).run_id
        victims = ("agent-1", "aggregator", "agent-3", "coordinator")
        state, kills = kill_in_turn(local, fleet, run_id, victims, every_rounds=60)
        assert kills >= len(victims)
        assert state.status == FINISHED, state.message
        rows = witnessed(local.folder)
        assert sorted(row[:2] for row in rows) == list(itertools.product(range(600), range(4)))
        assert {version - base for _, _, version, base, *_ in rows} in ({0, 1}, {0, 1, 2})
        assert state.parameters_sha256 == parameters_sha256(replayed(run, rows))
