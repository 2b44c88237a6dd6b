"""The loss of any number of rounds, in bounded memory, without losing the mean."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyfleet.reports.history import MAX_POINTS, LossHistory


def history(losses):
    kept = LossHistory()
    for index, loss in enumerate(losses):
        kept.add(index, loss)
    return kept.points()


def test_few_rounds_are_kept_one_by_one():
    assert history([4.0, 2.0, 1.0]) == [(0.5, 4.0), (1.5, 2.0), (2.5, 1.0)]


def test_many_rounds_become_means_of_equal_stretches():
    points = history([float(index) for index in range(4 * MAX_POINTS)])
    assert len(points) == MAX_POINTS
    assert points[0] == (2.0, 1.5)
    assert points[-1] == (4 * MAX_POINTS - 2.0, 4 * MAX_POINTS - 2.5)


@given(st.integers(1, 3000))
def test_there_are_never_too_many_points_and_they_are_in_order(rounds):
    points = history([1.0] * rounds)
    assert MAX_POINTS / 2 <= len(points) <= MAX_POINTS or len(points) == rounds
    assert [at for at, _ in points] == sorted({at for at, _ in points})
    assert {loss for _, loss in points} == {1.0}


def test_rounds_without_a_loss_leave_a_gap():
    assert history([1.0, math.nan, 3.0]) == [(0.5, 1.0), (2.5, 3.0)]


def test_a_history_may_begin_anywhere():
    kept = LossHistory()
    kept.add(10 * MAX_POINTS, 2.0)
    ((at, loss),) = kept.points()
    assert at == pytest.approx(10 * MAX_POINTS, rel=0.01)
    assert loss == 2.0
