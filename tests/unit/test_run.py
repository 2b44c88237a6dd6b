"""A run is complete, and what a slot learns from depends on the run alone."""

import numpy as np
import pytest

from tinyfleet.errors import InvalidInput
from tinyfleet.model.layers import Dense
from tinyfleet.model.spec import ModelSpec
from tinyfleet.run import RunSpec, make_run, training_samples
from tinyfleet.strategies.base import options_of
from tinyfleet.strategies.fed_sgd import FedSGD
from tinyfleet.tasks import make_task

SINE = make_task("sine", {})


def test_a_run_takes_the_task_s_model_and_options_where_none_are_given():
    run = make_run(SINE, "tiny_reptile", 10, 1)
    assert run.model.name == SINE.default_model
    assert dict(run.strategy_options) == SINE.recommended["tiny_reptile"]


def test_every_option_of_a_run_is_explicit():
    run = make_run(SINE, "reptile", 10, 1)
    names = {"agents_per_round", "samples", "batch_size", "passes", "inner_rate", "outer_rate"}
    assert set(run.strategy_options) == names | {"combine", "byzantine"}


def test_the_user_s_options_win():
    run = make_run(SINE, "tiny_reptile", 10, 1, strategy_options={"samples": 3})
    assert run.make_strategy().plan(0).samples == 3


def test_a_model_that_does_not_fit_the_task_is_refused():
    model = ModelSpec("two", (1, 1, 2), (Dense(1),), "mean_squared_error")
    with pytest.raises(InvalidInput, match="task 'sine' needs"):
        make_run(SINE, "tiny_reptile", 10, 1, model)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rounds": 0}, "rounds must be 1"),
        ({"rounds": 10**9}, "rounds must be 1"),
        ({"seed": -1}, "seed must be 0"),
        ({"seed": 2**63}, "seed must be 0"),
        ({"strategy": "nothing"}, "unknown strategy"),
        ({"strategy_options": {"samples": -1}}, "samples must be"),
    ],
)
def test_bad_runs_are_refused(change, message):
    good = {
        "model": make_run(SINE, "tiny_reptile", 10, 1).model,
        "task": "sine",
        "strategy": "tiny_reptile",
        "rounds": 10,
        "seed": 1,
    }
    with pytest.raises(InvalidInput, match=message):
        RunSpec(**(good | change))


def test_an_unknown_strategy_is_refused_before_anything_else():
    with pytest.raises(InvalidInput, match="did you mean 'reptile'"):
        make_run(SINE, "reptil", 10, 1)


def test_samples_depend_on_seed_round_and_slot_only():
    first = training_samples(SINE, 1, 2, 3, 16)
    again = training_samples(make_task("sine", {}), 1, 2, 3, 16)
    assert np.array_equal(first.inputs, again.inputs)
    assert np.array_equal(first.targets, again.targets)
    for other in [(2, 2, 3), (1, 3, 3), (1, 2, 4)]:
        assert not np.array_equal(first.inputs, training_samples(SINE, *other, 16).inputs)


def test_the_initial_model_depends_on_the_seed():
    one, two = (make_run(SINE, "tiny_reptile", 10, seed).initial_parameters() for seed in (1, 2))
    assert not np.array_equal(one, two)


def test_what_a_task_recommends_for_one_strategy_is_not_taken_for_another():
    options = make_run(SINE, "fed_sgd", 10, 1).strategy_options
    assert options == {name: entry.default for name, entry in options_of(FedSGD).items()}
