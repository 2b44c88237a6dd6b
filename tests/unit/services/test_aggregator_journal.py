"""One contract, two journals; then what only the one on disk can promise."""

import json
import shutil
import sqlite3

import numpy as np
import pytest
from sqlalchemy import inspect, text

from services.aggregator.adapters.memory import MemoryJournal
from services.aggregator.adapters.sql import MIGRATIONS, TABLES, open_journal
from services.aggregator.core import REMEMBERED_ROUNDS, RoundUpdate, Snapshot, Totals
from services.aggregator.ports import Closing, Entry
from services.hosting.database import disagreements, open_database
from services.hosting.errors import Occupied, StorageFailed
from tinyfleet.checkpoint import run_to_document
from tinyfleet.run import make_run
from tinyfleet.tasks import make_task


@pytest.fixture(params=["memory", "sqlite"])
def journal(request, tmp_path):
    made = MemoryJournal() if request.param == "memory" else open_journal(tmp_path)
    yield made
    made.close()


@pytest.fixture
def disk(tmp_path):
    made = open_journal(tmp_path)
    yield made
    made.close()


RUN = make_run(make_task("sine", {}, None), "reptile", 100, 2**63 - 1, "mlp_32")
START = RUN.initial_parameters()
INITIAL = Snapshot(0, START)
TOTALS = Totals(updates=2**40, samples=2**50, bytes_up=2**60, diverged=3, bytes_down=2**61)


def model(value):
    return np.full_like(START, value)


def entry(round, slot=0, run_id="a", value=0.25, diverged=False, **changes):
    values = {
        "assignment_id": f"{run_id}-{round}-{slot}-0",
        "round": round,
        "slot": slot,
        "version": round,
        "base_version": round,
        "samples": 50,
        "loss": 0.1 + 0.2,
        "training_us": 2**53,
        "data": None if diverged else model(value).tobytes(),
        "start_bytes": 2**40 + round,
    }
    return Entry(run_id, RoundUpdate(**(values | changes)))


def shown(update):
    data = None if update.data is None else bytes(update.data)
    return (
        update.assignment_id,
        update.round,
        update.slot,
        update.samples,
        update.loss,
        update.training_us,
        data,
    )


def same(left, right):
    order = sorted(shown(update) for update in right)
    return sorted(shown(update) for update in left) == order


def test_a_new_run_is_loaded_as_it_was_stored(journal):
    journal.create("a", RUN, INITIAL)
    stored = journal.load("a")
    assert stored.run == RUN
    assert (stored.ended, stored.snapshot.version) == (False, 0)
    assert stored.snapshot.parameters.tobytes() == START.tobytes()
    assert (list(stored.updates), set(stored.closings), stored.remembered) == ([], set(), {})


def test_what_grants_are_made_with_is_kept(journal):
    journal.create("a", RUN, INITIAL)
    journal.create("b", RUN, INITIAL, b"k" * 32)
    assert [journal.load(name).grant_key for name in "ab"] == [b"", b"k" * 32]


def test_there_is_no_run_of_an_unknown_id(journal):
    assert journal.load("a") is None
    assert journal.parameters("a", 0) is None
    assert journal.run_ids(ended=False) == []


def test_a_run_is_not_stored_twice(journal):
    journal.create("a", RUN, INITIAL)
    with pytest.raises(StorageFailed):
        journal.create("a", RUN, Snapshot(0, model(1)))
    assert journal.load("a").snapshot.parameters.tobytes() == START.tobytes()


def test_updates_come_back_bit_for_bit(journal):
    journal.create("a", RUN, INITIAL)
    journal.create("b", RUN, INITIAL)
    rng = np.random.default_rng(0)
    first, second = rng.bytes(4 * len(START)), rng.bytes(17)  # whatever the encoding
    mine = [entry(0, 1, data=first), entry(1, 0, data=second), entry(0, 2, diverged=True)]
    journal.append([mine[0], entry(0, run_id="b")], [])
    journal.append(mine[1:], [Closing("a", 0)])
    stored = journal.load("a")
    assert same(stored.updates, [one.update for one in mine])
    assert set(stored.closings) == {0}
    assert len(journal.load("b").updates) == 1


def test_a_slot_is_stored_once_and_nothing_of_that_call_is(journal):
    journal.create("a", RUN, INITIAL)
    journal.append([entry(0, 1)], [])
    with pytest.raises(StorageFailed):
        journal.append([entry(0, 2), entry(0, 1, value=9.0)], [Closing("a", 0)])
    stored = journal.load("a")
    assert same(stored.updates, [entry(0, 1).update])
    assert set(stored.closings) == set()


def test_it_goes_on_after_a_call_that_failed(journal):
    journal.create("a", RUN, INITIAL)
    journal.append([entry(0, 1)], [])
    with pytest.raises(StorageFailed):
        journal.append([entry(0, 1)], [])
    journal.append([entry(0, 2)], [])
    assert len(journal.load("a").updates) == 2


def test_a_snapshot_replaces_what_led_to_it(journal):
    journal.create("a", RUN, INITIAL)
    last = REMEMBERED_ROUNDS + 3
    for number in range(last + 1):
        journal.append([entry(number)], [Closing("a", number)])
    journal.snapshot("a", Snapshot(last, model(7), TOTALS), ended=False)
    stored = journal.load("a")
    assert (stored.snapshot.version, stored.snapshot.parameters.tobytes()) == (
        last,
        model(7).tobytes(),
    )
    assert stored.snapshot.totals == TOTALS
    assert same(stored.updates, [entry(last).update])
    assert set(stored.closings) == {last}
    kept = range(last - REMEMBERED_ROUNDS, last)
    assert stored.remembered == {f"a-{number}-0-0": (number, 0, number) for number in kept}


def test_where_rounds_overlap_a_snapshot_has_what_was_applied_to_it(journal):
    journal.create("a", RUN, INITIAL)
    applied = [entry(7, version=0, base_version=0), entry(3, version=1, base_version=0)]
    since = [entry(9, version=2, base_version=1), entry(0, version=2, base_version=2)]
    since.append(entry(1, version=3, base_version=1))
    journal.append([*applied, *since], [])
    journal.snapshot("a", Snapshot(2, model(2), TOTALS, missing=(0, 1, 2)), ended=False)
    stored = journal.load("a")
    assert stored.snapshot.missing == (0, 1, 2)
    assert [shown(one) for one in stored.updates] == [shown(one.update) for one in since]
    bases = [(one.version, one.base_version) for one in stored.updates]
    assert bases == [(2, 1), (2, 2), (3, 1)]
    assert stored.remembered == {"a-7-0-0": (7, 0, 0), "a-3-0-0": (3, 0, 1)}
    last = REMEMBERED_ROUNDS + 1
    journal.snapshot("a", Snapshot(last, model(3), TOTALS), ended=False)
    assert set(journal.load("a").remembered) == {"a-3-0-0", "a-9-0-0", "a-0-0-0", "a-1-0-0"}


@pytest.mark.parametrize("vectors", [0, 1, 2])
def test_memory_comes_back_bit_for_bit_with_its_snapshot(journal, vectors):
    journal.create("a", RUN, INITIAL)
    random = np.random.default_rng(0)
    memory = tuple(random.normal(size=(vectors, len(START))).astype(np.float32))
    journal.snapshot("a", Snapshot(5, model(5), TOTALS, memory), ended=False)
    found = journal.load("a").snapshot
    assert [vector.tobytes() for vector in found.memory] == [m.tobytes() for m in memory]
    assert all(vector.dtype == np.float32 for vector in found.memory)
    journal.snapshot("a", Snapshot(9, model(9), TOTALS, memory[:1]), ended=False)
    assert len(journal.load("a").snapshot.memory) == min(vectors, 1)


def test_version_0_and_the_newest_snapshot_are_kept(journal):
    journal.create("a", RUN, INITIAL)
    journal.snapshot("a", Snapshot(5, model(5), TOTALS), ended=False)
    journal.snapshot("a", Snapshot(9, model(9), TOTALS), ended=False)
    assert journal.parameters("a", 0).tobytes() == START.tobytes()
    assert journal.parameters("a", 5) is None
    assert journal.parameters("a", 9).tobytes() == model(9).tobytes()


def test_a_run_that_ends_before_its_first_round_keeps_version_0(journal):
    journal.create("a", RUN, INITIAL)
    journal.snapshot("a", Snapshot(0, START, TOTALS), ended=True)
    stored = journal.load("a")
    assert (stored.ended, stored.snapshot.version) == (True, 0)
    assert stored.snapshot.parameters.tobytes() == START.tobytes()


def test_an_ended_run_remembers_the_ids_of_its_last_updates(journal):
    journal.create("a", RUN, INITIAL)
    journal.append([entry(4), entry(5, 2)], [])
    journal.snapshot("a", Snapshot(5, model(5), TOTALS), ended=True)
    stored = journal.load("a")
    assert list(stored.updates) == []
    assert stored.remembered == {"a-4-0-0": (4, 0, 4), "a-5-2-0": (5, 2, 5)}


def test_runs_are_listed_by_whether_they_have_ended_oldest_first(journal):
    for name in ("c", "a", "b"):
        journal.create(name, RUN, INITIAL)
    journal.snapshot("a", Snapshot(1, model(1), TOTALS), ended=True)
    assert journal.run_ids(ended=False) == ["c", "b"]
    assert journal.run_ids(ended=True) == ["a"]


def test_what_is_stored_outlives_the_journal_object(tmp_path):
    first = open_journal(tmp_path)
    first.create("a", RUN, INITIAL)
    first.append([entry(0)], [])
    first.close()
    second = open_journal(tmp_path)
    assert same(second.load("a").updates, [entry(0).update])
    second.close()


def test_a_damaged_memory_is_named(disk):
    disk.create("a", RUN, INITIAL)
    disk.snapshot("a", Snapshot(5, model(5), TOTALS, (model(1),)), ended=False)
    disk._writer.exec_driver_sql("UPDATE snapshots SET memory = substr(memory, 2)")
    disk._writer.commit()
    with pytest.raises(StorageFailed, match="run a has a damaged snapshot; restore"):
        disk.load("a")


def test_a_database_from_before_there_was_memory_goes_on(tmp_path):
    old = open_journal(tmp_path)
    old.create("a", RUN, INITIAL)
    old.snapshot("a", Snapshot(5, model(5), TOTALS), ended=False)
    for statement in (
        "ALTER TABLE snapshots DROP COLUMN memory",
        "ALTER TABLE snapshots DROP COLUMN missing",
        "ALTER TABLE updates DROP COLUMN version",
        "ALTER TABLE updates DROP COLUMN base_version",
        "ALTER TABLE runs DROP COLUMN grant_key",
        "DROP TABLE file_parts",
        "DROP TABLE files",
        "UPDATE alembic_version SET version_num = '0002'",
    ):
        old._writer.exec_driver_sql(statement)
    old._writer.commit()
    old.close()
    new = open_journal(tmp_path)
    found = new.load("a").snapshot
    assert (found.version, found.parameters.tobytes(), found.memory) == (5, model(5).tobytes(), ())
    new.close()


def test_updates_from_before_rounds_could_overlap_belong_to_their_round(tmp_path):
    old = tmp_path / "migrations/versions"
    old.mkdir(parents=True)
    (last,) = (MIGRATIONS / "versions").glob("*_asynchronous_runs.py")
    for path in last.parent.glob("*.py"):
        if path.name < last.name:
            shutil.copy(path, old)
    engine = open_database(tmp_path, "aggregator", old.parent)
    spec = json.dumps(run_to_document(RUN))
    with engine.begin() as connection:
        write = connection.exec_driver_sql
        write("INSERT INTO runs VALUES ('a', ?, 0)", (spec,))
        write(
            "INSERT INTO snapshots (run_id, version, parameters, updates, samples, bytes_up,"
            " diverged) VALUES ('a', 6, ?, 6, 6, 6, 0)",
            (START.tobytes(),),
        )
        for number in (5, 6, 7):
            write(
                "INSERT INTO updates (run_id, round, slot, assignment_id, samples, loss,"
                " training_us, diverged) VALUES ('a', ?, 0, ?, 1, 0.5, 1, 1)",
                (number, f"a-{number}"),
            )
    engine.dispose()
    journal = open_journal(tmp_path)
    stored = journal.load("a")
    journal.close()
    places = [(one.round, one.version, one.base_version) for one in stored.updates]
    assert places == [(6, 6, 6), (7, 7, 7)]
    assert stored.remembered == {"a-5": (5, 0, 5)}
    assert stored.snapshot.missing == ()
    assert stored.grant_key == b""  # its updates need no grant


def test_tables_and_migrations_agree(tmp_path):
    engine = open_database(tmp_path, "aggregator", MIGRATIONS)
    assert disagreements(engine, TABLES) == []
    assert set(inspect(engine).get_table_names()) == {*TABLES.tables, "alembic_version"}
    engine.dispose()


def test_a_journal_from_before_starts_were_counted_takes_them_for_whole(tmp_path):
    older = shutil.ignore_patterns("000[2-9]_*")
    shutil.copytree(MIGRATIONS, tmp_path / "older", ignore=older)
    engine = open_database(tmp_path, "aggregator", tmp_path / "older")
    spec = json.dumps(run_to_document(RUN))
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO runs VALUES ('a', :spec, 0)"), {"spec": spec})
        row = {"data": model(1.0).tobytes()}
        connection.execute(text("INSERT INTO snapshots VALUES ('a', 2, :data, 7, 8, 9, 0)"), row)
        update = "INSERT INTO updates VALUES (1, 'a', 2, 0, 'a-2-0-0', 5, 0.5, 3, 0, :data)"
        connection.execute(text(update), row)
    engine.dispose()
    newer = open_journal(tmp_path)
    stored = newer.load("a")
    assert stored.snapshot.totals == Totals(7, 8, 9, 0, bytes_down=7 * 4612)
    assert [update.start_bytes for update in stored.updates] == [4612]
    newer.append([entry(2, 1)], [])
    newer.snapshot("a", Snapshot(3, START, TOTALS), ended=False)
    assert newer.load("a").snapshot.totals == TOTALS
    newer.close()


def test_a_second_process_on_the_same_folder_is_refused(disk, tmp_path):
    with pytest.raises(Occupied, match="in use by process"):
        open_journal(tmp_path)


def test_a_full_disk_stores_nothing_and_passes(disk):
    disk.create("a", RUN, INITIAL)
    writer = disk._writer
    pages = writer.exec_driver_sql("PRAGMA page_count").scalar()
    writer.exec_driver_sql(f"PRAGMA max_page_count={pages + 2}")
    writer.rollback()
    with pytest.raises(StorageFailed, match="full; free some room"):
        disk.append([entry(0, slot) for slot in range(50)], [])
    assert list(disk.load("a").updates) == []
    writer.exec_driver_sql("PRAGMA max_page_count=1000000")
    writer.rollback()
    disk.append([entry(0, slot) for slot in range(50)], [])
    assert len(disk.load("a").updates) == 50


def test_a_locked_database_stores_nothing_and_passes(disk, tmp_path):
    disk.create("a", RUN, INITIAL)
    disk._writer.exec_driver_sql("PRAGMA busy_timeout=10")
    disk._writer.rollback()
    other = sqlite3.connect(tmp_path / "aggregator.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StorageFailed, match="locked"):
        disk.append([entry(0)], [])
    other.execute("ROLLBACK")
    other.close()
    disk.append([entry(0)], [])
    assert len(disk.load("a").updates) == 1


def test_a_commit_is_synced(disk):
    values = [
        disk._writer.exec_driver_sql(f"PRAGMA {name}").scalar()
        for name in ("journal_mode", "synchronous")
    ]
    assert values == ["wal", 2]
