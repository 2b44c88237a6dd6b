"""A network made in TensorFlow learns in a fleet as in the simulator, bit for bit."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1]))
from trainable_files import SINE, edited, rename

from tinyfleet.client import Fleet
from tinyfleet.errors import InvalidInput
from tinyfleet.learner import make_learner

ROUNDS = ("--rounds", 40, "--seed", 3, "--test-tasks", 20)
TOP_P = tuple(
    f"--set={option}"
    for option in ("fraction=0.1", "precision=int8", "local_layers=2", "changes_only=false")
)
SAME = ("parameters_sha256", "bytes_up", "bytes_down", "samples", "diverged", "after")


@pytest.fixture
def sine(tmp_path):
    path = tmp_path / "sine.tflite"
    path.write_bytes(SINE.content)
    return path


@pytest.fixture
def fit(tmp_path):
    """The same network with other names."""
    path = tmp_path / "fit.tflite"
    path.write_bytes(edited(lambda model: rename(model, "train", "fit")).content)
    return ("--trainable", path, "--signature", "train=fit")


@pytest.mark.needs_package("gcc", command="gcc")
def test_names_travel_with_the_run_and_a_board_leaves_it_to_the_agents(result_of, fit):
    fleet = result_of("up", "--agents", 2, "--mcus", 1, "--board=emulated://host", *fit, *ROUNDS)
    simulated = result_of("simulate", *fit, *ROUNDS)
    for what in SAME:
        assert fleet[what] == simulated[what], what


def test_top_p_and_local_tensors_end_where_the_simulator_ends(result_of, sine):
    run = ("--trainable", sine, "--strategy", "tiny_meta_fed", *ROUNDS, *TOP_P)
    fleet, simulated = result_of("up", "--agents", 3, *run), result_of("simulate", *run)
    for what in SAME:
        assert fleet[what] == simulated[what], what


def test_a_run_is_started_watched_and_pulled(fleet_of, tinyfleet, result_of, sine, tmp_path):
    local = fleet_of(2)
    at = ("--coordinator", local.coordinator)
    state = result_of("run", "start", "--trainable", sine, *ROUNDS[:4], "--watch", *at)
    simulated = result_of("simulate", "--trainable", sine, *ROUNDS)
    assert state["parameters_sha256"] == simulated["parameters_sha256"]
    with Fleet(local.coordinator) as fleet:
        checkpoint = fleet.fetch_checkpoint(state["run_id"])
        assert checkpoint.run.trainable.sha256 == SINE.sha256
        with pytest.raises(InvalidInput):
            make_learner(checkpoint.run.model)
