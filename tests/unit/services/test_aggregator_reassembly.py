"""Chunks become the update that was sent, or one clear refusal, in bounded memory."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.aggregator.reassembly import (
    MAX_CHUNK_BYTES,
    MAX_UPDATE_BYTES,
    Budget,
    PartialUpdate,
)
from tinyfleet.errors import InvalidInput


def partial(total, reason="", budget=None):
    return PartialUpdate("header", total, reason, budget or Budget())


@given(data=st.binary(min_size=1, max_size=300), cuts=st.lists(st.integers(1, 299), max_size=20))
def test_chunks_become_what_was_cut(data, cuts):
    edges = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    update = partial(len(data))
    whole = [update.add(data[a:b]) for a, b in itertools.pairwise(edges)]
    assert whole == [False] * (len(whole) - 1) + [True]
    assert bytes(update.data) == data


def test_one_chunk_is_not_copied():
    data, update = b"x" * 100, partial(100)
    assert update.add(data)
    assert update.data is data


def test_an_empty_update_is_whole_with_its_header():
    assert partial(0).add(b"")


@pytest.mark.parametrize(
    ("total", "chunks", "reason"),
    [
        (10, [b"x" * 11], "1 bytes more"),
        (10, [b"x" * 9, b"xx"], "1 bytes more"),
        (0, [b"x"], "1 bytes more"),
        (10, [b"x", b""], "empty chunk"),
        (10, [b""], "empty chunk"),
        (MAX_UPDATE_BYTES, [b"x" * (MAX_CHUNK_BYTES + 1)], "a chunk has at most"),
    ],
)
@pytest.mark.parametrize("refused", ["", "refused"])
def test_a_sender_that_breaks_the_rules_is_stopped(total, chunks, reason, refused):
    update = partial(total, refused)
    with pytest.raises(InvalidInput, match=reason):
        [update.add(chunk) for chunk in chunks]


@pytest.mark.parametrize("total", [MAX_UPDATE_BYTES + 1, 2**64 - 1])
def test_a_size_no_model_has_is_refused_before_anything_is_kept(total):
    with pytest.raises(InvalidInput, match="at most"):
        partial(total)


def test_what_is_refused_is_counted_but_not_kept():
    update = partial(200_000, "refused")
    assert not update.add(b"x" * 100_000)
    assert update.add(b"x" * 100_000)
    assert len(update.data) == 0


def test_declaring_a_size_takes_no_memory():
    budget = Budget(100)
    partial(10**6, budget=budget)
    assert budget.take(100)


def test_beyond_the_budget_an_update_is_to_be_sent_again():
    budget = Budget(150)
    first, second = partial(200, budget=budget), partial(200, budget=budget)
    first.add(b"x" * 100)
    second.add(b"x" * 100)
    assert (first.out_of_room, second.out_of_room) == (False, True)
    assert second.add(b"x" * 100)  # counted on, so that the stream stays in step
    assert len(second.data) == 0


def test_memory_is_given_back():
    budget = Budget(100)
    for _ in range(5):
        update = partial(200, budget=budget)
        update.add(b"x" * 90)
        update.release()
        update.release()
    assert budget.take(100)
    assert not budget.take(1)
