"""The journal in a SQLite database, with SQLAlchemy Core. A commit is on disk when it returns."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import sqlalchemy as sa
from sqlalchemy import Connection, RowMapping

from services.aggregator.adapters.sql_files import TABLES, SqlFiles
from services.aggregator.core import Place, RoundUpdate, Snapshot, StoredRun, Totals
from services.aggregator.ports import REMEMBERED_ROUNDS, Closing, Entry
from services.hosting.database import open_database, storage_errors
from services.hosting.errors import StorageFailed
from tinyfleet.checkpoint import run_from_document, run_to_document
from tinyfleet.exchange import exchange_of
from tinyfleet.model.spec import Parameters
from tinyfleet.run import RunSpec
from tinyfleet.wire import parameters_to_bytes

MIGRATIONS = Path(__file__).parents[1] / "migrations"
_RUN = "runs.run_id"

runs = sa.Table(
    "runs",
    TABLES,
    sa.Column("run_id", sa.Text, primary_key=True),
    sa.Column("spec", sa.Text, nullable=False),  # JSON, as in a checkpoint's header
    sa.Column("ended", sa.Boolean, nullable=False),
    # Empty: its updates need no grant.
    sa.Column("grant_key", sa.LargeBinary, nullable=False, server_default=sa.text("x''")),
)
snapshots = sa.Table(
    "snapshots",
    TABLES,
    sa.Column("run_id", sa.Text, sa.ForeignKey(_RUN), primary_key=True),
    sa.Column("version", sa.Integer, primary_key=True),
    sa.Column("parameters", sa.LargeBinary, nullable=False),  # float32, little-endian
    # What the rule remembers, each vector like the parameters; NULL when it remembers nothing.
    sa.Column("memory", sa.LargeBinary, nullable=True),
    # What went into it since the run was opened.
    sa.Column("updates", sa.Integer, nullable=False),
    sa.Column("samples", sa.Integer, nullable=False),
    sa.Column("bytes_up", sa.Integer, nullable=False),
    sa.Column("diverged", sa.Integer, nullable=False),
    sa.Column("bytes_down", sa.Integer, nullable=True),  # NULL: everything, each time
    # Of an asynchronous run, the slots that are not in it although a later one is: a JSON list.
    sa.Column("missing", sa.Text, nullable=False, server_default="[]"),
)
updates = sa.Table(
    "updates",
    TABLES,
    sa.Column("id", sa.Integer, primary_key=True),  # in the order in which they were stored
    sa.Column("run_id", sa.Text, sa.ForeignKey(_RUN), nullable=False),
    sa.Column("round", sa.Integer, nullable=False),
    sa.Column("slot", sa.Integer, nullable=False),
    # Of the model: that it is applied to, and that it started from.
    sa.Column("version", sa.Integer, nullable=False, server_default="0"),
    sa.Column("base_version", sa.Integer, nullable=False, server_default="0"),
    sa.Column("assignment_id", sa.Text, nullable=False),
    sa.Column("samples", sa.Integer, nullable=False),
    sa.Column("loss", sa.Float, nullable=False),
    sa.Column("training_us", sa.Integer, nullable=False),
    sa.Column("diverged", sa.Boolean, nullable=False),
    # Encoded, as it came; NULL when it diverged, or when a snapshot has it applied.
    sa.Column("delta", sa.LargeBinary, nullable=True),
    sa.Column("start_bytes", sa.Integer, nullable=True),  # NULL: everything
    sa.UniqueConstraint("run_id", "round", "slot"),
)
closings = sa.Table(
    "closings",
    TABLES,
    sa.Column("run_id", sa.Text, sa.ForeignKey(_RUN), primary_key=True),
    sa.Column("round", sa.Integer, primary_key=True),
)

# On the path of every update, so for the driver itself: 57 us for one update on a file system in
# memory, 115 us through SQLAlchemy.
_APPEND = (
    "INSERT INTO updates (run_id, round, slot, version, base_version, assignment_id, samples, loss,"
    " training_us, diverged, delta, start_bytes) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_CLOSE = "INSERT OR IGNORE INTO closings (run_id, round) VALUES (?, ?)"


def open_journal(state: Path) -> SqlJournal:
    """The journal in `state`; see `open_database` for what it raises."""
    return SqlJournal(open_database(state, "aggregator", MIGRATIONS))


class SqlJournal:
    """A journal on an engine that it owns; writes through one connection that it keeps."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        with storage_errors("cannot open the journal"):
            self._writer = engine.connect()
            self._driver: Any = self._writer.connection.driver_connection
        self.files = SqlFiles(engine, self._writer)

    def create(self, run_id: str, run: RunSpec, initial: Snapshot, grant_key: bytes = b"") -> None:
        spec = json.dumps(run_to_document(run), sort_keys=True)
        row = {"run_id": run_id, "spec": spec, "ended": False, "grant_key": grant_key}
        with storage_errors(f"cannot store run {run_id}"), self._writer.begin():
            self._writer.execute(sa.insert(runs).values(row))
            _insert_snapshot(self._writer, run_id, initial)

    def run_ids(self, ended: bool) -> list[str]:
        query = sa.select(runs.c.run_id).where(runs.c.ended == ended).order_by(sa.text("rowid"))
        with storage_errors("cannot read the runs"), self._engine.connect() as connection:
            return list(connection.execute(query).scalars())

    def load(self, run_id: str) -> StoredRun | None:
        what = f"cannot read run {run_id}"
        with storage_errors(what), self._engine.connect() as connection:
            found = connection.execute(sa.select(runs).where(runs.c.run_id == run_id)).first()
            if found is None:
                return None
            return _stored_run(connection, found._mapping)  # noqa: SLF001 - SQLAlchemy's API

    def append(self, entries: Sequence[Entry], closings: Sequence[Closing]) -> None:
        rows = [_row(entry) for entry in entries]
        with storage_errors("cannot store updates"), _transaction(self._driver) as driver:
            driver.executemany(_APPEND, rows)
            driver.executemany(_CLOSE, closings)

    def snapshot(self, run_id: str, snapshot: Snapshot, ended: bool) -> None:
        version = snapshot.version
        with storage_errors(f"cannot store a snapshot of run {run_id}"), self._writer.begin():
            self._writer.execute(
                sa.delete(snapshots).where(
                    snapshots.c.run_id == run_id, snapshots.c.version.between(1, version)
                )
            )
            if version:
                _insert_snapshot(self._writer, run_id, snapshot)
            self._writer.execute(sa.update(runs).where(runs.c.run_id == run_id).values(ended=ended))
            _prune(self._writer, run_id, version, ended)

    def parameters(self, run_id: str, version: int) -> Parameters | None:
        what = f"cannot read the model of run {run_id}"
        with storage_errors(what), self._engine.connect() as connection:
            found = _snapshot(connection, run_id, version, 0)
        return None if found is None else found.parameters

    def close(self) -> None:
        self._writer.close()
        self._engine.dispose()


@contextlib.contextmanager
def _transaction(driver: Any) -> Iterator[Any]:
    driver.execute("BEGIN IMMEDIATE")
    try:
        yield driver
        driver.execute("COMMIT")
    except BaseException:
        if driver.in_transaction:  # some errors have rolled it back already
            driver.execute("ROLLBACK")
        raise


def _row(entry: Entry) -> tuple[Any, ...]:
    update = entry.update
    return (
        entry.run_id,
        update.round,
        update.slot,
        update.version,
        update.base_version,
        update.assignment_id,
        update.samples,
        update.loss,
        update.training_us,
        update.diverged,
        update.data,
        update.start_bytes,
    )


def _insert_snapshot(connection: Connection, run_id: str, snapshot: Snapshot) -> None:
    row = {
        "run_id": run_id,
        "version": snapshot.version,
        "parameters": parameters_to_bytes(snapshot.parameters),
        "memory": b"".join(map(parameters_to_bytes, snapshot.memory)) or None,
        "missing": json.dumps(snapshot.missing),
    }
    connection.execute(sa.insert(snapshots).values(row | asdict(snapshot.totals)))


def _prune(connection: Connection, run_id: str, version: int, ended: bool) -> None:
    """Drop what the snapshot of `version` makes unnecessary."""
    for table, until in (
        (updates, updates.c.version < version - REMEMBERED_ROUNDS),
        (closings, closings.c.round < version),
    ):
        connection.execute(sa.delete(table).where(table.c.run_id == run_id, until))
    applied = updates.c.version < version
    connection.execute(
        sa.update(updates)
        .where(updates.c.run_id == run_id, sa.true() if ended else applied)
        .values(delta=None)
    )


def _stored_run(connection: Connection, row: RowMapping) -> StoredRun:
    run_id, ended = row["run_id"], row["ended"]
    run = run_from_document(json.loads(row["spec"]))
    newest = sa.select(sa.func.max(snapshots.c.version)).where(snapshots.c.run_id == run_id)
    version = connection.execute(newest).scalar_one()
    whole = exchange_of(run).starts.whole_bytes
    snapshot = None if version is None else _snapshot(connection, run_id, version, whole)
    if snapshot is None:
        raise StorageFailed(f"run {run_id} has no snapshot; restore the database from a copy")
    run.model.check_parameters(snapshot.parameters)
    # An ended run folds no more updates; only their ids are of interest.
    since = run.rounds + 1 if ended else version
    return StoredRun(
        run=run,
        ended=ended,
        snapshot=snapshot,
        updates=_updates_since(connection, run_id, since, whole),
        closings=_closings_since(connection, run_id, since),
        remembered=_ids_before(connection, run_id, since),
        grant_key=row["grant_key"],
    )


def _snapshot(connection: Connection, run_id: str, version: int, whole: int) -> Snapshot | None:
    """A snapshot. whole: bytes of a whole start, for totals from when there were no others."""
    query = sa.select(snapshots).where(snapshots.c.run_id == run_id, snapshots.c.version == version)
    row = connection.execute(query).mappings().first()
    if row is None:
        return None
    down = row["updates"] * whole if row["bytes_down"] is None else row["bytes_down"]
    totals = Totals(row["updates"], row["samples"], row["bytes_up"], row["diverged"], down)
    parameters = np.frombuffer(row["parameters"], "<f4").astype(np.float32)
    remembered = row["memory"] or b""
    if len(remembered) % len(row["parameters"]):
        raise StorageFailed(
            f"run {run_id} has a damaged snapshot; restore the database from a copy"
        )
    vectors = np.frombuffer(remembered, "<f4").astype(np.float32).reshape(-1, len(parameters))
    return Snapshot(version, parameters, totals, tuple(vectors), tuple(json.loads(row["missing"])))


def _updates_since(
    connection: Connection, run_id: str, version: int, whole: int
) -> list[RoundUpdate]:
    query = (
        sa.select(updates)
        .where(updates.c.run_id == run_id, updates.c.version >= version)
        .order_by(updates.c.id)
    )
    return [_update(row, whole) for row in connection.execute(query).mappings()]


def _update(row: RowMapping, whole: int) -> RoundUpdate:
    return RoundUpdate(
        assignment_id=row["assignment_id"],
        round=row["round"],
        slot=row["slot"],
        version=row["version"],
        base_version=row["base_version"],
        samples=row["samples"],
        loss=row["loss"],
        training_us=row["training_us"],
        data=None if row["diverged"] else row["delta"] or b"",
        start_bytes=whole if row["start_bytes"] is None else row["start_bytes"],
    )


def _closings_since(connection: Connection, run_id: str, round: int) -> set[int]:
    query = sa.select(closings.c.round).where(
        closings.c.run_id == run_id, closings.c.round >= round
    )
    return set(connection.execute(query).scalars())


def _ids_before(connection: Connection, run_id: str, version: int) -> dict[str, Place]:
    places = (updates.c.round, updates.c.slot, updates.c.version)
    query = sa.select(updates.c.assignment_id, *places).where(
        updates.c.run_id == run_id, updates.c.version < version
    )
    return {row[0]: Place(*row[1:]) for row in connection.execute(query)}
