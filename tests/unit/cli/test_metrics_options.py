"""What `tinyfleet metrics` makes of its flags, and how it shows numbers."""

import pytest

from tinyfleet.cli.metrics import _parsed_aggregation, _parsed_keys, _parsed_rounds, quantity
from tinyfleet.errors import InvalidInput
from tinyfleet.v1 import metrics_pb2


@pytest.mark.parametrize(
    ("text", "rounds"),
    [
        (None, (None, None)),
        ("3:7", (3, 7)),
        ("3:", (3, None)),
        (":7", (None, 7)),
        ("0", (0, 0)),
        ("4294967295:", (2**32 - 1, None)),
    ],
)
def test_a_range_of_rounds(text, rounds) -> None:
    assert _parsed_rounds(text) == rounds


@pytest.mark.parametrize("text", ["", ":", "a", "1:b", "-1", "1:2:3", "4294967296", "1.5"])
def test_a_malformed_range_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="--rounds is A:B"):
        _parsed_rounds(text)


@pytest.mark.parametrize(
    ("text", "percentile"), [("p0", 0), ("p95", 95), ("p99.9", 99.9), ("p100", 100)]
)
def test_percentiles_by_name(text: str, percentile: float) -> None:
    assert _parsed_aggregation(text, []) == {
        "aggregation": metrics_pb2.AGGREGATION_PERCENTILE,
        "percentile": percentile,
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("meen", "did you mean 'mean'"),
        ("p", "unknown aggregation"),
        ("pnan", "unknown aggregation"),
        ("pinf", "p0 to p100"),
        ("p101", "p0 to p100"),
        ("95", "unknown aggregation"),
    ],
)
def test_an_unknown_aggregation_is_refused(text: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        _parsed_aggregation(text, [])


def test_groups_need_an_aggregation() -> None:
    with pytest.raises(InvalidInput, match="needs --aggregate"):
        _parsed_aggregation(None, ["round"])


def test_keys_are_sorted_as_the_answer_is() -> None:
    assert _parsed_keys("round, source") == ["source", "round"]
    assert _parsed_keys("") == []
    with pytest.raises(InvalidInput, match="did you mean 'source'"):
        _parsed_keys("sorce")


@pytest.mark.parametrize(
    ("value", "unit", "shown"),
    [
        (0.0, "seconds", "0 us"),
        (0.0000123, "seconds", "12.3 us"),
        (0.0123, "seconds", "12.3 ms"),
        (0.9999, "seconds", "1,000 ms"),
        (1.5, "seconds", "1.5 s"),
        (12345.0, "seconds", "12,345 s"),
        (-0.0123, "seconds", "-12.3 ms"),
        (4612.0, "bytes", "4.6 kB"),
        (0.12345, "", "0.1235"),
        (-3.0, "bytes", "-3"),
    ],
)
def test_quantities_have_the_prefix_that_suits(value: float, unit: str, shown: str) -> None:
    assert quantity(value, unit) == shown
