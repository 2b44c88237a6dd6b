"""A file is taken in whole and as it was announced, or not at all."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyfleet.errors import InvalidInput
from tinyfleet.run_files import (
    MAX_FILE_BYTES,
    PART_BYTES,
    Arriving,
    RunFile,
    file_of,
    parts_of_file,
)

CONTENT = bytes(range(256)) * 2049  # two parts and a little


def test_a_file_that_is_cut_and_put_together_is_the_file():
    arriving = Arriving(file_of(CONTENT))
    parts = list(parts_of_file(CONTENT))
    assert [len(part) for part in parts] == [PART_BYTES, PART_BYTES, 256]
    assert [arriving.add(part) for part in parts] == [False, False, True]
    assert arriving.content() == CONTENT


@given(st.binary(min_size=1, max_size=40), st.lists(st.integers(1, 9), min_size=1))
def test_the_parts_may_have_any_sizes(content, sizes):
    arriving, at = Arriving(file_of(content)), 0
    while at < len(content):
        size = sizes[at % len(sizes)]
        arriving.add(content[at : at + size])
        at += size
    assert arriving.content() == content


@pytest.mark.parametrize(
    ("part", "words"),
    [
        (b"", "a part of a file has 1 to"),
        (bytes(PART_BYTES + 1), "a part of a file has 1 to"),
        (bytes(5), "more than the 4 bytes"),
    ],
)
def test_a_part_that_cannot_be_is_refused(part, words):
    with pytest.raises(InvalidInput, match=words):
        Arriving(file_of(b"abcd")).add(part)


def test_what_is_cut_short_or_damaged_is_of_no_use():
    arriving = Arriving(file_of(b"abcd"))
    arriving.add(b"abc")
    with pytest.raises(InvalidInput, match="cut short: 3 of 4"):
        arriving.content()
    arriving.add(b"e")
    with pytest.raises(InvalidInput, match="damaged"):
        arriving.content()


@pytest.mark.parametrize("size", [0, -1, MAX_FILE_BYTES + 1])
def test_a_file_has_its_bounds(size):
    with pytest.raises(InvalidInput, match="a file has 1 to"):
        RunFile("a" * 64, size)


@pytest.mark.parametrize("sha256", ["", "a" * 63, "A" * 64, "a" * 64 + "\n", "g" * 64])
def test_a_hash_is_written_in_one_way(sha256):
    with pytest.raises(InvalidInput, match="lower-case hex"):
        RunFile(sha256, 1)
