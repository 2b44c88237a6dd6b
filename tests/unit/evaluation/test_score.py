"""Means and intervals over problems."""

import math
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyfleet.evaluation.score import Result, score

LOSSES = st.lists(st.floats(0.0, 1e6), min_size=2, max_size=50)


@given(LOSSES)
def test_the_interval_is_the_normal_one_over_problems(losses):
    got = score([Result(loss, None) for loss in losses])
    half = 1.959963984540054 * statistics.stdev(losses) / math.sqrt(len(losses))
    assert got.loss == pytest.approx(statistics.fmean(losses))
    assert got.loss_ci95 == pytest.approx((got.loss - half, got.loss + half), abs=1e-6)
    assert got.ci95 == got.loss_ci95


@given(LOSSES, st.randoms())
def test_the_order_of_problems_does_not_show(losses, random):
    results = [Result(loss, loss / 1e6) for loss in losses]
    shuffled = random.sample(results, len(results))
    assert score(results) == score(shuffled)


def test_accuracy_is_the_figure_that_counts_where_there_is_one():
    got = score([Result(1.0, 0.5), Result(3.0, 1.0)])
    assert (got.loss, got.accuracy) == (2.0, 0.75)
    assert got.ci95 == got.accuracy_ci95


def test_a_diverged_problem_is_all_wrong_and_has_no_loss():
    got = score([Result(1.0, 1.0), Result(math.nan, 0.5), Result(math.inf, 0.5)])
    assert (got.loss, got.diverged) == (1.0, 2)
    assert got.accuracy == pytest.approx(1 / 3)


def test_one_problem_has_no_spread():
    assert score([Result(2.0, None)]).loss_ci95 == (2.0, 2.0)
