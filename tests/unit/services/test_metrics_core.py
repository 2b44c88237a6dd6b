"""The definitions: what may be stored, and what a percentile is."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.metrics.core import (
    AHEAD_NS,
    EARLIEST_NS,
    MAX_BATCH,
    Aggregation,
    Batch,
    Filter,
    Question,
    Sample,
    check_batch,
    percentile,
)
from tinyfleet.errors import InvalidInput

NOW = 1_700_000_000_000_000_000
GOOD = Sample("r1", 0, "agent-1", "loss", 1.0, "", NOW)


def check(*samples: Sample, request_id: str = "a") -> None:
    check_batch(Batch(request_id, samples), NOW)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"value": float("nan")}, "loss must be a number"),
        ({"value": float("-inf")}, "loss must be a number"),
        ({"value": 1.1e300}, "loss must be a number"),
        ({"name": ""}, "metric's name"),
        ({"name": "Loss"}, "metric's name"),
        ({"name": "loss rate"}, "metric's name"),
        ({"name": "l" * 65}, "metric's name"),
        ({"unit": "u" * 17}, "unit"),
        ({"unit": "\n"}, "unit"),
        ({"run_id": "r" * 257}, "run_id"),
        ({"source": ""}, "source is not set"),
        ({"source": "a\tb"}, "source"),
        ({"time_ns": 0}, "set the clock of 'agent-1'"),
        ({"time_ns": EARLIEST_NS - 1}, "set the clock"),
        ({"time_ns": NOW + AHEAD_NS + 1}, "set the clock"),
        ({"time_ns": 2**90}, "set the clock"),
    ],
)
def test_an_invalid_sample_is_named_with_the_reason(changes: dict, message: str) -> None:
    with pytest.raises(InvalidInput, match=rf"samples\[1\]: .*{message}"):
        check(GOOD, GOOD._replace(**changes))


def test_samples_at_the_limits_are_valid() -> None:
    check(GOOD._replace(time_ns=EARLIEST_NS), GOOD._replace(time_ns=NOW + AHEAD_NS))
    check(GOOD._replace(run_id="", round=None, name="l" * 64, unit="u" * 16, value=1e300))
    check(*[GOOD] * MAX_BATCH, request_id="r" * 64)


@pytest.mark.parametrize("request_id", ["", "r" * 65, "ü" * 33])
def test_a_request_id_has_1_to_64_bytes(request_id: str) -> None:
    with pytest.raises(InvalidInput, match="request_id"):
        check(GOOD, request_id=request_id)


def test_too_many_samples_are_refused() -> None:
    with pytest.raises(InvalidInput, match="at most 10000 samples, got 10001"):
        check(*[GOOD] * (MAX_BATCH + 1))


@given(st.lists(st.floats(-1e300, 1e300), min_size=1, max_size=50), st.floats(0, 100))
def test_percentiles_are_numpys_linear_ones(values: list[float], percent: float) -> None:
    ordered = sorted(values)
    found = percentile(ordered, percent)
    assert ordered[0] <= found <= ordered[-1] or found == pytest.approx(ordered[-1])
    scale = max(abs(ordered[0]), abs(ordered[-1]))
    assert found == pytest.approx(float(np.percentile(ordered, percent)), abs=1e-9 * scale)


def test_percentiles_of_the_largest_values_do_not_overflow() -> None:
    assert percentile([-1e300, 1e300], 50) == 0.0


@pytest.mark.parametrize("percent", [-0.1, 100.1, float("nan"), float("inf")])
def test_a_percentile_outside_0_to_100_is_refused(percent: float) -> None:
    with pytest.raises(InvalidInput, match="percentile is 0 to 100"):
        Question(Filter(), Aggregation.PERCENTILE, percentile=percent)


@pytest.mark.parametrize("rounds", [(1, 0), (2**32 - 1, 5)])
def test_an_empty_range_of_rounds_is_refused(rounds: tuple[int, int]) -> None:
    with pytest.raises(InvalidInput, match="is after last_round"):
        Filter(first_round=rounds[0], last_round=rounds[1])
