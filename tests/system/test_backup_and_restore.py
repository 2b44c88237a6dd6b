"""A site is backed up in the middle of a run, lost, and restored: it goes on as if nothing was.

The proof is the final model: an update that was lost, applied twice or to the wrong version would
end in other parameters than the simulator's.
"""

from __future__ import annotations

import shutil
import sqlite3
import time

import pytest

from tinyfleet.client import Fleet
from tinyfleet.errors import Unreachable
from tinyfleet.learner import make_learner
from tinyfleet.model import parameters_sha256
from tinyfleet.run import make_run
from tinyfleet.simulation import simulate
from tinyfleet.tasks import make_task
from tinyfleet.v1 import coordinator_pb2

FINISHED = coordinator_pb2.RUN_STATUS_FINISHED
ENDED = (FINISHED, coordinator_pb2.RUN_STATUS_STOPPED, coordinator_pb2.RUN_STATUS_FAILED)
SERVICES = ("coordinator", "aggregator", "metrics")


def state_of(fleet, run_id):
    """The run's state, asked for again while the coordinator is away."""
    for _ in range(600):
        try:
            return fleet.get_run(run_id)
        except Unreachable:
            time.sleep(0.05)
    raise AssertionError("the coordinator did not come back")


def until(local, fleet, run_id, rounds):
    """The run's state once so many rounds are done, or it has ended."""
    while (state := state_of(fleet, run_id)).rounds_done < rounds and state.status not in ENDED:
        local.check()
        time.sleep(0.02)
    return state


def lose_state(local, replace_with):
    """Let every service die and come back on another state, in the agents' presence."""
    members = [member for member in local.members if member.name in SERVICES]
    commands = {member.name: member.command for member in members}
    for member in members:  # whoever starts one before we are done starts nothing that works
        member.command = ["sleep", "1000"]
        member.process.kill()
    for member in members:
        while member.process.poll() is not None or member.process.args[-1] != "1000":
            time.sleep(0.02)
    replace_with()
    for member in members:
        member.command = commands[member.name]
        member.process.kill()


@pytest.mark.parametrize("strategy", ["tiny_reptile", "tiny_meta_fed"])
def test_a_site_that_is_lost_goes_on_from_its_backup(fleet_of, tinyfleet, tmp_path, strategy):
    options = {} if strategy == "tiny_reptile" else {"agents_per_round": 3, "local_layers": 1}
    task = make_task("sine", {}, None)
    run = make_run(task, strategy, 2000, 3, "mlp_32", options)
    local, backup = fleet_of(3), tmp_path / "site.tfbackup"
    state = local.folder / "state"

    def restore():
        shutil.rmtree(state)
        done = tinyfleet("restore", backup, state)
        assert done.returncode == 0, done.stderr

    with Fleet(local.coordinator) as fleet:
        local.wait_for_agents(fleet)
        run_id = fleet.create_run(run).run_id
        before = until(local, fleet, run_id, 300).rounds_done
        done = tinyfleet("backup", state, "-o", backup)
        assert done.returncode == 0, done.stderr
        lost = until(local, fleet, run_id, before + 500).rounds_done
        lose_state(local, restore)
        again = until(local, fleet, run_id, 1).rounds_done
        assert before <= again
        assert before < lost < 2000  # it was in the middle all the time
        end = until(local, fleet, run_id, 2001)
        assert end.status == FINISHED, end.message
        expected = simulate(run, task, make_learner(run.model))
        assert end.parameters_sha256 == parameters_sha256(expected.parameters)
        assert (end.bytes_up, end.samples) == (expected.bytes_up, expected.samples)
        assert parameters_sha256(fleet.fetch_checkpoint(run_id).parameters) == end.parameters_sha256


def test_backups_one_after_the_other_disturb_no_run_and_agree_with_themselves(
    fleet_of, tinyfleet, tmp_path
):
    """Runs are made and end while backups are being made; in each, both services know the same."""
    task = make_task("sine", {}, None)
    local = fleet_of(2)
    with Fleet(local.coordinator) as fleet:
        local.wait_for_agents(fleet)
        for number in range(6):
            short = make_run(task, "tiny_reptile", 60, number, "mlp_32", {})
            run_id = fleet.create_run(short).run_id
            done = tinyfleet("backup", local.folder / "state", "-o", tmp_path / f"{number}.tfb")
            assert done.returncode == 0, done.stderr
            done = tinyfleet("restore", tmp_path / f"{number}.tfb", tmp_path / str(number))
            assert done.returncode == 0, done.stderr
            runs = read(tmp_path / str(number), "coordinator", "SELECT run_id, settled FROM runs")
            kept = read(tmp_path / str(number), "aggregator", "SELECT run_id, ended FROM runs")
            assert run_id in runs
            assert kept.keys() <= runs.keys()
            assert all(kept[run] for run, settled in runs.items() if settled)
            assert until(local, fleet, run_id, 61).status == FINISHED


def read(state, name, query):
    with sqlite3.connect(state / name / f"{name}.sqlite") as database:
        return dict(database.execute(query).fetchall())
