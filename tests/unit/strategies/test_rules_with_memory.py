"""The rules that remember, against the papers' updates written in plain float64."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyfleet.errors import InvalidInput
from tinyfleet.strategies import STRATEGIES, Update, make_strategy
from tinyfleet.strategies.base import MAX_MEMORY_VECTORS
from tinyfleet.strategies.server import ServerState, initial_state, next_state, state_at

ROUNDS = 30
START = np.linspace(-1, 1, 6, dtype=np.float32)
REMEMBERING = ["fed_avg_m", "fed_adam", "fed_yogi"]


def rounds_of_updates(seed, scale=0.1, slots=3):
    random = np.random.default_rng(seed)
    deltas = (random.normal(0, scale, (ROUNDS, slots, len(START)))).astype(np.float32)
    deltas[:, :, 0] = 0.0  # a parameter that never moves
    return [[Update(slot, delta, slot + 1) for slot, delta in enumerate(row)] for row in deltas]


def mean_of(updates):
    samples = [update.samples for update in updates]
    return np.average([update.delta.astype(float) for update in updates], axis=0, weights=samples)


def run(strategy, rounds):
    state = initial_state(strategy, START)
    for number, updates in enumerate(rounds):
        state = next_state(strategy, state, updates, number)
    return state


def fed_avg_m(rounds, beta, rate):
    w, v = START.astype(float), 0.0
    for updates in rounds:
        v = beta * v + mean_of(updates)
        w = w + rate * v
    return w


def adaptive(rounds, second, rate, tau, beta1):
    w, m, v = START.astype(float), 0.0, tau**2
    for updates in rounds:
        d = mean_of(updates)
        m = beta1 * m + (1 - beta1) * d
        v = second(v, d**2)
        w = w + rate * m / (v**0.5 + tau)
    return w


@given(st.integers(0, 99), st.floats(0, 0.99), st.floats(0.01, 2))
def test_fed_avg_m_is_the_papers_update(seed, momentum, rate):
    strategy = make_strategy("fed_avg_m", ROUNDS, {"momentum": momentum, "outer_rate": rate})
    rounds = rounds_of_updates(seed)
    expected = fed_avg_m(rounds, momentum, rate)
    assert np.allclose(run(strategy, rounds).parameters, expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "second"),
    [
        ("fed_adam", lambda v, s: 0.97 * v + 0.03 * s),
        ("fed_yogi", lambda v, s: v - 0.03 * s * np.sign(v - s)),
    ],
)
@given(seed=st.integers(0, 99), tau=st.sampled_from([1e-1, 1e-2, 1e-3]))
def test_adaptive_steps_are_the_papers_update(name, second, seed, tau):
    options = {"momentum": 0.8, "decay": 0.97, "tau": tau, "outer_rate": 0.05}
    rounds = rounds_of_updates(seed)
    moved = run(make_strategy(name, ROUNDS, options), rounds).parameters
    assert np.allclose(moved, adaptive(rounds, second, 0.05, tau, 0.8), rtol=1e-4, atol=1e-4)


def test_without_momentum_it_is_fed_avg():
    rounds = rounds_of_updates(1)
    plain, off = make_strategy("fed_avg", ROUNDS, {}), {"momentum": 0.0, "outer_rate": 1.0}
    moved = run(make_strategy("fed_avg_m", ROUNDS, off), rounds).parameters
    assert moved.tobytes() == run(plain, rounds).parameters.tobytes()


@pytest.mark.parametrize("name", ["fed_adam", "fed_yogi"])
def test_a_parameter_that_never_moves_stays_for_ever(name):
    strategy = make_strategy(name, 10_000, {"decay": 0.9, "agents_per_round": 1})
    state, still = initial_state(strategy, START), [Update(0, np.zeros_like(START), 1)]
    for number in range(500):  # long enough for the mean of squares to vanish
        state = next_state(strategy, state, still, number)
    assert state.parameters.tobytes() == START.tobytes()
    moved = next_state(strategy, state, [Update(0, np.ones_like(START), 1)], 500)
    assert np.isfinite(moved.parameters).all()


@pytest.mark.parametrize("name", REMEMBERING)
def test_the_schedule_takes_the_step_down(name):
    strategy = make_strategy(name, 2, {"schedule": "linear"})
    first, second = rounds_of_updates(2)[:2]
    after = next_state(strategy, initial_state(strategy, START), first, 0)
    whole = next_state(strategy, after, second, 0).parameters - after.parameters
    half = next_state(strategy, after, second, 1).parameters - after.parameters
    assert np.allclose(half, whole / 2, atol=1e-6)


@pytest.mark.parametrize("name", STRATEGIES)
def test_memory_is_as_long_as_the_strategy_says_and_changes_in_no_ones_hands(name):
    strategy = make_strategy(name, 10, {}, ("dense_1", "dense_2"))
    vectors = getattr(strategy, "memory_vectors", 0)
    state = initial_state(strategy, START)
    before = [vector.tobytes() for vector in state.memory]
    updates = [Update(i, START, 1) for i in range(strategy.agents_per_round)]
    after = next_state(strategy, state, updates, 0)
    assert len(state.memory) == len(after.memory) == vectors <= MAX_MEMORY_VECTORS
    assert [vector.tobytes() for vector in state.memory] == before
    for vector in (after.parameters, *after.memory):
        assert (vector.dtype, vector.shape) == (np.float32, START.shape)


def test_only_version_0_comes_without_memory():
    strategy = make_strategy("fed_adam", 10, {})
    memory = state_at(strategy, START, 0, ()).memory
    assert [vector.tolist() for vector in memory] == [[0.0] * 6] * 2
    with pytest.raises(InvalidInput, match=r"fed_adam goes on with 2 .*, not with 0"):
        state_at(strategy, START, 1, ())


@pytest.mark.parametrize(
    "memory", [(START,), (START,) * 3, (START[1:], START), (START.astype(float), START)]
)
def test_memory_of_another_shape_is_refused(memory):
    with pytest.raises(InvalidInput, match="goes on with 2 memory vectors"):
        state_at(make_strategy("fed_adam", 10, {}), START, 3, memory)


def test_a_rule_without_memory_takes_none():
    strategy = make_strategy("fed_avg", 10, {})
    assert isinstance(state_at(strategy, START, 3, ()), ServerState)
    with pytest.raises(InvalidInput, match="goes on with 0 memory vectors"):
        state_at(strategy, START, 3, (START,))
