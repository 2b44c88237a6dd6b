"""What you simulate is what you deploy: the same parameters, bit for bit."""

from __future__ import annotations

import pytest

SINE = ("--task", "sine", "--model", "mlp_32", "--seed", 1)


@pytest.fixture
def sha_of(result_of):
    return lambda *arguments: result_of(*arguments)["parameters_sha256"]


STRATEGIES = [
    "tiny_reptile",
    "reptile",
    "fed_avg",
    "fed_sgd",
    "tiny_meta_fed",
    "fed_tiny_ol",
    "per_fed_avg",
    "fed_yogi",
]
WHOLE_STARTS = ("--set=changes_only=false",)
SMALL_UPDATES = tuple(
    f"--set={option}"
    for option in ("fraction=0.1", "precision=int8", "agents_per_round=2", "local_layers=1")
)
SMALL_STARTS = (*SMALL_UPDATES, "--set=down_precision=int8")
FED_UPDATES = tuple(
    f"--set={option}" for option in ("fraction=0.1", "precision=int8", "error_feedback=true")
)


@pytest.mark.parametrize(
    ("strategy", "options"),
    [
        *((strategy, ()) for strategy in STRATEGIES if strategy != "tiny_meta_fed"),
        ("tiny_meta_fed", WHOLE_STARTS),
        ("tiny_meta_fed", (*SMALL_STARTS, *WHOLE_STARTS)),
        ("fed_prox", ("--set=mu=5",)),
        ("fed_adam", ("--set=combine=krum", "--set=byzantine=2")),
    ],
)
def test_a_fleet_ends_where_the_simulator_ends(result_of, strategy, options):
    run = (*SINE, "--strategy", strategy, "--rounds", 30, *options)
    fleet, simulated = result_of("up", "--agents", 3, *run), result_of("simulate", *run)
    for what in ("parameters_sha256", "bytes_up", "bytes_down", "samples", "diverged"):
        assert fleet[what] == simulated[what], what


def test_starts_that_agents_keep_save_bytes_and_change_nothing_else(result_of):
    run = (*SINE, "--strategy", "tiny_meta_fed", "--rounds", 30, *SMALL_STARTS)
    fleet, simulated = result_of("up", "--agents", 3, *run), result_of("simulate", *run)
    for what in ("parameters_sha256", "bytes_up", "samples", "diverged"):
        assert fleet[what] == simulated[what], what
    assert fleet["bytes_down"] < simulated["bytes_down"] / 2


def test_one_agent_is_sent_the_bytes_that_one_simulated_device_is_sent(result_of):
    run = (*SINE, "--strategy", "tiny_meta_fed", "--rounds", 30, *SMALL_STARTS)
    fleet = result_of("up", "--agents", 1, *run)
    simulated = result_of("simulate", "--devices", 1, *run)
    for what in ("parameters_sha256", "bytes_up", "bytes_down", "samples"):
        assert fleet[what] == simulated[what], what


def test_an_agent_that_sends_later_what_it_left_out_ends_where_the_simulator_ends(sha_of):
    """One agent for one slot: who serves decides on the result, with error feedback."""
    run = (*SINE, "--strategy", "tiny_meta_fed", "--rounds", 30, *FED_UPDATES)
    plain = (*SINE, "--strategy", "tiny_meta_fed", "--rounds", 30, *FED_UPDATES[:-1])
    assert sha_of("up", "--agents", 1, *run) == sha_of("simulate", *run)
    assert sha_of("simulate", *run) != sha_of("simulate", *plain)


@pytest.mark.parametrize("agents", [1, 8])
def test_the_number_of_agents_does_not_matter(sha_of, agents):
    run = (*SINE, "--strategy", "tiny_reptile", "--rounds", 50)
    assert sha_of("up", "--agents", agents, *run) == sha_of("simulate", *run)


@pytest.mark.parametrize("agents", [1, 3])
def test_with_one_slot_out_at_a_time_overlapping_rounds_are_the_simulators(sha_of, agents):
    alone = ("--set", "buffer=1", "--set", "concurrency=1")
    run = (*SINE, "--strategy", "fed_buff", "--rounds", 40, *alone)
    assert sha_of("up", "--agents", agents, *run) == sha_of("simulate", *run)


def test_the_engines_agree_and_a_second_run_does_too(sha_of):
    run = ("simulate", *SINE, "--strategy", "tiny_reptile", "--rounds", 40)
    native = sha_of(*run, "--engine", "native")
    assert sha_of(*run, "--engine", "native") == native
    assert sha_of(*run, "--engine", "reference") == native


def test_another_seed_is_another_result(sha_of):
    run = ("simulate", "--task", "sine", "--model", "mlp_32", "--rounds", 5)
    assert sha_of(*run, "--seed", 1) != sha_of(*run, "--seed", 2)


def test_a_fleet_over_tls_ends_where_the_simulator_ends(result_of):
    run = (*SINE, "--strategy", "tiny_meta_fed", "--rounds", 30, *SMALL_UPDATES)
    fleet, simulated = result_of("up", "--tls", "--agents", 3, *run), result_of("simulate", *run)
    for what in ("parameters_sha256", "bytes_up", "samples", "diverged"):
        assert fleet[what] == simulated[what], what
