"""Grey PNGs: every filter, both depths, and nothing hostile."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from omniglot_files import png

from tinyfleet.errors import InvalidInput
from tinyfleet.tasks.png import decode_grey_png

SHAPES = st.tuples(st.integers(1, 12), st.integers(1, 20))
FILTERS = st.lists(st.integers(0, 4), min_size=1, max_size=4)
GOOD = png(np.arange(60, dtype=np.uint8).reshape(6, 10) * 4, depth=8, filters=(0, 1, 2, 3, 4))


@given(arrays.arrays(np.uint8, SHAPES), FILTERS)
def test_bytes_of_grey_come_back(pixels, filters):
    assert np.array_equal(decode_grey_png(png(pixels, 8, filters)), pixels)


@given(arrays.arrays(np.bool_, SHAPES), FILTERS)
def test_bits_become_black_and_white(bits, filters):
    pixels = bits * np.uint8(255)
    assert np.array_equal(decode_grey_png(png(pixels, 1, filters)), pixels)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not a PNG"),
        (b"\x89PNG\r\n\x1a\n", "cut short"),
        (png(np.zeros((2, 2), np.uint8), colour=3), "greyscale of 1 or 8 bits"),
        (png(np.zeros((2, 2), np.uint8), depth=8, width=2000), "sides of 1 to 1024"),
        (png(np.zeros((2, 2), np.uint8), depth=8, height=0), "sides of 1 to 1024"),
        (png(np.zeros((2, 2), np.uint8), depth=8, height=3), "wrong amount of pixels"),
        (png(np.zeros((2, 2), np.uint8), depth=8, height=1), "wrong amount of pixels"),
    ],
)
def test_other_files_are_refused(data, message):
    with pytest.raises(InvalidInput, match=message):
        decode_grey_png(data)


@settings(max_examples=200)
@given(st.integers(0, len(GOOD) - 1), st.integers(1, 255))
def test_a_changed_byte_is_noticed(at, change):
    damaged = bytearray(GOOD)
    damaged[at] ^= change
    with pytest.raises(InvalidInput):
        decode_grey_png(bytes(damaged))


@given(st.integers(0, len(GOOD) - 1))
def test_a_file_cut_short_is_noticed(length):
    with pytest.raises(InvalidInput):
        decode_grey_png(GOOD[:length])
