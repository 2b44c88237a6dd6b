"""When training counts as diverged: the one rule for devices, simulator and aggregator."""

from __future__ import annotations

import numpy as np
import pytest

from tinyfleet.strategies.base import MAX_DELTA_NORM, delta_norm, delta_of

START = np.array([1.0, -2.0, 3.0], np.float32)


def test_a_delta_is_what_training_changed():
    trained = START + np.float32(0.5)
    assert delta_of(trained, START, finite=True).tolist() == [0.5, 0.5, 0.5]
    assert START.tolist() == [1.0, -2.0, 3.0]


@pytest.mark.parametrize(
    ("step", "finite"),
    [(0.5, False), (2 * MAX_DELTA_NORM, True), (1e30, True), (np.inf, True), (np.nan, True)],
)
def test_training_that_left_all_bounds_diverged(step, finite):
    with np.errstate(invalid="ignore"):
        assert delta_of(START + np.float32(step), START, finite) is None


def test_the_largest_delta_is_kept():
    trained = np.array([MAX_DELTA_NORM, 0, 0], np.float32)
    delta = delta_of(trained, np.zeros(3, np.float32), finite=True)
    assert delta_norm(delta) == pytest.approx(MAX_DELTA_NORM)
