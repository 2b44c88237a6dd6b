"""A backup of a site agrees with itself, and comes back as it was."""

import fcntl
import os
import shutil
import sqlite3

import numpy as np
import pytest

from services.aggregator.adapters.sql import open_journal
from services.aggregator.core import RoundUpdate, Snapshot
from services.aggregator.ports import Entry
from services.coordinator.adapters.sql import open_store
from services.coordinator.runs import RunRecord
from services.metrics.adapters.sql import open_store as open_metrics
from tinyfleet.backup import copying, restoring
from tinyfleet.backup.archive import Contents, write_archive
from tinyfleet.backup.copying import copy_databases, find_databases
from tinyfleet.backup.restoring import restore
from tinyfleet.errors import InvalidInput, Refused
from tinyfleet.run import make_run
from tinyfleet.tasks import make_task

RUN = make_run(make_task("sine", {}, None), "tiny_reptile", 10, 3, "mlp_32", {})


class Site:
    """The three services' stores, open like those of running services."""

    def __init__(self, state):
        self.state = state
        self.coordinator = open_store(state / "coordinator")
        self.journal = open_journal(state / "aggregator")
        self.metrics = open_metrics(state / "metrics")

    def create(self, run_id):
        """A run as an operator makes it: first with the coordinator, then with the aggregator."""
        self.coordinator.add_run(RunRecord(run_id, f"for-{run_id}", b"spec", 1.0))
        self.journal.create(run_id, RUN, Snapshot(0, RUN.initial_parameters()))

    def update(self, run_id, round):
        delta = np.full(RUN.model.parameter_count, round, "<f4").tobytes()
        update = RoundUpdate(f"{run_id}-{round}-0-0", round, 0, round, round, 5, 0.5, 9, delta, 0)
        self.journal.append([Entry(run_id, update)], ())

    def close(self):
        for store in (self.coordinator, self.journal, self.metrics):
            store.close()


@pytest.fixture
def site(tmp_path):
    site = Site(tmp_path / "site")
    yield site
    site.close()


def back_up(site, path):
    folder = path.with_name("copies")
    folder.mkdir()
    copies = copy_databases(find_databases([site.state]), folder)
    contents = Contents("2026-11-30T22:15:00Z", "0.1.0", tuple(part for part, _ in copies))
    write_archive(path, contents, [copy for _, copy in copies])
    shutil.rmtree(folder)
    return path


def test_what_was_acknowledged_comes_back(site, tmp_path):
    site.create("one")
    site.update("one", 0)
    archive = back_up(site, tmp_path / "backup")
    site.update("one", 1)  # after the backup
    restore(archive, tmp_path / "again")
    again = Site(tmp_path / "again")
    assert [record.run_id for record in again.coordinator.open_runs()] == ["one"]
    stored = again.journal.load("one")
    assert [update.round for update in stored.updates] == [0]
    assert stored.updates[0].data == np.zeros(RUN.model.parameter_count, "<f4").tobytes()
    again.close()


def at_copy_of(monkeypatch, name, happens):
    """Let something happen right after the copy of a database."""
    copy = copying.copy_database

    def copied(source, target):
        result = copy(source, target)
        if target.stem == name:
            happens()
        return result

    monkeypatch.setattr(copying, "copy_database", copied)


def test_a_run_made_while_the_backup_is_being_made_is_left_out(site, tmp_path, monkeypatch):
    """Its coordinator would not know of it, so nobody would ever end it."""
    site.create("one")

    def happens():
        site.create("two")
        site.update("two", 0)
        site.update("one", 0)

    at_copy_of(monkeypatch, "coordinator", happens)
    restore(back_up(site, tmp_path / "backup"), tmp_path / "again")
    again = Site(tmp_path / "again")
    assert [record.run_id for record in again.coordinator.open_runs()] == ["one"]
    assert again.journal.run_ids(ended=False) == ["one"]
    assert [update.round for update in again.journal.load("one").updates] == [0]
    again.close()


def test_a_model_whose_run_no_coordinator_knows_is_kept(site, tmp_path):
    site.create("one")
    site.journal.create("older", RUN, Snapshot(0, RUN.initial_parameters()))
    restore(back_up(site, tmp_path / "backup"), tmp_path / "again")
    again = Site(tmp_path / "again")
    assert again.journal.run_ids(ended=False) == ["one", "older"]
    again.close()


def test_a_run_that_has_ended_for_the_coordinator_has_ended_in_the_journal(
    site, tmp_path, monkeypatch
):
    """Whatever comes between the copies: the journal's is the last."""
    site.create("one")
    end = Snapshot(10, RUN.initial_parameters() + 1)

    def happens():
        site.journal.snapshot("one", end, True)
        record = site.coordinator.run("one")
        site.coordinator.save_run(
            RunRecord(record.run_id, record.request_id, record.spec, 1.0, settled=True)
        )

    at_copy_of(monkeypatch, "metrics", happens)
    restore(back_up(site, tmp_path / "backup"), tmp_path / "again")
    again = Site(tmp_path / "again")
    assert again.coordinator.run("one").settled
    assert again.journal.load("one").snapshot.version == 10
    again.close()


def test_the_layout_comes_back(site, tmp_path):
    archive = back_up(site, tmp_path / "backup")
    names = {at.relative_to(tmp_path / "again") for _, at in restore(archive, tmp_path / "again")}
    assert {str(name) for name in names} == {
        f"{name}/{name}.sqlite" for name in ("metrics", "coordinator", "aggregator")
    }
    alone = restore(archive, tmp_path / "alone", ["aggregator"])
    assert [part.name for part, _ in alone] == ["aggregator"]


def test_a_restore_that_is_killed_leaves_no_coordinator_without_its_journal(
    site, tmp_path, monkeypatch
):
    archive = back_up(site, tmp_path / "backup")
    there = []

    def happens(state, target):
        there.append({path.stem for path in state.rglob("*.sqlite")})

    monkeypatch.setattr(restoring, "_hand_over", happens)
    restore(archive, tmp_path / "again")
    assert there == [set(), {"aggregator"}, {"aggregator", "coordinator"}]


def test_one_folder_may_have_all(tmp_path):
    state = tmp_path / "state"
    stores = [open_store(state), open_journal(state), open_metrics(state)]
    databases = find_databases([state, state])
    assert [database.name for database in databases] == ["metrics", "coordinator", "aggregator"]
    for store in stores:
        store.close()


@pytest.mark.parametrize("left", ["", "-wal", "-shm", "-journal"])
def test_nothing_is_overwritten(site, tmp_path, left):
    archive = back_up(site, tmp_path / "backup")
    there = tmp_path / "again" / "aggregator" / f"aggregator.sqlite{left}"
    there.parent.mkdir(parents=True)
    there.write_bytes(b"mine")
    with pytest.raises(InvalidInput, match="is there already: restore to another folder"):
        restore(archive, tmp_path / "again")
    assert there.read_bytes() == b"mine"
    assert not list((tmp_path / "again").rglob("*.sqlite.partial"))
    assert not (tmp_path / "again" / "coordinator" / "coordinator.sqlite").exists()


def test_a_damaged_backup_restores_nothing(site, tmp_path):
    archive = back_up(site, tmp_path / "backup")
    data = bytearray(archive.read_bytes())
    data[-40] ^= 1
    archive.write_bytes(data)
    with pytest.raises(InvalidInput, match="damaged: the SHA-256 of aggregator"):
        restore(archive, tmp_path / "again")
    assert {path.name for path in (tmp_path / "again").rglob("*") if path.is_file()} == {
        "metrics.lock",
        "coordinator.lock",
        "aggregator.lock",
    }


def test_a_running_service_is_not_restored(site, tmp_path):
    archive = back_up(site, tmp_path / "backup")
    lock = tmp_path / "again" / "coordinator" / "coordinator.lock"
    lock.parent.mkdir(parents=True)
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(Refused, match="is in use by process"):
            restore(archive, tmp_path / "again")


def test_what_root_restores_belongs_to_the_folders_owner(site, tmp_path):
    if os.geteuid() != 0:
        pytest.skip("only root gives files away")
    archive = back_up(site, tmp_path / "backup")
    state = tmp_path / "again"
    state.mkdir()
    os.chown(state, 1234, 1234)
    restore(archive, state)
    assert {path.stat().st_uid for path in state.rglob("*")} == {1234}


def test_no_room_is_said_before_anything_is_written(site, tmp_path, monkeypatch):
    archive = back_up(site, tmp_path / "backup")
    usage = shutil.disk_usage(tmp_path)._replace(free=10)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(InvalidInput, match="bytes are needed, 10 are free"):
        restore(archive, tmp_path / "again")


def test_half_a_site_is_refused(tmp_path):
    open_store(tmp_path / "state").close()
    with pytest.raises(InvalidInput, match=r"no aggregator.sqlite: coordinator and aggregator"):
        find_databases([tmp_path / "state"])
    with pytest.raises(InvalidInput, match="no database in"):
        find_databases([tmp_path])


def test_two_sites_are_refused(site, tmp_path):
    other = Site(tmp_path / "other")
    with pytest.raises(InvalidInput, match="two aggregator databases"):
        find_databases([site.state, other.state])
    other.close()


def test_a_damaged_database_is_not_backed_up(site, tmp_path):
    site.create("one")
    site.close()
    path = site.state / "aggregator" / "aggregator.sqlite"
    data = bytearray(path.read_bytes())
    data[4096:8192] = bytes(4096)
    path.write_bytes(data)
    with pytest.raises(InvalidInput, match=r"damaged|malformed"):
        back_up(site, tmp_path / "backup")


def test_a_backup_neither_waits_for_a_writer_nor_stops_one(site, tmp_path):
    site.create("one")
    path = site.state / "aggregator" / "aggregator.sqlite"
    writer = sqlite3.connect(path, isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    writer.execute("UPDATE runs SET ended = 1")
    archive = back_up(site, tmp_path / "backup")
    writer.execute("COMMIT")
    writer.close()
    restore(archive, tmp_path / "again")
    again = Site(tmp_path / "again")
    assert again.journal.run_ids(ended=False) == ["one"]
    again.close()
