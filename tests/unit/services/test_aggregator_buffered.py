"""The ledger of an asynchronous run: every slot once, the order of the journal, the same bits."""

import math

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from services.aggregator.buffered import BufferedLedger, Window, ledger_of
from services.aggregator.core import (
    REMEMBERED_ROUNDS,
    Ledger,
    Place,
    Snapshot,
    StoredRun,
    Submission,
    Verdict,
)
from tinyfleet.codec.dense import encode_dense
from tinyfleet.errors import InvalidInput
from tinyfleet.model.layers import Dense
from tinyfleet.model.spec import ModelSpec
from tinyfleet.run import RunSpec
from tinyfleet.strategies import Update

TINY = ModelSpec("tiny", (1, 1, 2), (Dense(units=1),), "mean_squared_error")  # 3 parameters
SLOTS = 2


def a_run(rounds=20, buffer=SLOTS, concurrency=4, max_staleness=2):
    options = {"buffer": buffer, "concurrency": concurrency, "max_staleness": max_staleness}
    return RunSpec(TINY, "sine", "fed_buff", rounds, 1, {}, options | {"samples": 4})


def a_ledger(**options):
    run = a_run(**options)
    return BufferedLedger(run, Snapshot(0, run.initial_parameters()))


def submission(number, base=0, attempt=0, value=0.5, slots=SLOTS, **changes):
    """An update of the slot of that number."""
    place, slot = divmod(number, slots)
    values = {
        "assignment_id": f"r-{place}-{slot}-{attempt}",
        "round": place,
        "slot": slot,
        "base_version": base,
        "samples": 4,
        "loss": 1.5,
        "training_us": 10,
        "diverged": False,
        "data": encode_dense(np.full(3, value, np.float32)),
    }
    return Submission(**(values | changes))


def store(ledger, *submissions):
    """Admit and store; folds when the buffer is full."""
    updates = [ledger.admit(one).update for one in submissions]
    assert None not in updates
    ledger.stored(updates)
    if ledger.is_due:
        ledger.close_round(ledger.fold())
    return updates


def test_a_strategy_whose_rounds_overlap_has_a_ledger_of_its_own():
    reptile = RunSpec(TINY, "sine", "reptile", 1, 1)
    assert (ledger_of(a_run()), ledger_of(reptile)) == (BufferedLedger, Ledger)
    with pytest.raises(InvalidInput, match="do not overlap"):
        BufferedLedger(reptile, Snapshot(0, reptile.initial_parameters()))


def test_the_first_to_arrive_make_the_version_whichever_rounds_they_are_of():
    ledger = a_ledger()
    start = ledger.parameters.copy()
    store(ledger, submission(3, value=3.0))
    assert (ledger.version, ledger.open_slots) == (0, (0, 1, 2, 4))
    store(ledger, submission(1, value=1.0))
    assert (ledger.version, ledger.open_slots) == (1, (0, 2, 4, 5))
    parts = [Update(1, np.full(3, 3, np.float32), 4), Update(1, np.full(3, 1, np.float32), 4)]
    assert np.array_equal(ledger.parameters, ledger.run.make_strategy().apply(start, parts, 0))


def test_a_late_comer_weighs_less():
    ledger = a_ledger(buffer=1)
    store(ledger, submission(0, slots=1))
    before = ledger.parameters.copy()
    (update,) = store(ledger, submission(1, base=0, value=2.0, slots=1))
    assert (update.version, update.base_version) == (1, 0)
    parts = [Update(0, np.full(3, 2, np.float32), 4, staleness=1)]
    expected = ledger.run.make_strategy().apply(before, parts, 1)
    assert np.array_equal(ledger.parameters, expected)


def test_a_closed_buffer_tells_how_stale_its_updates_were():
    ledger = a_ledger()
    store(ledger, submission(0), submission(1))
    first, second = ledger.admit(submission(2, base=0)).update, ledger.admit(submission(3, base=1))
    ledger.stored([first, second.update])
    closed = ledger.close_round(ledger.fold())
    assert (closed.round, closed.updates, closed.staleness) == (1, 2, 0.5)
    assert closed.merged_with(closed).staleness == 0.5


def test_too_old_an_update_is_refused_and_its_slot_stays_open():
    ledger = a_ledger(buffer=1, max_staleness=2)
    for number in (1, 2):
        store(ledger, submission(number, base=number - 1, slots=1))
    assert ledger.admit(submission(0, base=0, slots=1)).verdict is Verdict.STORE
    ledger.not_stored([ledger._pending[0]])
    store(ledger, submission(3, base=2, slots=1))
    decision = ledger.admit(submission(0, base=0, slots=1))
    assert (decision.verdict, decision.update) == (Verdict.STALE, None)
    assert decision.reason == (
        "trained from version 0, 3 is the newest: more than the 2 that max_staleness allows"
    )
    store(ledger, submission(0, base=3, attempt=1, slots=1))
    assert ledger.version == 4


def test_what_would_not_fit_into_the_buffer_waits_for_the_next():
    ledger = a_ledger()
    first = ledger.admit(submission(0)).update
    second = ledger.admit(submission(2)).update
    assert ledger.admit(submission(1)).verdict is Verdict.WAIT
    ledger.not_stored([second])
    assert ledger.admit(submission(1)).verdict is Verdict.STORE
    ledger.stored([first])
    assert not ledger.is_due


def test_a_slot_counts_once():
    ledger = a_ledger()
    ledger.admit(submission(0))
    assert ledger.admit(submission(0)).verdict is Verdict.WAIT
    assert ledger.admit(submission(0, attempt=1)).verdict is Verdict.WAIT
    ledger.stored([ledger._pending[0]])
    assert ledger.admit(submission(0)).verdict is Verdict.KNOWN
    again = ledger.admit(submission(0, attempt=1))
    assert (again.verdict, again.reason) == (
        Verdict.LATE,
        "slot 0 of round 0 has its update already",
    )


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"round": 2, "slot": 0}, "slot 0 of round 2 is not open yet"),
        ({"round": 2**32 - 1}, "is not open yet"),
        ({"slot": 2}, "a round has 2 slots"),
        ({"slot": 2**32 - 1}, "a round has 2 slots"),
        ({"base_version": 1}, "trained from version 1, 0 is the newest"),
        ({"samples": 5}, "samples must be 1 to the plan's 4"),
        ({"loss": math.inf}, "loss must be finite"),
        ({"data": b"\0" * 11}, "12 bytes"),
    ],
)
def test_an_invalid_update_never_touches_the_run(changes, reason):
    ledger = a_ledger()
    decision = ledger.admit(submission(0, **changes))
    assert decision.verdict is Verdict.INVALID
    assert reason in decision.reason
    assert (ledger.is_pending, ledger.open_slots) == (False, (0, 1, 2, 3))


def test_the_last_slots_end_the_run():
    ledger = a_ledger(rounds=2)
    assert ledger.open_slots == (0, 1, 2, 3)
    store(ledger, submission(3), submission(2))
    assert ledger.open_slots == (0, 1)
    assert ledger.admit(submission(4)).verdict is Verdict.INVALID
    store(ledger, submission(0), submission(1))
    assert (ledger.version, ledger.open_slots) == (2, ())
    assert ledger.admit(submission(0, attempt=5)).reason == "the run has ended"


def test_a_buffer_is_not_closed_early():
    ledger = a_ledger()
    store(ledger, submission(0))
    with pytest.raises(InvalidInput, match="ends when its updates are there"):
        ledger.can_close(0)


def test_submissions_wait_while_the_buffer_is_folded():
    ledger = a_ledger()
    ledger.hold()
    assert ledger.admit(submission(0)).verdict is Verdict.WAIT
    ledger.release()
    assert ledger.admit(submission(0)).verdict is Verdict.STORE


@pytest.mark.parametrize("missing", [(7,), (-1,), (0, 1, 2, 3), tuple(range(5, 50))])
def test_a_snapshot_that_cannot_be_is_refused(missing):
    run = a_run()
    with pytest.raises(InvalidInput, match="missing slots are damaged"):
        BufferedLedger(run, Snapshot(1, run.initial_parameters(), missing=missing))


@pytest.mark.parametrize("size", [1, 2, 5])
def test_the_window_is_the_lowest_slots_that_are_not_done(size):
    total, done, order = 12, set(), np.random.RandomState(size)
    window = Window(total, size, 0, ())
    while window.open:
        assert window.open == tuple(n for n in range(total) if n not in done)[:size]
        assert [window.is_done(n) for n in range(total)] == [n in done for n in range(total)]
        assert all(window.is_ahead(n) != (n in window.open or n in done) for n in range(total))
        again = Window(total, size, len(done), window.missing)
        assert (again.open, again.missing) == (window.open, window.missing)
        number = int(order.choice(window.open))
        window.finish(number)
        done.add(number)
    assert done == set(range(total))


class CrashAnywhere(RuleBasedStateMachine):
    """Two ledgers see the same updates; one is rebuilt from what was stored, again and again."""

    @initialize(
        buffer=st.integers(1, 4), concurrency=st.integers(1, 6), max_staleness=st.integers(0, 3)
    )
    def start(self, buffer, concurrency, max_staleness):
        self.spec = a_run(12, buffer, concurrency, max_staleness)
        self.slots = buffer
        self.initial = self.snapshot = Snapshot(0, self.spec.initial_parameters())
        self.steady = BufferedLedger(self.spec, self.initial)
        self.restarted = BufferedLedger(self.spec, self.initial)
        self.rows = []
        self.pending = []

    @property
    def running(self):
        return self.steady.version < self.spec.rounds

    @precondition(lambda self: self.running)
    @rule(
        place=st.integers(0, 7),
        behind=st.integers(0, 4),
        value=st.floats(-100, 100, width=32),
        diverged=st.booleans(),
        attempt=st.integers(0, 2),
    )
    def update_arrives(self, place, behind, value, diverged, attempt):
        """Of an open slot or the one after; at once stored, or to be stored later."""
        open_slots = self.steady.open_slots
        number = open_slots[place] if place < len(open_slots) else open_slots[-1] + 1
        base = max(0, self.steady.version - behind)
        data = {"diverged": True, "data": b""} if diverged else {}
        one = submission(number, base, attempt, value, self.slots, **data)
        first, second = self.steady.admit(one), self.restarted.admit(one)
        assert first.verdict is second.verdict
        if first.update is not None:
            assert behind <= self.spec.strategy_options["max_staleness"] or base == 0
            self.pending.append((first.update, second.update))

    @rule(count=st.integers(1, 4))
    def commit(self, count):
        done, self.pending = self.pending[:count], self.pending[count:]
        for first, second in done:
            self.rows.append(first)
            self.steady.stored([first])
            self.restarted.stored([second])
            self.fold()

    @rule()
    def commit_fails(self):
        for first, second in self.pending:
            self.steady.not_stored([first])
            self.restarted.not_stored([second])
        self.pending = []

    def fold(self):
        assert self.steady.is_due is self.restarted.is_due
        for ledger in (self.steady, self.restarted) if self.steady.is_due else ():
            ledger.close_round(ledger.fold())

    @rule()
    def snapshot_is_taken(self):
        self.snapshot = self.steady.snapshot

    @rule()
    def process_is_killed(self):
        self.commit_fails()
        version = self.snapshot.version
        since = [row for row in self.rows if row.version >= version]
        kept = {
            row.assignment_id: Place(row.round, row.slot, row.version)
            for row in self.rows
            if version - REMEMBERED_ROUNDS <= row.version < version
        }
        self.restarted = BufferedLedger.restore(
            StoredRun(self.spec, False, self.snapshot, since, (), kept)
        )

    @invariant()
    def both_are_in_the_same_state(self):
        assert self.steady.version == self.restarted.version
        assert self.steady.totals == self.restarted.totals
        assert self.steady.parameters.tobytes() == self.restarted.parameters.tobytes()
        assert self.steady.open_slots == self.restarted.open_slots
        assert self.steady.snapshot.missing == self.restarted.snapshot.missing

    @invariant()
    def each_slot_is_stored_once_and_none_is_lost(self):
        numbers = [row.round * self.slots + row.slot for row in self.rows]
        assert len(set(numbers)) == len(numbers)
        open_slots = self.steady.open_slots
        until = open_slots[-1] + 1 if open_slots else self.spec.rounds * self.slots
        assert set(numbers) == set(range(until)) - set(open_slots)

    @invariant()
    def a_version_is_made_of_as_many_as_a_round_has_slots(self):
        versions = [row.version for row in self.rows]
        assert versions == sorted(versions)
        assert all(versions.count(v) == self.slots for v in range(self.steady.version))

    def teardown(self):
        """From wherever we are, the run comes to its end, and a replay of it all is the same."""
        if not hasattr(self, "spec"):
            return
        self.commit_fails()
        while self.running:
            self.update_arrives(0, 0, 0.25, False, 7)
            self.commit(4)
        again = BufferedLedger.restore(StoredRun(self.spec, False, self.initial, self.rows, (), {}))
        assert (again.version, again.totals) == (self.spec.rounds, self.steady.totals)
        assert again.parameters.tobytes() == self.steady.parameters.tobytes()


CrashAnywhere.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
test_any_order_and_any_restart_give_the_same_bits = CrashAnywhere.TestCase
