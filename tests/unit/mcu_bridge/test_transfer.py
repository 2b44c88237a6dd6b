"""The two ends of a transfer: what is sent again, and what is not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcu_bridge.link.frame import BLOCK, FrameReader
from mcu_bridge.link.transfer import (
    AGAIN,
    ENDED,
    WINDOW,
    Ack,
    Incoming,
    Outgoing,
    Wariness,
    ack_from_bytes,
)

CONTENT = bytes(i * 7 % 251 for i in range(10 * BLOCK + 100))


def offsets(frames):
    found = FrameReader().take(b"".join(frames))
    return [int.from_bytes(frame.payload[:4], "little") // BLOCK for frame in found]


@pytest.fixture
def outgoing():
    return Outgoing(9, CONTENT, 0, 3 * BLOCK)


def test_blocks_are_sent_up_to_the_limit(outgoing):
    assert offsets(outgoing.blocks()) == [0, 1, 2]
    assert offsets(outgoing.blocks()) == []
    outgoing.take(Ack(BLOCK, 4 * BLOCK, 0))
    assert offsets(outgoing.blocks()) == [3]


def test_again_goes_back_to_what_is_missing(outgoing):
    outgoing.blocks()
    outgoing.take(Ack(BLOCK, 4 * BLOCK, AGAIN))
    assert offsets(outgoing.blocks()) == [1, 2, 3]
    assert outgoing.repeated == 2


def test_an_old_ack_changes_nothing(outgoing):
    outgoing.blocks()
    outgoing.take(Ack(2 * BLOCK, 5 * BLOCK, 0))
    outgoing.blocks()
    before = outgoing.progress
    outgoing.take(Ack(BLOCK, 4 * BLOCK, AGAIN))
    assert (outgoing.progress, offsets(outgoing.blocks())) == (before, [])


@pytest.mark.parametrize("next", [1, 4 * BLOCK, 2**32 - 1, len(CONTENT)])
def test_an_ack_of_what_was_not_sent_changes_nothing(outgoing, next):
    outgoing.blocks()
    outgoing.take(Ack(next, 2**32 - 1, AGAIN | ENDED))
    assert (outgoing.taken, outgoing.ended, offsets(outgoing.blocks())) == (0, False, [])


def test_a_poll_of_a_board_that_has_it_all_repeats_nothing(outgoing):
    """The ACKs were late, not lost; blocks sent since the POLL are on their way."""
    outgoing.blocks()
    outgoing.polled()
    outgoing.take(Ack(2 * BLOCK, 5 * BLOCK, 0))
    outgoing.blocks()
    outgoing.take(Ack(3 * BLOCK, 6 * BLOCK, AGAIN))
    assert offsets(outgoing.blocks()) == [5]
    assert outgoing.repeated == 0


def test_a_poll_of_a_board_that_lacks_a_block_repeats_it(outgoing):
    outgoing.blocks()
    outgoing.polled()
    outgoing.take(Ack(2 * BLOCK, 5 * BLOCK, AGAIN))
    assert offsets(outgoing.blocks()) == [2, 3, 4]


def test_a_gap_after_a_poll_is_told_once_more(outgoing):
    outgoing.blocks()
    outgoing.polled()
    outgoing.take(Ack(3 * BLOCK, 6 * BLOCK, AGAIN))
    outgoing.blocks()
    outgoing.take(Ack(3 * BLOCK, 6 * BLOCK, AGAIN))
    assert offsets(outgoing.blocks()) == [3, 4, 5]


def test_a_huge_limit_does_not_build_a_huge_write():
    outgoing = Outgoing(9, bytes(1_000_000), 0, 2**32 - 1)
    assert len(outgoing.blocks()) == 16
    assert outgoing.ready


def test_a_bad_line_is_one_with_two_losses_close_to_each_other():
    wary = Wariness()
    wary.lost()
    assert not wary
    wary.came(7)
    wary.lost()
    assert wary
    wary.came(7)
    assert wary
    wary.came(1)
    assert not wary


def test_wariness_ends_whatever_happens():
    wary = Wariness()
    wary.lost()
    for _ in range(32):
        wary.lost()
        assert wary
        wary.came(1)
    assert not wary


@pytest.fixture
def wary(outgoing):
    """An end that has lost block 0 twice, and goes on one by one."""
    for _ in range(2):
        outgoing.blocks()
        outgoing.take(Ack(0, 3 * BLOCK, AGAIN))
    return outgoing


def test_over_a_bad_line_a_block_waits_for_the_answer_to_the_poll_behind_the_one_before(wary):
    assert wary.wary
    assert offsets(wary.blocks()) == [0]
    wary.polled()
    wary.take(Ack(BLOCK, 4 * BLOCK, 0))
    assert not wary.ready
    wary.take(Ack(BLOCK, 4 * BLOCK, AGAIN))
    assert offsets(wary.blocks()) == [1]


def test_over_a_bad_line_a_lost_block_alone_is_repeated(wary):
    for _ in range(3):
        assert offsets(wary.blocks()) == [0]
        wary.polled()
        wary.take(Ack(0, 3 * BLOCK, AGAIN))


def test_after_a_hang_only_the_answer_to_the_last_poll_counts(outgoing):
    """All POLLs are answered when a board goes on; what was sent since is not sent twice."""
    outgoing.blocks()
    for _ in range(3):
        assert outgoing.silence()
        outgoing.polled()
    outgoing.take(Ack(2 * BLOCK, 5 * BLOCK, 0))
    outgoing.blocks()
    for _ in range(3):
        outgoing.take(Ack(3 * BLOCK, 6 * BLOCK, AGAIN))
    assert offsets(outgoing.blocks()) == [5]
    assert (outgoing.repeated, bool(outgoing.wary)) == (0, False)


def test_an_old_answer_counts_when_the_last_one_is_lost(outgoing):
    outgoing.blocks()
    for _ in range(2):
        assert outgoing.silence()
        outgoing.polled()
    outgoing.take(Ack(BLOCK, 4 * BLOCK, AGAIN))
    assert offsets(outgoing.blocks()) == [3]
    assert not outgoing.silence()
    assert offsets(outgoing.blocks()) == [1, 2, 3]


def test_a_repeat_in_vain_is_not_followed_by_another(wary):
    """One answer more than there were POLLs, as after a wrong guess, costs one repeat, not many."""
    wary.blocks()
    wary.polled()
    wary.take(Ack(0, 3 * BLOCK, AGAIN))  # one too many: block 0 is on its way
    assert offsets(wary.blocks()) == [0]
    wary.polled()
    wary.take(Ack(BLOCK, 4 * BLOCK, 0))
    wary.take(Ack(BLOCK, 4 * BLOCK, AGAIN))
    assert offsets(wary.blocks()) == [1]
    wary.polled()
    wary.take(Ack(BLOCK, 4 * BLOCK, 0))  # the second block 0
    wary.take(Ack(BLOCK, 4 * BLOCK, AGAIN))
    assert not wary.ready
    wary.take(Ack(2 * BLOCK, 5 * BLOCK, 0))
    wary.take(Ack(2 * BLOCK, 5 * BLOCK, AGAIN))
    assert offsets(wary.blocks()) == [2]


def block(number, content=CONTENT):
    at = number * BLOCK
    return at.to_bytes(4, "little") + content[at : at + BLOCK]


def answer(incoming):
    (frame,) = FrameReader().take(incoming.ack())
    return ack_from_bytes(frame.payload)


def test_a_gap_is_told_once():
    incoming = Incoming(9, len(CONTENT))
    assert incoming.take(block(0))
    assert not incoming.take(block(2))
    assert answer(incoming) == (BLOCK, 9 * BLOCK, AGAIN)
    assert not incoming.take(block(3))
    assert answer(incoming).flags == 0
    assert incoming.take(block(1))
    assert not incoming.take(block(3))
    assert answer(incoming).flags == AGAIN


def test_a_block_that_is_lost_again_is_told_again():
    incoming = Incoming(9, len(CONTENT))
    incoming.take(block(0))
    for number, told in [(2, True), (3, False), (4, False), (2, True), (3, False), (3, True)]:
        assert not incoming.take(block(number))
        assert answer(incoming).flags == (AGAIN if told else 0)


def test_over_a_bad_line_the_board_is_let_send_one_block_at_a_time():
    incoming = Incoming(9, len(CONTENT))
    limits = [ack_from_bytes(FrameReader().take(incoming.ack(True))[0].payload).limit]
    incoming.ack(True)
    for number in range(9):
        incoming.take(block(number))
        limits.append(answer(incoming).limit)
    assert limits == [WINDOW] * 8 + [len(CONTENT)] * 2  # a limit is never taken back


def test_a_spoiled_frame_was_the_one_asked_for_only_when_nothing_else_was():
    incoming = Incoming(9, len(CONTENT))
    incoming.ack(True)
    assert not incoming.one_by_one  # the window is open
    incoming.ack(True)
    for number in range(7):
        incoming.take(block(number))
    assert incoming.one_by_one
    incoming.take(block(6))  # a repeat from before: more of them may be on the way
    assert not incoming.one_by_one
    incoming.ack(True)
    assert incoming.one_by_one


def test_the_board_may_send_no_more_than_there_is():
    assert answer(Incoming(9, 300)) == (0, 300, 0)


@given(
    st.lists(
        st.integers(0, 10).map(block) | st.binary(max_size=256),
        max_size=40,
    )
)
def test_whatever_arrives_the_content_is_a_beginning_of_what_was_sent(payloads):
    incoming = Incoming(9, len(CONTENT))
    for payload in payloads:
        known = payload in [block(number) for number in range(11)]
        taken = incoming.taken
        if incoming.take(payload) and not known:
            return  # a block that fits and is none of ours: the checksum's business
        assert incoming.taken in (taken, min(taken + BLOCK, len(CONTENT)))
    assert CONTENT.startswith(incoming.content())
