"""How an agent waits and what it says while a peer is away."""

import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agents.reconnect import LONG_AWAY_S, Backoff, Clock, Reachability
from tinyfleet.readings import Level


def clock_drawing(draw: float) -> Clock:
    return Clock(draw=lambda: draw)


@given(ceiling=st.floats(0.1, 600.0), draw=st.floats(0.0, 1.0, exclude_max=True))
def test_pauses_never_exceed_the_ceiling(ceiling: float, draw: float) -> None:
    backoff = Backoff(ceiling, clock_drawing(draw))
    assert all(0.0 <= backoff.next_pause_s() < ceiling for _ in range(50))


def test_bound_of_the_pauses_doubles_up_to_the_ceiling() -> None:
    backoff = Backoff(1.0, clock_drawing(0.5))
    pauses = [backoff.next_pause_s() for _ in range(6)]
    assert pauses == pytest.approx([0.05, 0.1, 0.2, 0.4, 0.5, 0.5])


def test_pauses_are_short_again_after_the_peer_answered() -> None:
    backoff = Backoff(5.0, clock_drawing(0.5))
    for _ in range(10):
        backoff.next_pause_s()
    backoff.reset()
    assert backoff.next_pause_s() == pytest.approx(0.05)


def test_pauses_of_a_fleet_are_spread_over_the_whole_bound() -> None:
    backoffs = [Backoff(5.0, clock_drawing(index / 100)) for index in range(100)]
    pauses = [backoff.next_pause_s() for backoff in backoffs]
    assert pauses == pytest.approx([0.1 * index / 100 for index in range(100)])


async def test_pause_sleeps_as_long_as_it_says() -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    await Backoff(5.0, Clock(sleep=sleep, draw=lambda: 0.5)).pause()
    assert slept == pytest.approx([0.05])


def test_log_has_one_line_per_change(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    peer = Reachability("aggregator", logging.getLogger("x"), Clock())
    for _ in range(3):
        peer.lost("a:1", "refused")
    for _ in range(2):
        peer.reached("a:1")
    for _ in range(3):
        peer.lost("a:1", "reset")
    peer.reached("a:1")
    assert [record.message for record in caplog.records] == [
        "no aggregator, trying again",
        "aggregator reached",
        "connection to the aggregator lost, trying again",
        "aggregator reached",
    ]


def test_outage_is_counted_from_its_beginning() -> None:
    now = [100.0]
    peer = Reachability("coordinator", logging.getLogger("x"), Clock(now=lambda: now[0]))
    now[0] = 103.0
    peer.lost("a:1", "refused")
    assert peer.missing_s == pytest.approx(3.0)
    peer.reached("a:1")
    now[0] = 110.0
    assert peer.missing_s == 0.0
    peer.lost("a:1", "reset")
    now[0] = 111.5
    peer.lost("a:1", "refused")
    assert peer.missing_s == pytest.approx(1.5)


def test_reading_turns_from_warning_to_error_when_the_peer_stays_away() -> None:
    now = [0.0]
    peer = Reachability("coordinator", logging.getLogger("x"), Clock(now=lambda: now[0]))
    peer.lost("a:1", "refused")
    now[0] = LONG_AWAY_S - 1.0
    reading = peer.reading("member pi", "stream_age_s", {"in_hand": 2})
    assert (reading.about, reading.level) == ("member pi", Level.WARN)
    assert reading.message == "no coordinator, trying again: refused"
    now[0] = LONG_AWAY_S
    assert peer.reading("member pi", "stream_age_s", {}).level is Level.ERROR
    peer.reached("a:1")
    now[0] += 2.5
    reading = peer.reading("member pi", "stream_age_s", {"in_hand": 2})
    assert (reading.level, reading.message) == (Level.OK, "coordinator reached")
    assert reading.values == {"stream_age_s": 2.5, "in_hand": 2}
