"""What the aggregator promises while its storage blocks, fails or dies under it."""

import asyncio
import threading

import numpy as np
import pytest

from services.aggregator.adapters.memory import MemoryJournal
from services.aggregator.adapters.sql import open_journal
from services.aggregator.checkpoints import write_newest
from services.aggregator.core import Submission, Totals
from services.aggregator.group_commit import Receipt
from services.aggregator.keeper import Keeper, SnapshotPolicy
from services.hosting.errors import Conflict, NotFound, NotReady, StorageFailed
from tinyfleet.checkpoint import load_checkpoint
from tinyfleet.codec.dense import encode_dense
from tinyfleet.errors import InvalidInput
from tinyfleet.model.layers import Dense
from tinyfleet.model.spec import ModelSpec
from tinyfleet.readings import Level
from tinyfleet.run import RunSpec
from tinyfleet.strategies import Update
from tinyfleet.strategies.server import initial_state, next_state
from tinyfleet.telemetry import NoTelemetry

SLOTS = 2
TINY = ModelSpec("tiny", (1, 1, 2), (Dense(units=1),), "mean_squared_error")
SELDOM = SnapshotPolicy(rounds=10**6, bytes=1 << 40)


def a_run(rounds=50, slots=SLOTS, model=TINY, strategy="reptile"):
    options = {"samples": 4, "batch_size": 2, "passes": 1, "inner_rate": 0.1, "outer_rate": 1.0}
    return RunSpec(model, "sine", strategy, rounds, 1, {}, options | {"agents_per_round": slots})


class UnreliableJournal(MemoryJournal):
    """A journal that fails, blocks or dies as told. commits: (entries, closings) of each append."""

    def __init__(self):
        super().__init__()
        self.failing = False
        self.gate = threading.Event()
        self.gate.set()
        self.commits = []
        self.snapshots = []

    def append(self, entries, closings):
        self.gate.wait(10)
        if self.failing:
            raise StorageFailed("cannot store updates: disk is full; free some room")
        super().append(entries, closings)
        self.commits.append((list(entries), list(closings)))

    def snapshot(self, run_id, snapshot, ended):
        self.gate.wait(10)
        if self.failing:
            raise StorageFailed("cannot store a snapshot: disk is full; free some room")
        super().snapshot(run_id, snapshot, ended)
        self.snapshots.append((snapshot.version, ended))


class Told(NoTelemetry):
    """Remembers what was reported."""

    def __init__(self):
        self.samples = []

    def report(self, name, value, unit="", run_id="", round=None):
        self.samples.append((name, value, unit, run_id, round))


@pytest.fixture
def journal():
    return UnreliableJournal()


@pytest.fixture
async def keeper(journal):
    made = Keeper(journal, SELDOM, NoTelemetry())
    await made.open_run("a", a_run())
    yield made
    journal.gate.set()
    journal.failing = False
    await made.close()


def delta_of(round, slot):
    return np.full(3, 0.001 * (round + 1) + slot, np.float32)


def submit(keeper, round, slot=0, attempt=0, run_id="a", **changes):
    """Hand in an update; the future of its receipt."""
    answered = asyncio.get_running_loop().create_future()
    values = {
        "assignment_id": f"{run_id}-{round}-{slot}-{attempt}",
        "round": round,
        "slot": slot,
        "base_version": round,
        "samples": 4,
        "loss": 1.0,
        "training_us": 3,
        "diverged": False,
        "data": encode_dense(delta_of(round, slot)),
    }
    keeper.submit(
        run_id, Submission(**(values | changes)), lambda *answer: answered.set_result(answer)
    )
    return answered


async def status(future):
    return (await asyncio.wait_for(future, 5))[0]


async def fill(keeper, rounds, first=0):
    for number in range(first, first + rounds):
        for slot in range(SLOTS):
            assert await status(submit(keeper, number, slot)) is Receipt.ACCEPTED


def expected_after(rounds, strategy="reptile"):
    run = a_run(strategy=strategy)
    rule = run.make_strategy()
    state = initial_state(rule, run.initial_parameters())
    for number in range(rounds):
        updates = [Update(slot, delta_of(number, slot), 4) for slot in range(SLOTS)]
        state = next_state(rule, state, updates, number)
    return state.parameters


async def latest(keeper, run_id="a"):
    return await keeper.model(run_id, None)


async def test_rounds_are_folded_in_the_order_of_their_slots(keeper):
    await fill(keeper, 3)
    model = await latest(keeper)
    assert (model.version, model.parameters.tobytes()) == (3, expected_after(3).tobytes())


async def test_no_receipt_before_the_update_is_stored(keeper, journal):
    journal.gate.clear()
    receipt = submit(keeper, 0)
    await asyncio.sleep(0.05)
    assert not receipt.done()
    assert journal.commits == []
    journal.gate.set()
    assert await status(receipt) is Receipt.ACCEPTED
    assert len(journal.commits) == 1


async def test_updates_that_arrive_during_a_commit_share_the_next_one(keeper, journal):
    await keeper.open_run("b", a_run(slots=40))
    journal.gate.clear()
    first = submit(keeper, 0)
    await asyncio.sleep(0.05)
    others = [submit(keeper, 0, slot, run_id="b") for slot in range(20)]
    journal.gate.set()
    for receipt in (first, *others):
        assert await status(receipt) is Receipt.ACCEPTED
    assert [len(entries) for entries, _ in journal.commits] == [1, 20]


async def test_failed_storage_acknowledges_nothing_and_recovers(keeper, journal):
    health = []
    keeper.report_storage_to(health.append)
    journal.failing = True
    for _ in range(3):
        receipt, message = await submit(keeper, 0)
        assert receipt is Receipt.RETRY
        assert "disk is full" in message
    assert (await latest(keeper)).version == 0
    journal.failing = False
    await fill(keeper, 1)
    assert health == [False, True]
    model = await latest(keeper)
    assert (model.version, model.parameters.tobytes()) == (1, expected_after(1).tobytes())


async def test_failed_storage_is_logged_once(keeper, journal, caplog):
    journal.failing = True
    for _ in range(5):
        await submit(keeper, 0)
    assert [record.levelname for record in caplog.records].count("ERROR") == 1


async def test_an_unexpected_storage_error_acknowledges_nothing(keeper, journal, monkeypatch):
    def broken(entries, closings):
        raise RuntimeError("surprise")

    monkeypatch.setattr(journal, "append", broken)
    receipt, message = await submit(keeper, 0)
    assert receipt is Receipt.RETRY
    assert "RuntimeError: surprise" in message


async def test_a_repeat_during_the_commit_gets_the_same_answer(keeper, journal):
    journal.gate.clear()
    first, again = submit(keeper, 0), submit(keeper, 0)
    journal.gate.set()
    assert [await status(first), await status(again)] == [Receipt.ACCEPTED, Receipt.ACCEPTED]
    assert sum(len(entries) for entries, _ in journal.commits) == 1


async def test_a_rival_during_the_commit_is_late(keeper, journal):
    journal.gate.clear()
    first, rival = submit(keeper, 0), submit(keeper, 0, attempt=1)
    journal.gate.set()
    assert [await status(first), await status(rival)] == [Receipt.ACCEPTED, Receipt.LATE]


async def test_a_rival_counts_when_the_first_could_not_be_stored(keeper, journal):
    journal.gate.clear()
    journal.failing = True
    first, rival = submit(keeper, 0), submit(keeper, 0, attempt=1)
    await asyncio.sleep(0.05)
    journal.gate.set()
    assert await status(first) is Receipt.RETRY
    journal.failing = False
    assert await status(rival) in (Receipt.ACCEPTED, Receipt.RETRY)


async def test_closing_a_round_folds_what_is_stored(keeper, journal):
    assert await status(submit(keeper, 0, 1)) is Receipt.ACCEPTED
    await keeper.close_round("a", 0)
    await keeper.close_round("a", 0)
    run = a_run()
    parts = [Update(1, delta_of(0, 1), 4)]
    folded = run.make_strategy().apply(run.initial_parameters(), parts, 0)
    assert (await latest(keeper)).parameters.tobytes() == folded.tobytes()
    assert await status(submit(keeper, 0, 0)) is Receipt.LATE
    restarted = Keeper(journal, SELDOM, NoTelemetry())
    assert (await latest(restarted)).parameters.tobytes() == folded.tobytes()


async def test_a_round_closes_with_what_was_on_its_way_to_the_disk(keeper, journal):
    assert await status(submit(keeper, 0, 1)) is Receipt.ACCEPTED
    journal.gate.clear()
    other = submit(keeper, 0, 0)
    closing = asyncio.create_task(keeper.close_round("a", 0))
    await asyncio.sleep(0.02)
    journal.gate.set()
    await closing
    assert await status(other) is Receipt.ACCEPTED
    assert (await latest(keeper)).parameters.tobytes() == expected_after(1).tobytes()


@pytest.mark.parametrize("round", [0, 1])
async def test_a_round_without_updates_is_not_closed(keeper, round):
    with pytest.raises(NotReady):
        await keeper.close_round("a", round)


async def test_a_closing_that_could_not_be_stored_did_not_happen(keeper, journal):
    await submit(keeper, 0, 1)
    journal.failing = True
    with pytest.raises(StorageFailed):
        await keeper.close_round("a", 0)
    journal.failing = False
    assert (await latest(keeper)).version == 0
    assert await status(submit(keeper, 0, 0)) is Receipt.ACCEPTED
    assert (await latest(keeper)).parameters.tobytes() == expected_after(1).tobytes()


async def test_ending_a_run_keeps_its_model_and_refuses_updates(keeper, journal):
    await fill(keeper, 2)
    ended = await keeper.end_run("a")
    assert (await keeper.end_run("a")).parameters is ended.parameters
    assert (ended.version, ended.parameters.tobytes()) == (2, expected_after(2).tobytes())
    assert journal.snapshots == [(2, True)]
    assert await status(submit(keeper, 2)) is Receipt.LATE
    assert await status(submit(keeper, 1)) is Receipt.ACCEPTED  # a repeat


async def test_a_run_whose_end_could_not_be_stored_goes_on(keeper, journal):
    await fill(keeper, 1)
    journal.failing = True
    with pytest.raises(StorageFailed):
        await keeper.end_run("a")
    journal.failing = False
    await fill(keeper, 1, first=1)
    assert (await latest(keeper)).version == 2


async def test_opening_a_run_again_does_nothing(keeper):
    await fill(keeper, 1)
    await keeper.open_run("a", a_run())
    assert (await latest(keeper)).version == 1


async def test_opening_a_run_with_another_spec_is_refused(keeper):
    with pytest.raises(Conflict, match="another spec"):
        await keeper.open_run("a", a_run(rounds=51))


async def test_opening_a_run_of_another_coordinator_is_refused(keeper):
    await keeper.open_run("new", a_run(), b"k" * 32)
    await keeper.open_run("new", a_run(), b"k" * 32)
    for other in (b"j" * 32, b""):
        with pytest.raises(Conflict, match="belongs to another coordinator"):
            await keeper.open_run("new", a_run(), other)
    assert keeper.grant_key("new") == b"k" * 32


async def test_a_run_from_before_grants_goes_on_without_them(keeper):
    await keeper.open_run("a", a_run(), b"k" * 32)
    assert keeper.grant_key("a") == b""


async def test_opening_a_run_twice_at_once_makes_one(keeper):
    await asyncio.gather(*(keeper.open_run("new", a_run()) for _ in range(5)))
    assert (await latest(keeper, "new")).version == 0


async def test_a_round_too_large_for_memory_is_refused(keeper):
    layers = (Dense(units=1024), Dense(units=4096), Dense(units=1))
    large = ModelSpec("large", (1, 1, 1), layers, "mean_squared_error")
    with pytest.raises(InvalidInput, match="fewer agents_per_round"):
        await keeper.open_run("new", a_run(slots=1024, model=large))


@pytest.mark.parametrize("call", ["close_round", "end_run", "watch", "model"])
async def test_an_unknown_run_is_not_found(keeper, call):
    arguments = {"close_round": (0,), "model": (None,)}.get(call, ())
    with pytest.raises(NotFound, match="no run nobody"):
        await getattr(keeper, call)("nobody", *arguments)


async def test_the_initial_and_the_latest_model_are_kept(keeper):
    await fill(keeper, 3)
    assert (await keeper.model("a", 0)).parameters.tobytes() == expected_after(0).tobytes()
    assert (await keeper.model("a", 3)).version == 3
    with pytest.raises(NotFound, match="ask for 0 or 3"):
        await keeper.model("a", 2)


async def test_snapshots_come_by_rounds_and_change_nothing(journal):
    keeper = Keeper(journal, SnapshotPolicy(rounds=4, bytes=1 << 40), NoTelemetry())
    await keeper.open_run("a", a_run())
    await fill(keeper, 10)
    await asyncio.sleep(0.05)
    assert journal.snapshots[0] == (4, False)
    assert journal.snapshots[-1] == (8, False)
    await keeper.close()
    assert journal.snapshots[-1] == (10, False)
    restarted = Keeper(journal, SELDOM, NoTelemetry())
    model = await latest(restarted)
    assert (model.version, model.parameters.tobytes()) == (10, expected_after(10).tobytes())
    told = await (await restarted.watch("a")).next()
    assert told.totals == Totals(updates=20, samples=80, bytes_up=240, diverged=0, bytes_down=240)
    await restarted.close()


@pytest.mark.parametrize("strategy", ["fed_avg_m", "fed_adam", "fed_yogi"])
async def test_what_a_rule_remembers_outlives_the_process(tmp_path, strategy):
    for first, last in ((0, 6), (6, 7), (7, 13)):  # between two snapshots, after one round, beyond
        policy = SnapshotPolicy(rounds=4, bytes=1 << 40)
        keeper = Keeper(open_journal(tmp_path), policy, NoTelemetry())
        await keeper.open_run("a", a_run(strategy=strategy))
        await fill(keeper, last - first, first)
        model = await latest(keeper)
        expected = expected_after(last, strategy)
        assert (model.version, model.parameters.tobytes()) == (last, expected.tobytes())
        await keeper.close()


@pytest.mark.parametrize(
    ("rounds", "size", "due"), [(1, 0, False), (4, 0, True), (1, 99, False), (1, 100, True)]
)
def test_a_snapshot_is_due_by_rounds_or_bytes(rounds, size, due):
    assert SnapshotPolicy(rounds=4, bytes=100).is_due(rounds, size, 1) is due


def test_a_large_model_is_not_stored_over_and_over():
    assert not SnapshotPolicy(rounds=99, bytes=100).is_due(1, 7999, 1000)


async def test_a_snapshot_that_fails_stops_nothing(journal, caplog):
    keeper = Keeper(journal, SnapshotPolicy(rounds=2, bytes=1 << 40), NoTelemetry())
    await keeper.open_run("a", a_run())
    await fill(keeper, 1)
    assert await status(submit(keeper, 1, 0)) is Receipt.ACCEPTED
    snapshot = journal.snapshot

    def broken(*arguments):
        raise StorageFailed("cannot store a snapshot: disk is full; free some room")

    journal.snapshot = broken
    assert await status(submit(keeper, 1, 1)) is Receipt.ACCEPTED
    await fill(keeper, 3, first=2)
    journal.snapshot = snapshot
    assert "the journal grows" in caplog.text
    assert (await latest(keeper)).parameters.tobytes() == expected_after(5).tobytes()
    await keeper.close()


async def test_a_large_round_is_folded_beside_the_loop_with_the_same_result(keeper, monkeypatch):
    monkeypatch.setattr("services.aggregator.keeper.MAX_LOOP_FOLD_BYTES", 0)
    watcher = await keeper.watch("a")
    await watcher.next()
    for number in range(3):
        receipts = [submit(keeper, number, slot) for slot in range(SLOTS)]
        assert [await status(one) for one in receipts] == [Receipt.ACCEPTED] * SLOTS
        while (await watcher.next()).version == number:
            pass
    assert (await latest(keeper)).parameters.tobytes() == expected_after(3).tobytes()


async def test_followers_hear_of_slots_refusals_rounds_and_the_end(keeper):
    watcher = await keeper.watch("a")
    first = await watcher.next()
    assert (first.version, first.received_slots, first.ended) == (0, [], False)
    assert first.parameters == expected_after(0).tobytes()
    await submit(keeper, 0, 1)
    assert (await watcher.next()).received_slots == [1]
    await submit(keeper, 0, 0, samples=0)
    refused = (await watcher.next()).refused
    assert [entry.assignment_id for entry in refused] == ["a-0-0-0"]
    await submit(keeper, 0, 0)
    change = await watcher.next()
    assert (change.version, change.parameters) == (1, expected_after(1).tobytes())
    assert [closed.round for closed in change.closed] == [0]
    await keeper.end_run("a")
    assert (await watcher.next()).ended
    assert await watcher.next() is None


async def test_a_follower_that_comes_late_gets_the_whole_state(keeper):
    await fill(keeper, 2)
    await submit(keeper, 2, 1)
    change = await (await keeper.watch("a")).next()
    assert (change.version, change.received_slots) == (2, [1])
    assert change.totals == Totals(updates=4, samples=16, bytes_up=48, diverged=0, bytes_down=48)
    assert change.parameters == expected_after(2).tobytes()


def an_overlapping_run():
    options = {"buffer": 1, "concurrency": 3, "max_staleness": 1, "samples": 4}
    return RunSpec(TINY, "sine", "fed_buff", 50, 1, {}, options)


async def test_followers_of_overlapping_rounds_hear_of_open_slots_and_stale_updates(keeper):
    await keeper.open_run("b", an_overlapping_run())
    watcher = await keeper.watch("b")
    assert (await watcher.next()).open_slots == (0, 1, 2)
    for version, place in enumerate((1, 2)):
        receipt = submit(keeper, place, run_id="b", base_version=version)
        assert await status(receipt) is Receipt.ACCEPTED
    change = await watcher.next()
    assert (change.version, change.open_slots, change.received_slots) == (2, (0, 3, 4), [])
    receipt, reason = await submit(keeper, 0, run_id="b", base_version=0)
    assert receipt is Receipt.LATE
    refused = (await watcher.next()).refused
    assert refused == [("b-0-0-0", reason, True)]
    assert "trained from version 0, 2 is the newest" in reason


async def test_overlapping_rounds_are_the_same_after_a_restart(journal):
    first = Keeper(journal, SnapshotPolicy(rounds=2, bytes=1 << 40), NoTelemetry())
    await first.open_run("b", an_overlapping_run())
    for version, place in enumerate((1, 2, 0, 4, 3)):
        receipt = submit(first, place, run_id="b", base_version=max(0, version - 1))
        assert await status(receipt) is Receipt.ACCEPTED
    second = Keeper(journal, SELDOM, NoTelemetry())  # the first one is never closed
    await second.start()
    before, after = await first.model("b", None), await second.model("b", None)
    assert before.version == after.version == 5
    assert before.parameters.tobytes() == after.parameters.tobytes()
    assert (await (await second.watch("b")).next()).open_slots == (5, 6, 7)
    assert await status(submit(second, 4, run_id="b", base_version=2)) is Receipt.ACCEPTED
    await first.close()
    await second.close()


async def test_a_burst_for_a_full_buffer_is_taken_one_version_after_the_other(keeper, journal):
    await keeper.open_run("b", an_overlapping_run())
    journal.gate.clear()
    receipts = [submit(keeper, place, run_id="b", base_version=0) for place in (2, 0, 1)]
    journal.gate.set()
    assert await status(receipts[0]) is Receipt.ACCEPTED
    assert await status(receipts[1]) is Receipt.ACCEPTED
    assert await status(receipts[2]) is Receipt.LATE  # two versions behind by then
    assert (await keeper.model("b", None)).version == 2


async def test_ended_runs_do_not_pile_up_in_memory(keeper):
    for number in range(30):
        await keeper.open_run(f"run{number}", a_run())
        await keeper.end_run(f"run{number}")
    loaded = [number for number in range(30) if keeper.known_exchange(f"run{number}")]
    assert len(loaded) <= 8
    assert (await latest(keeper, "run0")).version == 0


async def test_measurements_are_sampled(journal):
    told = Told()
    keeper = Keeper(journal, SELDOM, told)
    await keeper.open_run("a", a_run())
    await fill(keeper, 1)
    names = {name for name, *_ in told.samples}
    assert names == {"commit_seconds", "updates_refused_total"}  # the coordinator has the rest
    assert ("commit_seconds", "seconds", "a", 0) in {(s[0], *s[2:]) for s in told.samples}
    await keeper.close()


class DyingJournal(UnreliableJournal):
    """Dies before or after its n-th write, as a process under kill -9 does."""

    def __init__(self, at, after):
        super().__init__()
        self.at, self.after = at, after
        self.dead = threading.Event()

    def append(self, entries, closings):
        self._write(super().append, entries, closings)

    def snapshot(self, *arguments):
        self._write(super().snapshot, *arguments)

    def _write(self, write, *arguments):
        if self.dead.is_set():
            raise SystemExit
        self.at -= 1
        if self.at or self.after:
            write(*arguments)
        if not self.at:
            self.dead.set()
            raise SystemExit


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # the death
@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("at", range(1, 16))
async def test_nothing_acknowledged_is_lost_wherever_it_dies(at, after):
    """Both sides of each write; then the agents send again what got no receipt."""
    journal = DyingJournal(at, after)
    policy = SnapshotPolicy(rounds=2, bytes=1 << 40)
    doomed = Keeper(journal, policy, NoTelemetry())
    await doomed.open_run("a", a_run())
    done = 0
    while not journal.dead.is_set():
        receipt = submit(doomed, done // SLOTS, done % SLOTS)
        while not (receipt.done() or journal.dead.is_set()):  # noqa: ASYNC110 - dies in a thread
            await asyncio.sleep(0.001)
        done += receipt.done()
    survivor = UnreliableJournal()
    survivor._records = journal._records
    keeper = Keeper(survivor, policy, NoTelemetry())
    await keeper.start()
    before = await latest(keeper)
    assert before.version in (done // SLOTS, (done + 1) // SLOTS)
    assert before.parameters.tobytes() == expected_after(before.version).tobytes()
    for number in range(max(0, done - 4), 20):  # some of them for the second time
        assert await status(submit(keeper, number // SLOTS, number % SLOTS)) is Receipt.ACCEPTED
    model = await latest(keeper)
    assert (model.version, model.parameters.tobytes()) == (10, expected_after(10).tobytes())
    await keeper.close()


async def test_started_again_it_loads_nothing_twice(keeper, caplog):
    caplog.set_level("INFO")
    await keeper.start()
    assert "run restored" not in caplog.text
    assert await status(submit(keeper, 0)) is Receipt.ACCEPTED


async def test_readings_tell_of_the_journal_and_of_what_was_taken(keeper, journal):
    storage, runs = keeper.readings()
    assert storage.level is Level.OK
    assert set(runs.values.items()) >= {("open_runs", 1), ("updates", 0), ("accepted", 0)}
    journal.failing = True
    assert await status(submit(keeper, 0)) is Receipt.RETRY
    storage, _ = keeper.readings()
    assert storage.level is Level.ERROR
    assert "disk is full" in storage.message
    journal.failing = False
    assert await status(submit(keeper, 0)) is Receipt.ACCEPTED
    assert await status(submit(keeper, 0, 1)) is Receipt.ACCEPTED
    keeper.refuse("a", "some-id", "not what it should be")
    _, runs = keeper.readings()
    size = a_run().model.parameter_bytes
    counted = ("accepted", "not_stored", "refused", "late", "diverged", "bytes_up", "bytes_down")
    assert [runs.values[name] for name in counted] == [2, 1, 1, 0, 0, 2 * size, 2 * size]


async def test_checkpoint_is_of_the_newest_run_that_goes_on_else_of_the_newest(keeper, tmp_path):
    await keeper.open_run("b", a_run(rounds=3))
    await asyncio.gather(submit(keeper, 0, 0, run_id="b"), submit(keeper, 0, 1, run_id="b"))
    path = await write_newest(keeper, tmp_path / "new" / "folder")
    assert path.name == "b-1.tinyfleet"
    saved, model = load_checkpoint(path), await keeper.model("b", None)
    assert (saved.run_id, saved.version, saved.run) == ("b", 1, model.run)
    assert np.array_equal(saved.parameters, model.parameters)
    await keeper.end_run("b")
    assert (await write_newest(keeper, tmp_path)).name == "a-0.tinyfleet"
    await keeper.end_run("a")
    assert (await write_newest(keeper, tmp_path)).name == "b-1.tinyfleet"


async def test_checkpoint_without_a_run_or_a_folder_says_so(journal, tmp_path):
    empty = Keeper(journal, SELDOM, NoTelemetry())
    with pytest.raises(NotFound, match="there is no run yet"):
        await write_newest(empty, tmp_path)
    await empty.open_run("a", a_run())
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidInput, match="cannot make folder"):
        await write_newest(empty, tmp_path / "file" / "folder")
    await empty.close()
