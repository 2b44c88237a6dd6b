"""One contract for every store of the coordinator."""

from dataclasses import replace

import pytest

from services.coordinator.adapters.memory import MemoryStore
from services.coordinator.adapters.sql import MIGRATIONS, TABLES, open_store
from services.coordinator.fleet import Capabilities
from services.coordinator.ports import StoredAgent
from services.coordinator.runs import Progress, RunRecord, RunStatus
from services.hosting.database import disagreements, open_database


@pytest.fixture(params=["memory", "sqlite"])
def store(request, tmp_path):
    store = MemoryStore() if request.param == "memory" else open_store(tmp_path)
    yield store
    store.close()


def record(number=1, **values):
    return RunRecord(f"run{number}", f"request{number}", b"spec\x00\xff", float(number), **values)


def ended(run):
    progress = Progress(
        rounds_done=7, loss=0.25, bytes_down=1 << 40, bytes_up=3, samples=4, diverged=2
    )
    return replace(
        run,
        status=RunStatus.FINISHED,
        end_time=9.5,
        message="as it said",
        parameters_sha256="ab" * 32,
        settled=True,
        progress=progress,
    )


def test_stored_run_is_found_as_it_was(store):
    store.add_run(record())
    assert store.run("run1") == record()
    assert store.run("other") is None


def test_a_secret_stays_what_it_was_first(store):
    assert store.secret("one", b"a") == b"a"
    assert store.secret("one", b"b") == b"a"
    assert store.secret("other", b"b") == b"b"


def test_run_is_found_by_its_request(store):
    store.add_run(record(1))
    store.add_run(record(2))
    assert store.run_of_request("request2") == record(2)
    assert store.run_of_request("") is None


def test_saved_state_is_found(store):
    store.add_run(record())
    store.save_run(ended(record()))
    assert store.run("run1") == ended(record())


def test_what_is_saved_is_not_changed_by_what_happens_to_it_later(store):
    run = record()
    store.add_run(run)
    run.progress.rounds_done = 99
    store.run("run1").progress.rounds_done = 98
    assert store.run("run1").progress.rounds_done == 0


def test_saving_an_unknown_run_adds_none(store):
    store.save_run(record())
    assert store.newest_runs(10) == []


def test_runs_are_listed_newest_first_within_the_limit(store):
    for number in range(5):
        store.add_run(record(number))
    assert [run.run_id for run in store.newest_runs(3)] == ["run4", "run3", "run2"]


def test_open_runs_are_those_not_settled_oldest_first(store):
    for number in range(4):
        store.add_run(record(number))
    store.save_run(ended(record(1)))
    store.save_run(replace(record(2), status=RunStatus.STOPPED, end_time=3.0))
    assert [run.run_id for run in store.open_runs()] == ["run0", "run2", "run3"]


def test_agents_are_renewed_and_the_latest_are_kept(store):
    some = Capabilities("0.1.0", "host", "native", 1 << 33, ("sine", "omniglot"), 64_000_000)
    store.save_agents([StoredAgent(name, some, float(n)) for n, name in enumerate("abc")])
    store.save_agents([StoredAgent("a", Capabilities(), 9.0)])
    store.save_agents([])
    assert store.agents(2) == [StoredAgent("c", some, 2.0), StoredAgent("a", Capabilities(), 9.0)]
    assert len(store.agents(10)) == 3


def test_database_keeps_runs_and_agents_over_a_restart(tmp_path):
    store = open_store(tmp_path)
    store.add_run(record())
    store.save_agents([StoredAgent("a", Capabilities(tasks=("sine",)), 1.0)])
    store.close()
    store = open_store(tmp_path)
    assert store.open_runs() == [record()]
    assert store.agents(1) == [StoredAgent("a", Capabilities(tasks=("sine",)), 1.0)]
    store.close()


def test_migrations_make_the_declared_tables(tmp_path):
    engine = open_database(tmp_path, "coordinator", MIGRATIONS)
    assert disagreements(engine, TABLES) == []
    engine.dispose()
