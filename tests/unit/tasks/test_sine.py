"""The sine task draws the same waves, to the bit, on every machine."""

import hashlib
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyfleet.errors import InvalidInput
from tinyfleet.randomness import Purpose, RandomStream
from tinyfleet.tasks import make_task
from tinyfleet.tasks.sine import portable_sine

TASK = make_task("sine", {})
GOLDEN = "fe9520fef65f6852bceecc92652e26b36e554d2a8304e878580a76bf387f796e"


def stream(seed=1, index=0):
    return RandomStream(seed, Purpose.EVALUATION_TASK, index)


@given(st.floats(-1000.0, 1000.0))
def test_the_sine_is_within_its_stated_error(angle):
    # 1e-13 is ours; half a unit in the last place of the reference is below 1.2e-16.
    assert abs(float(portable_sine(np.array([angle]))[0]) - math.sin(angle)) < 1e-13


def test_the_sine_is_odd_and_zero_at_zero():
    angles = np.linspace(0.0, 12.0, 1001)
    assert np.array_equal(portable_sine(-angles), -portable_sine(angles))
    assert portable_sine(np.zeros(1))[0] == 0.0


def test_samples_never_change():
    samples = TASK.training_samples(RandomStream(1, Purpose.TRAINING_TASK, 2, 3), 128)
    data = samples.inputs.astype("<f4").tobytes() + samples.targets.astype("<f4").tobytes()
    assert hashlib.sha256(data).hexdigest() == GOLDEN


def test_shapes_and_types():
    samples = TASK.training_samples(stream(), 7)
    assert samples.inputs.shape == samples.targets.shape == (7, 1)
    assert samples.inputs.dtype == samples.targets.dtype == np.float32


@given(st.integers(0, 2**63 - 1))
def test_values_are_in_range_and_lie_on_one_wave(seed):
    samples = TASK.training_samples(stream(seed), 64)
    x, y = samples.inputs[:, 0].astype(np.float64), samples.targets[:, 0].astype(np.float64)
    assert np.abs(x).max() <= 5.0
    assert np.abs(y).max() <= 5.0
    # a sin(x + phase) = c sin x + d cos x: two unknowns explain every point
    basis = np.stack([np.sin(x), np.cos(x)], axis=1)
    solution, *_ = np.linalg.lstsq(basis, y, rcond=None)
    assert np.abs(basis @ solution - y).max() < 1e-6
    assert 0.1 - 1e-6 <= np.hypot(*solution) <= 5.0 + 1e-6


def test_support_and_query_are_of_the_same_wave_and_the_support_does_not_depend_on_the_query():
    small, large = (TASK.evaluation_problem(stream(), 10, queries) for queries in (5, 50))
    assert (len(small.support), len(small.query)) == (10, 5)
    assert np.array_equal(small.support.inputs, large.support.inputs)
    assert np.array_equal(small.support.targets, large.support.targets)


@pytest.mark.parametrize(("shots", "queries"), [(0, 5), (5, 0), (10**6, 5), (5, -1)])
def test_shots_and_queries_out_of_range_are_refused(shots, queries):
    with pytest.raises(InvalidInput, match="must be 1 to 100000"):
        TASK.evaluation_problem(stream(), shots, queries)


def test_it_has_no_options():
    with pytest.raises(InvalidInput, match="'sine' has no options, got 'ways'"):
        make_task("sine", {"ways": 5})
