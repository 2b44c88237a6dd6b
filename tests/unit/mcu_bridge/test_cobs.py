"""COBS: any bytes there and back, without zeros between."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcu_bridge.link.cobs import cobs_decode, cobs_encode

# From Cheshire and Baker's definition, worked out by hand.
KNOWN = [
    (b"", b"\x01"),
    (b"\0", b"\x01\x01"),
    (b"\0\0", b"\x01\x01\x01"),
    (b"\x11\x22\0\x33", b"\x03\x11\x22\x02\x33"),
    (b"\x11\0\0\0", b"\x02\x11\x01\x01\x01"),
    (b"a" * 253, b"\xfe" + b"a" * 253),
    (b"a" * 254, b"\xff" + b"a" * 254),
    (b"a" * 255, b"\xff" + b"a" * 254 + b"\x02a"),
    (b"a" * 254 + b"\0", b"\xff" + b"a" * 254 + b"\x01\x01"),
    (b"\0" + b"a" * 254, b"\x01\xff" + b"a" * 254),
    (b"a" * 508, b"\xff" + b"a" * 254 + b"\xff" + b"a" * 254),
]

ZEROS_AND_RUNS = st.lists(
    st.one_of(st.just(b"\0"), st.binary(max_size=9), st.integers(250, 260).map(lambda n: b"x" * n)),
    max_size=6,
).map(b"".join)


@pytest.mark.parametrize(("plain", "encoded"), KNOWN)
def test_known_bytes_have_the_known_code(plain, encoded):
    assert cobs_encode(plain) == encoded
    assert cobs_decode(encoded) == plain


@given(ZEROS_AND_RUNS)
def test_any_bytes_survive_the_round_trip_without_zeros(plain):
    encoded = cobs_encode(plain)
    assert 0 not in encoded
    assert len(encoded) <= len(plain) + max(1, -(-len(plain) // 254))
    assert cobs_decode(encoded) == plain


@given(ZEROS_AND_RUNS)
def test_the_code_does_not_depend_on_the_type_of_bytes(plain):
    assert cobs_encode(memoryview(bytearray(plain))) == cobs_encode(plain)


@pytest.mark.parametrize("encoded", [b"", b"\x02", b"\xff" + b"a" * 253, b"\x03ab\x03a", b"\0"])
def test_a_run_beyond_the_end_is_refused(encoded):
    assert cobs_decode(encoded) is None


@given(st.binary(max_size=300))
def test_any_bytes_decode_to_something_shorter_or_are_refused(encoded):
    plain = cobs_decode(encoded)
    assert plain is None or len(plain) < len(encoded)
