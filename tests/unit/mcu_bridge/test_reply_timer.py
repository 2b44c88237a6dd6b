"""When the host asks a board again: neither too soon on a slow line, nor too late on a fast one."""

import pytest

from mcu_bridge.link.timer import ReplyTime, ReplyTimer
from mcu_bridge.link.transfer import WINDOW, Incoming

FIRST_S, LEAST_S, PATIENCE_S = 0.25, 0.03, 10.0


def timer_at_zero() -> ReplyTimer:
    return ReplyTimer(ReplyTime(FIRST_S, LEAST_S), PATIENCE_S, now=0.0)


def test_what_is_not_answered_is_asked_again_later_and_later() -> None:
    timer = timer_at_zero()
    assert not timer.lapsed(0.2)
    assert timer.lapsed(0.26)
    assert not timer.lapsed(0.26 + 0.4)
    assert timer.lapsed(0.26 + 0.51)


def test_the_wait_follows_how_long_answers_take() -> None:
    timer, now = timer_at_zero(), 0.0
    for mark in range(1, 30):
        timer.asked(mark, now)
        now += 1.0
        timer.moved(mark, now)
    assert 1.0 < timer.until - now < 1.2


def test_an_answer_to_something_asked_twice_is_not_timed() -> None:
    timer = timer_at_zero()
    timer.asked(1, 0.0)
    timer.repeated()
    timer.moved(1, 5.0)
    assert timer.until - 5.0 == pytest.approx(FIRST_S)


def test_the_wait_is_never_shorter_than_a_hiccup_of_this_machine() -> None:
    timer = timer_at_zero()
    for mark in range(1, 30):
        timer.asked(mark, mark * 1e-4)
        timer.moved(mark, mark * 1e-4 + 1e-5)
    assert timer.until - 29e-4 == pytest.approx(LEAST_S, rel=0.01)


def test_who_still_sends_is_not_asked_again() -> None:
    """Repeats that are on the way fill a slow line; asking again would only add to them."""
    timer = timer_at_zero()
    for tenth in range(1, 20):
        timer.heard(tenth / 10)
        assert not timer.lapsed(tenth / 10 + 0.1)
    assert timer.lapsed(1.9 + FIRST_S)


def test_being_heard_without_progress_does_not_stretch_the_patience() -> None:
    timer = timer_at_zero()
    for second in range(1, 20):
        timer.heard(float(second))
    assert timer.until == timer.give_up_at == PATIENCE_S


def test_the_answer_to_an_ack_is_the_last_block_that_it_allows() -> None:
    incoming = Incoming(transfer=1, total=3 * WINDOW // 2)
    assert incoming.allowed == WINDOW
    for at in range(0, WINDOW, 252):
        incoming.take(at.to_bytes(4, "little") + bytes(252))
    assert incoming.allowed == 3 * WINDOW // 2
