"""The dense encoding loses nothing and lets nothing bad in."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from tinyfleet.codec.dense import decode_dense, encode_dense
from tinyfleet.errors import InvalidInput

DELTAS = arrays.arrays(
    np.float32,
    st.integers(1, 64),
    elements=st.floats(allow_nan=False, allow_infinity=False, width=32),
)


@given(DELTAS)
def test_a_round_trip_keeps_every_bit(delta):
    back = decode_dense(encode_dense(delta), len(delta))
    assert back.dtype == np.float32
    assert back.tobytes() == delta.tobytes()


def test_bytes_are_little_endian_float32():
    assert encode_dense(np.array([1.0, -2.0], np.float32)).hex() == "0000803f000000c0"


@given(DELTAS, st.binary(min_size=1, max_size=9))
def test_other_lengths_are_refused(delta, extra):
    data = encode_dense(delta)
    for wrong in (data[:-1], data + extra, b""):
        with pytest.raises(InvalidInput, match=f"has {4 * len(delta)} bytes"):
            decode_dense(wrong, len(delta))


@given(DELTAS, st.sampled_from([np.nan, np.inf, -np.inf]), st.data())
def test_a_number_that_is_not_finite_is_refused(delta, bad, data):
    delta[data.draw(st.integers(0, len(delta) - 1))] = bad
    with pytest.raises(InvalidInput, match="finite"):
        decode_dense(encode_dense(delta), len(delta))


@pytest.mark.parametrize("count", [0, -1, 10**9])
def test_counts_out_of_range_are_refused(count):
    with pytest.raises(InvalidInput, match="1 to 16000000 entries"):
        decode_dense(b"", count)


@pytest.mark.parametrize("wrong", [np.zeros(3), np.zeros((3, 1), np.float32)])
def test_only_float32_vectors_are_encoded(wrong):
    with pytest.raises(InvalidInput, match="float32 vector"):
        encode_dense(wrong)


def test_what_was_decoded_cannot_be_changed():
    data = bytearray(encode_dense(np.ones(3, np.float32)))
    with pytest.raises(ValueError, match="read-only"):
        decode_dense(data, 3)[0] = 2.0
