"""Streams are the same numbers for ever, and what is built on them is in range."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyfleet.randomness import Purpose, RandomStream

SEEDS = st.integers(0, 2**63 - 1)

# Drawn once with PCG64 and SeedSequence of NumPy 2, whose raw output NumPy promises to keep.
GOLDEN_UNIFORM = ["0x1.f79d91056887dp-1", "0x1.2d544bc2f4200p-6", "0x1.f2b86fe73cfd6p-1"]
GOLDEN_INTEGERS = [847, 405, 535, 950]
GOLDEN_CHOICE = [3, 5, 2, 4]
GOLDEN_PERMUTATION = [0, 5, 4, 1, 3, 2]


def test_the_numbers_of_a_stream_never_change():
    stream = RandomStream(1, Purpose.TRAINING_TASK, 2, 3)
    assert [value.hex() for value in stream.uniform(3).tolist()] == GOLDEN_UNIFORM
    assert stream.integers(4, 1000).tolist() == GOLDEN_INTEGERS
    assert stream.choice(10, 4).tolist() == GOLDEN_CHOICE
    assert stream.permutation(6).tolist() == GOLDEN_PERMUTATION


@pytest.mark.parametrize(
    "other",
    [
        (2, Purpose.TRAINING_TASK, 0, 0),
        (1, Purpose.EVALUATION_TASK, 0, 0),
        (1, Purpose.TRAINING_TASK, 1, 0),
        (1, Purpose.TRAINING_TASK, 0, 1),
    ],
)
def test_another_key_gives_other_numbers(other):
    ours = RandomStream(1, Purpose.TRAINING_TASK, 0, 0).uniform(8)
    assert not np.array_equal(ours, RandomStream(*other).uniform(8))


@given(SEEDS, st.integers(1, 500))
def test_uniform_values_are_below_one_and_exact_multiples(seed, count):
    values = RandomStream(seed, Purpose.STRATEGY).uniform(count)
    assert values.shape == (count,)
    assert ((values >= 0.0) & (values < 1.0)).all()
    assert (values * 2.0**53 % 1.0 == 0.0).all()


@given(SEEDS, st.integers(1, 10_000))
def test_integers_are_below_their_bound(seed, below):
    values = RandomStream(seed, Purpose.STRATEGY).integers(100, below)
    assert ((values >= 0) & (values < below)).all()


@given(SEEDS, st.integers(1, 200), st.data())
def test_a_choice_has_no_repeats(seed, below, data):
    count = data.draw(st.integers(0, below))
    values = RandomStream(seed, Purpose.STRATEGY).choice(below, count).tolist()
    assert len(set(values)) == len(values) == count
    assert all(0 <= value < below for value in values)


@given(SEEDS, st.integers(1, 200))
def test_a_permutation_has_every_number(seed, below):
    values = RandomStream(seed, Purpose.STRATEGY).permutation(below)
    assert sorted(values.tolist()) == list(range(below))


def test_drawing_in_parts_is_drawing_at_once():
    whole = RandomStream(5, Purpose.STRATEGY).uniform(10)
    parts = RandomStream(5, Purpose.STRATEGY)
    assert np.array_equal(whole, np.concatenate([parts.uniform(4), parts.uniform(6)]))
