"""Each strategy's plan and rule, by hand-computed numbers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyfleet.errors import InvalidInput
from tinyfleet.strategies import STRATEGIES, Phase, TrainingPlan, Update, make_strategy
from tinyfleet.strategies.base import annealed, default_of, mean_delta, options_of
from tinyfleet.strategies.server import initial_state, next_state

LAYERS = ("conv2d_1", "dense_1", "dense_2")


def vector(*values):
    return np.array(values, np.float32)


def updates(*deltas, samples=None):
    counts = samples or [1] * len(deltas)
    return [Update(i, vector(*d), n) for i, (d, n) in enumerate(zip(deltas, counts, strict=True))]


def test_tiny_reptile_learns_online_from_one_device():
    strategy = make_strategy("tiny_reptile", 100, {"samples": 7, "inner_rate": 0.25})
    assert strategy.agents_per_round == 1
    assert strategy.plan(0) == TrainingPlan((Phase(samples=7, rate=0.25),))
    assert strategy.plan(0).online


def test_tiny_reptile_steps_towards_the_device_less_and_less():
    strategy = make_strategy("tiny_reptile", 4, {"outer_rate": 0.5})
    model = vector(1.0, 2.0)
    assert strategy.apply(model, updates((8.0, -8.0)), 0).tolist() == [5.0, -2.0]
    assert strategy.apply(model, updates((8.0, -8.0)), 3).tolist() == [2.0, 1.0]
    assert model.tolist() == [1.0, 2.0]


def test_reptile_stores_batches_and_steps_towards_the_mean():
    options = {"samples": 20, "batch_size": 5, "passes": 3, "outer_rate": 1.0}
    strategy = make_strategy("reptile", 2, options)
    assert strategy.plan(1) == TrainingPlan((Phase(20, 0.01, batch_size=5, passes=3),))
    moved = strategy.apply(vector(0.0, 0.0), updates((2.0, 0.0), (4.0, 8.0), samples=[1, 9]), 0)
    assert moved.tolist() == [3.0, 4.0]
    halfway = strategy.apply(vector(0.0, 0.0), updates((2.0, 0.0), (4.0, 8.0)), 1)
    assert halfway.tolist() == [1.5, 2.0]


@pytest.mark.parametrize("name", ["fed_avg", "fed_sgd"])
def test_averages_weigh_by_samples(name):
    strategy = make_strategy(name, 2, {})
    moved = strategy.apply(vector(1.0), updates((4.0,), (0.0,), samples=[3, 1]), 1)
    assert moved.tolist() == [4.0]


def test_fed_sgd_is_one_step_of_the_whole_batch():
    (phase,) = make_strategy("fed_sgd", 2, {"samples": 30}).plan(0).phases
    assert (phase.samples, phase.batch_size, phase.passes, phase.updates) == (30, 30, 1, 1)


@pytest.mark.parametrize("name", ["reptile", "fed_avg"])
def test_a_batch_is_never_larger_than_the_samples(name):
    strategy = make_strategy(name, 2, {"samples": 3, "batch_size": 10})
    assert strategy.plan(0).phases[0].batch_size == 3


@pytest.mark.parametrize("name", STRATEGIES)
def test_apply_makes_a_new_float32_model(name):
    strategy = make_strategy(name, 10, {}, LAYERS)
    model = vector(1.0, 2.0, 3.0)
    given_updates = [
        Update(slot, vector(0.1, 0.2, 0.3), 5) for slot in range(strategy.agents_per_round)
    ]
    new = next_state(strategy, initial_state(strategy, model), given_updates, 0).parameters
    assert new.dtype == np.float32
    assert not np.shares_memory(new, model)
    assert model.tolist() == [1.0, 2.0, 3.0]


@pytest.mark.parametrize("name", STRATEGIES)
def test_what_travels_is_the_same_in_every_round(name):
    strategy = make_strategy(name, 10, {}, LAYERS)
    assert len({(strategy.plan(i).local, strategy.plan(i).upload) for i in range(10)}) == 1


@pytest.mark.parametrize("name", STRATEGIES)
def test_defaults_are_inside_their_own_range(name):
    defaults = {o: default_of(entry) for o, entry in options_of(STRATEGIES[name]).items()}
    assert make_strategy(name, 5, defaults, LAYERS) == make_strategy(name, 5, {}, LAYERS)
    assert all(entry.metadata["help"] for entry in options_of(STRATEGIES[name]).values())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"inner_rat": 1}, "unknown option of tiny_reptile 'inner_rat': did you mean 'inner_rate'"),
        ({"rounds": 3}, "unknown option of tiny_reptile 'rounds'"),
        ({"samples": 0}, "samples must be 1 to"),
        ({"samples": 2.5}, "samples must be a whole number"),
        ({"samples": "7"}, "samples must be a whole number"),
        ({"samples": True}, "samples must be a whole number"),
        ({"inner_rate": float("nan")}, "inner_rate must be a number"),
        ({"inner_rate": float("inf")}, "inner_rate must be a number"),
        ({"inner_rate": 10**400}, "inner_rate must be 1e-09 to 10, got 1000"),
        ({"samples": 10**400}, "samples must be 1 to 1e"),
        ({"samples": -(10**400)}, "samples must be 1 to 1e"),
        ({"inner_rate": 11}, "inner_rate must be 1e-09 to 10"),
        ({"inner_rate": None}, "inner_rate must be a number"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(InvalidInput, match=message):
        make_strategy("tiny_reptile", 10, options)


def test_an_unknown_strategy_is_refused_with_the_nearest_name():
    with pytest.raises(InvalidInput, match="did you mean 'tiny_reptile'"):
        make_strategy("tinyreptile", 10, {})


def test_whole_numbers_written_with_a_point_are_whole_numbers():
    strategy = make_strategy("tiny_reptile", 10, {"samples": 7.0, "inner_rate": 1})
    assert (strategy.samples, strategy.inner_rate) == (7, 1.0)
    assert isinstance(strategy.samples, int)
    assert isinstance(strategy.inner_rate, float)


@pytest.mark.parametrize("rounds", [0, -1, 10**9, 2.5])
def test_rounds_out_of_range_are_refused(rounds):
    with pytest.raises(InvalidInput, match="rounds must be"):
        make_strategy("tiny_reptile", rounds, {})


@given(st.integers(1, 10**6), st.data())
def test_annealing_falls_from_the_whole_rate_to_above_zero(rounds, data):
    rate = annealed(0.5, data.draw(st.integers(0, rounds - 1)), rounds)
    assert annealed(0.5, 0, rounds) == np.float32(0.5)
    assert 0.0 < rate <= 0.5
    assert rate.dtype == np.float32


def test_a_mean_of_nothing_is_refused():
    with pytest.raises(InvalidInput, match="at least one update"):
        mean_delta([], [])
    with pytest.raises(InvalidInput, match="positive weight"):
        mean_delta(updates((1.0,)), [0.0])


@given(
    st.lists(
        st.tuples(st.floats(-1e6, 1e6, width=32), st.integers(1, 1000)), min_size=1, max_size=8
    )
)
def test_a_mean_lies_between_its_deltas(entries):
    given_updates = [Update(i, vector(delta), n) for i, (delta, n) in enumerate(entries)]
    (mean,) = mean_delta(given_updates, [float(n) for _, n in entries]).tolist()
    deltas = [delta for delta, _ in entries]
    slack = 1e-6 * max(1.0, *map(abs, deltas))
    assert min(deltas) - slack <= mean <= max(deltas) + slack
