"""The ledger's promises: what counts, what is refused and why, the same bits after a restart."""

import math

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from services.aggregator.core import (
    MAX_TRAINING_US,
    REMEMBERED_ROUNDS,
    Ledger,
    Place,
    RoundUpdate,
    Snapshot,
    StoredRun,
    Submission,
    Verdict,
)
from tinyfleet.codec.dense import encode_dense
from tinyfleet.codec.selected import encode_selected
from tinyfleet.errors import InvalidInput
from tinyfleet.model.layers import Dense
from tinyfleet.model.spec import ModelSpec
from tinyfleet.run import RunSpec, make_run
from tinyfleet.strategies import Update
from tinyfleet.strategies.base import MAX_DELTA_NORM
from tinyfleet.tasks import make_task

SLOTS = 3
TINY = ModelSpec("tiny", (1, 1, 2), (Dense(units=1),), "mean_squared_error")  # 3 parameters


def a_run(rounds=5, slots=SLOTS, model=TINY, strategy="reptile"):
    options = {"samples": 4, "batch_size": 2, "passes": 1, "inner_rate": 0.1, "outer_rate": 1.0}
    return RunSpec(model, "sine", strategy, rounds, 1, {}, options | {"agents_per_round": slots})


def a_ledger(changes=False, **options):
    run = a_run(**options)
    if changes:
        chosen = {"samples": 2, "local_samples": 2, "local_layers": 0, "fraction": 1.0}
        chosen |= {"agents_per_round": SLOTS, "changes_only": True}
        run = RunSpec(TINY, "sine", "tiny_meta_fed", 5, 1, {}, chosen)
    return Ledger(run, Snapshot(0, run.initial_parameters()))


def submission(ledger, slot=0, round=None, value=0.5, **changes):
    number = ledger.version if round is None else round
    delta = np.full(ledger.run.model.parameter_count, value, np.float32)
    values = {
        "assignment_id": f"r-{number}-{slot}-0",
        "round": number,
        "slot": slot,
        "base_version": number,
        "samples": 4,
        "loss": 1.5,
        "training_us": 10,
        "diverged": False,
        "data": encode_dense(delta),
    }
    return Submission(**(values | changes))


def store(ledger, *submissions):
    """Admit and store; closes the round when it is due."""
    updates = [ledger.admit(one).update for one in submissions]
    assert None not in updates
    ledger.stored(updates)
    return ledger.close_round(ledger.fold()) if ledger.is_due else None


def fill_round(ledger, value=0.5):
    return store(ledger, *(submission(ledger, slot, value=value) for slot in range(SLOTS)))


def test_a_full_round_moves_the_model_as_the_strategy_says():
    ledger = a_ledger()
    start = ledger.parameters.copy()
    closed = store(ledger, *(submission(ledger, slot, value=float(slot)) for slot in (2, 0, 1)))
    deltas = [np.full(3, slot, np.float32) for slot in range(SLOTS)]
    strategy = ledger.run.make_strategy()
    parts = [Update(slot, delta, 4) for slot, delta in enumerate(deltas)]
    assert ledger.version == 1
    assert np.array_equal(ledger.parameters, strategy.apply(start, parts, 0))
    assert (closed.round, closed.updates, closed.samples, closed.bytes_up) == (0, 3, 12, 36)
    assert closed.loss == 1.5


def sparse(ledger, slot, start_bytes):
    return submission(ledger, slot, samples=2, start_bytes=start_bytes)


def test_what_agents_were_sent_adds_up_and_is_everything_unless_they_say_otherwise():
    ledger = a_ledger(changes=True)
    whole = ledger.exchange.starts.whole_bytes
    told = (None, whole, 9)
    updates = [sparse(ledger, slot, told[slot]) for slot in range(SLOTS)]
    assert store(ledger, *updates).bytes_down == 2 * whole + 9
    store(ledger, *(sparse(ledger, slot, 8) for slot in range(SLOTS)))
    assert ledger.totals.bytes_down == 2 * whole + 9 + SLOTS * 8


@pytest.mark.parametrize(("changes", "size"), [(False, 9), (True, 7), (True, 13), (False, 0)])
def test_a_start_that_no_agent_was_sent_is_refused(changes, size):
    ledger = a_ledger(changes=changes)
    decision = ledger.admit(sparse(ledger, 0, size))
    assert decision.verdict is Verdict.INVALID
    assert f"bytes, not {size}" in decision.reason


def test_the_order_of_arrival_does_not_change_a_bit():
    results = set()
    for order in ((0, 1, 2), (2, 1, 0), (1, 2, 0)):
        ledger = a_ledger()
        for slot in order:
            store(ledger, submission(ledger, slot, value=0.1 * (slot + 1)))
        results.add(ledger.parameters.tobytes())
    assert len(results) == 1


def test_an_update_counts_only_once_it_is_stored():
    ledger = a_ledger(slots=1)
    update = ledger.admit(submission(ledger)).update
    assert (ledger.received_slots, ledger.is_due) == ([], False)
    ledger.stored([update])
    assert ledger.is_due


def test_what_could_not_be_stored_never_came():
    ledger = a_ledger()
    first = submission(ledger)
    ledger.not_stored([ledger.admit(first).update])
    assert ledger.received_slots == []
    assert ledger.admit(first).verdict is Verdict.STORE


def test_a_repeat_is_known_and_changes_nothing():
    ledger = a_ledger()
    first = submission(ledger)
    store(ledger, first)
    assert ledger.admit(first).verdict is Verdict.KNOWN
    assert ledger.received_slots == [0]


def test_a_repeat_is_known_for_some_rounds_after_its_own():
    ledger = a_ledger(rounds=REMEMBERED_ROUNDS + 5)
    first = submission(ledger)
    store(ledger, first, submission(ledger, 1), submission(ledger, 2))
    for _ in range(REMEMBERED_ROUNDS - 1):
        fill_round(ledger)
    assert ledger.admit(first).verdict is Verdict.KNOWN
    fill_round(ledger)
    fill_round(ledger)
    assert ledger.admit(first).verdict is Verdict.LATE


def test_a_repeat_waits_while_the_first_is_being_stored():
    ledger = a_ledger()
    first = submission(ledger)
    ledger.admit(first)
    assert ledger.admit(first).verdict is Verdict.WAIT
    assert ledger.admit(submission(ledger, 1, assignment_id=first.assignment_id)).verdict is (
        Verdict.WAIT
    )


def test_an_id_cannot_be_used_for_another_slot():
    ledger = a_ledger()
    first = submission(ledger)
    store(ledger, first)
    decision = ledger.admit(submission(ledger, 1, assignment_id=first.assignment_id))
    assert decision.verdict is Verdict.INVALID
    assert "slot 0 of round 0" in decision.reason


def test_the_first_update_of_a_slot_wins():
    ledger = a_ledger()
    first = ledger.admit(submission(ledger)).update
    rival = submission(ledger, assignment_id="r-0-0-1")
    assert ledger.admit(rival).verdict is Verdict.WAIT
    ledger.stored([first])
    assert ledger.admit(rival).verdict is Verdict.LATE


def test_the_second_update_of_a_slot_counts_when_the_first_could_not_be_stored():
    ledger = a_ledger()
    first = ledger.admit(submission(ledger)).update
    rival = submission(ledger, assignment_id="r-0-0-1")
    ledger.not_stored([first])
    assert ledger.admit(rival).verdict is Verdict.STORE


def test_late_update_is_rejected():
    ledger = a_ledger()
    fill_round(ledger)
    decision = ledger.admit(submission(ledger, round=0, assignment_id="another"))
    assert decision.verdict is Verdict.LATE
    assert "round 0 is closed" in decision.reason


def test_nothing_is_taken_after_the_last_round():
    ledger = a_ledger(rounds=1)
    fill_round(ledger)
    decision = ledger.admit(submission(ledger, round=1))
    assert (decision.verdict, decision.reason) == (Verdict.LATE, "the run has ended")


def test_nothing_is_taken_after_the_end():
    ledger = a_ledger()
    ledger.ended = True
    assert ledger.admit(submission(ledger)).verdict is Verdict.LATE


NAN, INF = np.float32("nan"), np.float32("inf")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"round": 7, "base_version": 7}, "not open yet"),
        ({"slot": SLOTS}, "a round has 3 slots"),
        ({"slot": 2**32 - 1}, "a round has 3 slots"),
        ({"base_version": 3}, "trained from version 3"),
        ({"samples": 0}, "samples must be 1 to the plan's 4"),
        ({"samples": 5}, "samples must be 1 to the plan's 4"),
        ({"loss": math.nan}, "loss must be finite"),
        ({"loss": math.inf}, "loss must be finite"),
        ({"training_us": MAX_TRAINING_US + 1}, "training_us must be at most"),
        ({"data": b""}, "12 bytes"),
        ({"data": b"\0" * 11}, "12 bytes"),
        ({"data": b"\0" * 16}, "12 bytes"),
        ({"data": encode_dense(np.array([0, NAN, 0], np.float32))}, "finite"),
        ({"data": encode_dense(np.array([0, 0, INF], np.float32))}, "finite"),
        ({"data": encode_dense(np.array([0, 0, -INF], np.float32))}, "finite"),
        ({"data": encode_dense(np.array([MAX_DELTA_NORM, 1e6, 0], np.float32))}, "norm"),
        ({"data": encode_dense(np.array([3e38, 3e38, 3e38], np.float32))}, "norm"),
        ({"diverged": True}, "must be empty"),
    ],
)
def test_an_invalid_update_never_touches_the_model(changes, reason):
    ledger = a_ledger()
    before = ledger.parameters.tobytes()
    decision = ledger.admit(submission(ledger, **changes))
    assert decision.verdict is Verdict.INVALID
    assert reason in decision.reason
    assert "\n" not in decision.reason
    assert (ledger.is_pending, ledger.parameters.tobytes()) == (False, before)


MLP = ModelSpec("mlp", (1, 1, 1), (Dense(4), Dense(1)), "mean_squared_error")  # 8 shared, 5 local


def a_frugal_ledger():
    """Of a run whose devices keep the last layer, and send half of the rest as float16."""
    options = {"fraction": 0.5, "precision": "float16", "schedule": "constant", "outer_rate": 1}
    run = RunSpec(MLP, "sine", "tiny_meta_fed", 5, 1, {}, options)
    return Ledger(run, Snapshot(0, run.initial_parameters()))


def changes(*values):
    return encode_selected(np.array(values, np.float32), 1.0, "float16", None)


def test_only_what_was_sent_moves_the_model_and_counts_as_bytes():
    ledger = a_frugal_ledger()
    start = ledger.parameters.copy()
    data = changes(0, 2, 0, 0, -1, 0, 0, 0)
    closed = store(ledger, submission(ledger, data=data))
    assert (closed.bytes_up, ledger.totals.bytes_up) == (len(data), len(data))
    moved = ledger.parameters - start
    assert moved.tolist() == pytest.approx([0, 2, 0, 0, -1, 0, 0, 0, *[0] * 5])
    assert np.array_equal(ledger.parameters[8:], start[8:])


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (changes(1, 1, 1, 1, 1, 0, 0, 0), "at most 17 bytes, not 19"),
        (changes(*[1.0] * 8), "at most 17 bytes, not"),
        (changes(1, 1)[:-1], "update"),
        (encode_dense(np.ones(8, np.float32)), "at most 17 bytes, not 32"),
        (encode_dense(np.ones(4, np.float32)), "not known"),
        (encode_selected(np.array([1, INF][:1] * 3, np.float32), 1, "float16", None)[:8], "update"),
        (b"", "at least 8 bytes, got 0"),
    ],
)
def test_an_update_beyond_the_plan_never_touches_the_model(data, reason):
    ledger = a_frugal_ledger()
    before = ledger.parameters.tobytes()
    decision = ledger.admit(submission(ledger, data=data))
    assert decision.verdict is Verdict.INVALID
    assert reason in decision.reason
    assert "\n" not in decision.reason
    assert (ledger.is_pending, ledger.parameters.tobytes()) == (False, before)


def test_a_journal_of_selected_updates_gives_the_same_bits():
    ledger = a_frugal_ledger()
    start, updates = ledger.snapshot, []
    for value in (0.5, 1 / 3, -2):
        one = submission(ledger, data=changes(0, value, 0, 0, 0, -value, 0, 1))
        updates.append(ledger.admit(one).update)
        ledger.stored(updates[-1:])
        ledger.close_round(ledger.fold())
    again = Ledger.restore(StoredRun(ledger.run, False, start, updates, (), {}))
    assert (again.version, again.totals) == (3, ledger.totals)
    assert again.parameters.tobytes() == ledger.parameters.tobytes()


def test_a_damaged_update_in_the_journal_is_named():
    ledger = a_frugal_ledger()
    row = RoundUpdate("r-0-0-0", 0, 0, 0, 0, 4, 1.0, 1, b"12345678", 12)
    stored = StoredRun(ledger.run, False, ledger.snapshot, [row], (), {})
    with pytest.raises(InvalidInput, match=r"stored update r-0-0-0 is damaged .* from a copy"):
        Ledger.restore(stored)


def test_the_largest_norm_is_taken():
    ledger = a_ledger()
    delta = np.array([MAX_DELTA_NORM, 0, 0], np.float32)
    assert ledger.admit(submission(ledger, data=encode_dense(delta))).verdict is Verdict.STORE


def test_a_diverged_update_counts_as_zero():
    ledger = a_ledger()
    start = ledger.parameters.copy()
    lost = submission(ledger, 0, diverged=True, data=b"", loss=math.nan)
    closed = store(ledger, lost, submission(ledger, 1), submission(ledger, 2))
    zero, half = np.zeros(3, np.float32), np.full(3, 0.5, np.float32)
    parts = [Update(0, zero, 4), Update(1, half, 4), Update(2, half, 4)]
    assert np.array_equal(ledger.parameters, ledger.run.make_strategy().apply(start, parts, 0))
    assert (closed.diverged, closed.updates, closed.loss, closed.bytes_up) == (1, 3, 1.5, 24)


def test_the_loss_of_a_round_that_diverged_wholly_is_nan():
    ledger = a_ledger(slots=1)
    closed = store(ledger, submission(ledger, diverged=True, data=b"", loss=math.nan))
    assert math.isnan(closed.loss)


def test_a_round_closes_early_with_what_is_there():
    ledger = a_ledger()
    start = ledger.parameters.copy()
    store(ledger, submission(ledger, 1))
    assert ledger.can_close(0)
    ledger.close_round(ledger.fold())
    parts = [Update(1, np.full(3, 0.5, np.float32), 4)]
    assert np.array_equal(ledger.parameters, ledger.run.make_strategy().apply(start, parts, 0))
    assert not ledger.can_close(0)


@pytest.mark.parametrize("round", [0, 1, 5])
def test_a_round_without_updates_cannot_be_closed(round):
    with pytest.raises(InvalidInput, match=f"round {round} "):
        a_ledger().can_close(round)


def test_submissions_wait_while_the_round_is_held():
    ledger = a_ledger()
    ledger.hold()
    ledger.hold()
    ledger.release()
    assert ledger.admit(submission(ledger)).verdict is Verdict.WAIT
    ledger.release()
    assert ledger.admit(submission(ledger)).verdict is Verdict.STORE


def test_a_round_too_large_for_memory_is_refused():
    run = make_run(
        make_task("sine", {}, None), "reptile", 1, 1, "mlp_64", {"agents_per_round": 1024}
    )
    Ledger(run, Snapshot(0, run.initial_parameters()))  # 18 MB a round
    layers = (Dense(units=1024), Dense(units=4096), Dense(units=1))
    with pytest.raises(InvalidInput, match="more than a round may hold"):
        a_ledger(slots=1024, model=ModelSpec("large", (1, 1, 1), layers, "mean_squared_error"))


def test_merged_rounds_keep_the_totals():
    ledger = a_ledger()
    first, second = fill_round(ledger), fill_round(ledger)
    both = first.merged_with(second)
    assert (both.round, both.updates, both.samples, both.bytes_up) == (1, 6, 24, 72)


class CrashAnywhere(RuleBasedStateMachine):
    """Two ledgers see the same updates; one is rebuilt from what was stored, again and again."""

    @initialize(slots=st.integers(1, 4), strategy=st.sampled_from(["reptile", "fed_adam"]))
    def start(self, slots, strategy):
        self.run_spec = a_run(rounds=30, slots=slots, strategy=strategy)
        initial = Snapshot(0, self.run_spec.initial_parameters())
        self.steady = Ledger(self.run_spec, initial)
        self.restarted = Ledger(self.run_spec, initial)
        self.slots = slots
        self.rows: list[RoundUpdate] = []
        self.closings: set[int] = set()
        self.snapshot = initial

    @property
    def running(self):
        return self.steady.version < self.run_spec.rounds

    @precondition(lambda self: self.running)
    @rule(slot=st.integers(0, 3), value=st.floats(-100, 100, width=32), diverged=st.booleans())
    def update_arrives(self, slot, value, diverged):
        data = {"diverged": True, "data": b""} if diverged else {}
        one = submission(self.steady, slot, value=value, **data)
        first, second = self.steady.admit(one), self.restarted.admit(one)
        assert first.verdict is second.verdict
        if first.update is not None:
            self.rows.append(first.update)
            self.steady.stored([first.update])
            self.restarted.stored([second.update])
        self.close(self.steady.is_due)

    @precondition(lambda self: self.running and self.steady.received_slots)
    @rule()
    def round_closes_early(self):
        self.closings.add(self.steady.version)
        self.close(True)

    def close(self, due):
        for ledger in (self.steady, self.restarted) if due else ():
            ledger.close_round(ledger.fold())

    @rule()
    def snapshot_is_taken(self):
        self.snapshot = self.steady.snapshot

    @rule(shuffle=st.randoms(use_true_random=False))
    def process_is_killed(self, shuffle):
        version = self.snapshot.version
        since = [row for row in self.rows if row.round >= version]
        shuffle.shuffle(since)
        kept = {
            row.assignment_id: Place(row.round, row.slot, row.version)
            for row in self.rows
            if version - REMEMBERED_ROUNDS <= row.round < version
        }
        stored = StoredRun(self.run_spec, False, self.snapshot, since, self.closings, kept)
        self.restarted = Ledger.restore(stored)

    @invariant()
    def both_are_in_the_same_state(self):
        assert self.steady.version == self.restarted.version
        assert self.steady.totals == self.restarted.totals
        one, two = self.steady.snapshot, self.restarted.snapshot
        for left, right in zip(
            (one.parameters, *one.memory), (two.parameters, *two.memory), strict=True
        ):
            assert left.tobytes() == right.tobytes()
        assert self.steady.received_slots == self.restarted.received_slots


CrashAnywhere.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
test_a_restart_at_any_point_gives_the_same_bits = CrashAnywhere.TestCase


def test_a_snapshot_that_lost_its_memory_is_refused():
    run = a_run(strategy="fed_adam")
    bare = Snapshot(3, run.initial_parameters())
    with pytest.raises(InvalidInput, match="fed_adam goes on with 2 memory vectors of its server"):
        Ledger.restore(StoredRun(run, False, bare, [], (), {}))


def test_a_journal_with_a_gap_is_refused():
    run = a_run()
    start = Snapshot(0, run.initial_parameters())
    row = RoundUpdate("r-3-0-0", 3, 0, 3, 3, 4, 1.0, 1, bytes(12), 12)
    with pytest.raises(InvalidInput, match="updates of round 3, but ends in 0"):
        Ledger.restore(StoredRun(run, False, start, [row], (), {}))
