"""Robust rules by their definitions, and what one liar does to a mean and to each of them."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyfleet.errors import InvalidInput
from tinyfleet.learner import make_learner, run_plan
from tinyfleet.run import make_run, training_samples
from tinyfleet.strategies import STRATEGIES, Update, make_strategy
from tinyfleet.strategies.base import options_of
from tinyfleet.strategies.combining import MAX_KRUM_AGENTS, RULES, combined
from tinyfleet.tasks import make_task

WITH_RULES = [name for name in STRATEGIES if "combine" in options_of(STRATEGIES[name])]
ROBUST = RULES[1:]
floats = st.floats(-1e3, 1e3, width=32)


def updates_of(rows):
    return [Update(slot, np.array(row, np.float32), 1) for slot, row in enumerate(rows)]


def by(rule, byzantine, rows):
    return combined(rule, byzantine, updates_of(rows), [1.0] * len(rows))


@given(st.lists(st.tuples(floats, floats), min_size=1, max_size=9))
def test_the_median_is_the_middle_of_each_entry(rows):
    expected = np.median(np.array(rows, np.float64), axis=0).astype(np.float32)
    assert by("median", 0, rows).tolist() == expected.tolist()


@given(st.integers(1, 3), st.data())
def test_the_trimmed_mean_leaves_the_ends_out(byzantine, data):
    rows = data.draw(st.lists(st.tuples(floats, floats), min_size=2 * byzantine + 1, max_size=9))
    inner = np.sort(np.array(rows, np.float64), axis=0)[byzantine : len(rows) - byzantine]
    moved = by("trimmed_mean", byzantine, rows)
    assert np.allclose(moved, inner.mean(axis=0), rtol=1e-6, atol=1e-9)


def krum(rows, byzantine):
    """Which one, in exact arithmetic."""
    exact = [[Fraction(value) for value in row] for row in rows]
    scores = []
    for i, one in enumerate(exact):
        others = [other for j, other in enumerate(exact) if j != i]
        squares = [sum((a - b) ** 2 for a, b in zip(one, other, strict=True)) for other in others]
        scores.append(sum(sorted(squares)[: len(rows) - byzantine - 2]))
    return scores.index(min(scores))


whole = st.integers(-1000, 1000).map(float)  # their squares and sums are exact in float64


@given(st.integers(1, 2), st.data())
def test_krum_takes_the_update_nearest_to_its_neighbours(byzantine, data):
    least = 2 * byzantine + 3
    rows = data.draw(st.lists(st.tuples(whole, whole, whole), min_size=least, max_size=10))
    assert by("krum", byzantine, rows).tolist() == list(rows[krum(rows, byzantine)])


@pytest.mark.parametrize("rule", ROBUST)
@given(st.permutations(range(5)))
def test_zeros_of_either_sign_give_the_same_bits_in_any_order(rule, order):
    rows = [[0.0], [-0.0], [-0.0], [0.0], [-0.0]]
    moved = by(rule, 1, [rows[index] for index in order])
    assert abs(moved[0]) == 0.0
    if rule != "krum":  # krum hands an update on as it is
        assert moved.tobytes() == np.zeros(1, np.float32).tobytes()


@pytest.mark.parametrize(("rule", "enough"), [("median", 3), ("trimmed_mean", 3), ("krum", 5)])
def test_a_round_with_too_few_updates_changes_nothing(rule, enough):
    rows = [[1.0, 2.0]] * enough
    assert by(rule, 1, rows).tolist() == [1.0, 2.0]
    assert by(rule, 1, rows[1:]).tolist() == [0.0, 0.0]


@pytest.mark.parametrize("name", WITH_RULES)
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"combine": "mode"}, "unknown combine 'mode'"),
        ({"byzantine": 1}, "a mean withstands no bad update: choose combine among median, trim"),
        ({"combine": "krum"}, "krum needs byzantine, the bad updates to withstand: at least 1"),
        ({"combine": "trimmed_mean"}, "trimmed_mean needs byzantine"),
        (
            {"combine": "krum", "byzantine": 2, "agents_per_round": 6},
            "krum withstands 2 bad updates among 7 at least: raise agents_per_round, which is 6",
        ),
        (
            {"combine": "trimmed_mean", "byzantine": 2, "agents_per_round": 4},
            "trimmed_mean withstands 2 bad updates among 5 at least",
        ),
        ({"combine": "median", "byzantine": 3, "agents_per_round": 6}, "among 7 at least"),
        (
            {"combine": "krum", "byzantine": 1, "agents_per_round": MAX_KRUM_AGENTS + 1},
            "krum takes at most 64 agents_per_round, got 65",
        ),
        ({"byzantine": -1}, "byzantine must be 0 to"),
    ],
)
def test_impossible_combinations_are_refused(name, options, message):
    with pytest.raises(InvalidInput, match=message):
        make_strategy(name, 10, options, ("dense_1", "dense_2"))


@pytest.mark.parametrize("name", WITH_RULES)
@pytest.mark.parametrize(
    ("rule", "agents"), [("median", 1), ("median", 4), ("trimmed_mean", 3), ("krum", 5)]
)
def test_what_is_just_possible_is_taken(name, rule, agents):
    byzantine = 0 if rule == "median" else 1
    options = {"combine": rule, "byzantine": byzantine, "agents_per_round": agents}
    assert make_strategy(name, 10, options, ("dense_1", "dense_2")).combine == rule


SINE = make_task("sine", {})
LIAR = 2


def loss_after(rule, rounds=40):
    """Of Reptile on sine waves, where one of five devices sends garbage in every round."""
    options = {"combine": rule, "byzantine": 0 if rule == "mean" else 1, "agents_per_round": 5}
    run = make_run(SINE, "reptile", rounds, 1, "mlp_32", options | {"samples": 20})
    learner, strategy, model = (
        make_learner(run.model),
        run.make_strategy(),
        run.initial_parameters(),
    )
    random = np.random.default_rng(0)
    for number in range(rounds):
        plan, updates = strategy.plan(number), []
        for slot in range(5):
            trained = model.copy()
            samples = training_samples(SINE, run.seed, number, slot, plan.samples)
            run_plan(learner, trained, samples, plan)
            garbage = random.normal(0, 1e3, model.shape).astype(np.float32)
            updates.append(Update(slot, garbage if slot == LIAR else trained - model, plan.samples))
        model = strategy.apply(model, updates, number)
    return float(np.mean(learner.losses(model, training_samples(SINE, 7, 0, 0, 200))))


def test_one_liar_spoils_a_mean_and_no_robust_rule():
    assert not loss_after("mean") < 1e6
    for rule in ROBUST:
        assert loss_after(rule) < 10.0, rule  # a sine of amplitude 5 at most: 12.5 for zero
