"""The emulated sensor's signal; that boards give the same bits is an integration test."""

import numpy as np
import pytest

from mcu_bridge.signal_generator import SignalGenerator


def test_draws_are_xorshift32() -> None:
    """By hand, from state 1: 1 ^ 2^13; the shift by 17 adds nothing; ^ itself << 5."""
    generator = SignalGenerator(1)
    assert generator.draw() == 0x2001 ^ 0x40020
    assert generator.draw() == 67634689  # as Marsaglia's generator goes on from there


def test_seed_zero_counts_as_one() -> None:
    assert SignalGenerator(0).draw() == SignalGenerator(1).draw()


def test_a_class_shows_in_its_inputs_alone() -> None:
    samples = SignalGenerator(5).samples(500, 7, 3)
    assert samples.inputs.dtype == samples.targets.dtype == np.float32
    for x, t in zip(samples.inputs, samples.targets, strict=True):
        shifted = np.arange(7) % 3 == t.argmax()
        assert sorted(t) == [0, 0, 1]
        assert (x[shifted] >= -0.5).all()
        assert (x[shifted] < 1.5).all()
        assert (x[~shifted] >= -1).all()
        assert (x[~shifted] < 1).all()
    assert set(samples.targets.argmax(axis=1)) == {0, 1, 2}


@pytest.mark.parametrize("inputs", [1, 4])
def test_one_output_is_a_function_of_the_inputs(inputs: int) -> None:
    samples = SignalGenerator(9).samples(50, inputs, 1)
    first, last = samples.inputs[:, :1], samples.inputs[:, -1:]
    assert np.array_equal(samples.targets, first * first - np.float32(0.5) * last)
    assert samples.targets.std() > 0.1


def test_samples_go_on_where_the_last_ones_ended() -> None:
    generator, whole = SignalGenerator(3), SignalGenerator(3).samples(6, 2, 2)
    parts = [generator.samples(3, 2, 2) for _ in range(2)]
    assert np.array_equal(np.concatenate([part.inputs for part in parts]), whole.inputs)
