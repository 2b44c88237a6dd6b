"""A follower may be as slow as it likes: bounded memory, right totals, the newest state."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.aggregator.core import ClosedRound, Totals
from services.aggregator.watching import MAX_CLOSED_ROUNDS, MAX_REFUSED, Refused, State, Watcher


def closed(round, updates=2, diverged=0):
    return ClosedRound(round, updates, float(round), 10, 100, 7 + round, diverged, 200)


def state(version):
    return State(version, b"v%d" % version, Totals(updates=2 * version))


def a_watcher():
    return Watcher(state(0), [], ended=False)


async def test_the_first_change_is_the_whole_state():
    change = await Watcher(state(4), [1, 3], ended=True).next()
    assert (change.version, change.parameters, change.received_slots) == (4, b"v4", [1, 3])
    assert change.ended


async def test_nothing_is_told_twice():
    watcher = a_watcher()
    watcher.add_received([1], state(0))
    assert (await watcher.next()).received_slots == [1]
    watcher.add_received([0], state(0))
    change = await watcher.next()
    assert (change.received_slots, change.parameters) == ([0], b"")


async def test_a_new_version_makes_slots_of_the_old_round_moot():
    watcher = a_watcher()
    await watcher.next()
    watcher.add_received([0, 1], state(0))
    watcher.add_closed(closed(0), state(1))
    watcher.add_received([2], state(0))
    change = await watcher.next()
    assert (change.version, change.parameters, change.received_slots) == (1, b"v1", [2])
    assert change.closed == [closed(0)]


async def test_a_slow_follower_gets_only_the_newest_parameters():
    watcher = a_watcher()
    for number in range(10):
        watcher.add_closed(closed(number), state(number + 1))
    change = await watcher.next()
    assert (change.version, change.parameters) == (10, b"v10")
    assert change.totals == Totals(updates=20)
    assert [entry.round for entry in change.closed] == list(range(10))


@settings(deadline=None, max_examples=30)
@given(rounds=st.integers(1, 4 * MAX_CLOSED_ROUNDS), reads=st.sets(st.integers(0, 1000)))
def test_totals_stay_right_however_rarely_one_looks(rounds, reads):
    async def follow():
        watcher, seen = a_watcher(), []
        for number in range(rounds):
            one = closed(number, updates=number % 5 + 1, diverged=number % 2)
            watcher.add_closed(one, state(number + 1))
            if number in reads:
                seen.append((await watcher.next()).closed)
        watcher.end_run()
        seen.append((await watcher.next()).closed)
        return seen

    seen = asyncio.run(follow())
    assert max(len(part) for part in seen) <= MAX_CLOSED_ROUNDS
    told = [entry for part in seen for entry in part]
    assert [entry.round for entry in told] == sorted(entry.round for entry in told)
    assert told[-1].round == rounds - 1
    assert sum(entry.updates for entry in told) == sum(n % 5 + 1 for n in range(rounds))
    assert sum(entry.diverged for entry in told) == sum(n % 2 for n in range(rounds))
    assert sum(entry.bytes_up for entry in told) == 100 * rounds
    assert max(entry.slowest_training_us for entry in told) == 7 + rounds - 1


async def test_refusals_are_bounded_and_the_newest_stay():
    watcher = a_watcher()
    for number in range(3 * MAX_REFUSED):
        watcher.add_refused(Refused(str(number), "why"))
    refused = (await watcher.next()).refused
    assert len(refused) == MAX_REFUSED
    assert refused[-1].assignment_id == str(3 * MAX_REFUSED - 1)


async def test_it_waits_while_there_is_nothing_to_tell():
    watcher = a_watcher()
    await watcher.next()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(watcher.next(), 0.01)


async def test_nothing_follows_the_end():
    watcher = a_watcher()
    watcher.end_run()
    assert (await watcher.next()).ended
    assert await watcher.next() is None


async def test_a_waiting_follower_is_sent_away_when_the_service_stops():
    watcher = a_watcher()
    await watcher.next()
    waiting = asyncio.create_task(watcher.next())
    await asyncio.sleep(0)
    watcher.stop()
    assert await waiting is None


async def test_a_watcher_hears_why_nothing_is_stored_and_when_it_is_again():
    watcher = Watcher(state(0), [], ended=False, problem="disk full")
    assert (await watcher.next()).problem == "disk full"
    watcher.set_problem("")
    assert (await watcher.next()).problem == ""


async def test_of_overlapping_rounds_the_newest_open_slots_are_told_whatever_was_missed():
    begun = State(0, b"v0", Totals(), open_slots=(0, 1, 2))
    watcher = Watcher(begun, [], ended=False)
    assert (await watcher.next()).open_slots == (0, 1, 2)
    for open_slots in ((0, 2, 3), (0, 3, 4)):
        watcher.add_received([1], State(0, b"v0", Totals(), open_slots))
    change = await watcher.next()
    assert (change.open_slots, change.received_slots) == ((0, 3, 4), [])
    assert change.parameters == b""
