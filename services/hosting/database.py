"""Opens a service's SQLite database: locked, durable, migrated. All three services use it.

    engine = open_database(settings.state, "metrics", Path(__file__).parent / "migrations")

A commit is on disk when it returns (WAL with full sync). SQLite has one writer at a time: a service
writes from one thread, readers of other threads do not wait for it.

A service keeps its migrations in `<service>/migrations/versions/0001_<topic>.py`, numbered without
gaps, and declares the same tables in its `adapters/sql.py`; `disagreements` proves that they agree.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Engine, MetaData, create_engine, event
from sqlalchemy.exc import DatabaseError

from services.hosting.errors import Occupied, StorageFailed
from tinyfleet.errors import InvalidInput, Refused, one_line
from tinyfleet.logs import fields
from tinyfleet.state_lock import lock_state

BUSY_TIMEOUT_MS = 5000
_PRAGMAS = (
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=FULL",  # a commit survives a power cut, not only a killed process
    f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}",
    "PRAGMA foreign_keys=ON",
    "PRAGMA temp_store=MEMORY",
)
_REMEDIES = {
    "full": "; free some room",
    "I/O error": "; look at the disk and its limits",
    "locked": "; close the program that holds it",
}
_ENVIRONMENT = Path(__file__).parent / "migrations"

log = logging.getLogger("database")


def open_database(folder: Path, name: str, migrations: Path) -> Engine:
    """The engine of `folder/name.sqlite`, migrated to the newest schema and held by this process.

    `engine.dispose()` gives the file free for another process. Raises Occupied when another one
    holds it, InvalidInput when the folder or the file cannot be used, StorageFailed when there is
    no room.
    """
    lock = _locked(folder, name)
    path = folder / f"{name}.sqlite"
    engine = _engine(path)
    try:
        with storage_errors(f"cannot open {path}"):
            _migrate(engine, path, migrations)
    except BaseException:
        engine.dispose()
        os.close(lock)
        raise
    # The lock goes with the first dispose; a pool that is disposed of is not used again.
    event.listen(engine, "engine_disposed", lambda _: os.close(lock), once=True)
    return engine


@contextlib.contextmanager
def storage_errors(what: str) -> Iterator[None]:
    """Raise what the database raises as StorageFailed, one line that begins with `what`.

    Takes SQLAlchemy's errors and those of the driver below it.
    """
    try:
        yield
    except DatabaseError as error:
        raise _translated(what, str(error.orig)) from error
    except sqlite3.Error as error:
        raise _translated(what, str(error)) from error


def head_revision(migrations: Path) -> str:
    """The newest revision among the files `versions/<revision>_<topic>.py`."""
    return max(path.name.partition("_")[0] for path in migrations.glob("versions/[0-9]*_*.py"))


def disagreements(engine: Engine, tables: MetaData) -> list[Any]:
    """What differs between the migrated database and the tables as declared; for tests."""
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    with engine.connect() as connection:
        return list(compare_metadata(MigrationContext.configure(connection), tables))


def _translated(what: str, cause: str) -> Exception:
    if "not a database" in cause or "malformed" in cause:
        return InvalidInput(f"{what}: {cause}; restore it from a copy or move it away")
    remedy = next((remedy for word, remedy in _REMEDIES.items() if word in cause), "")
    return StorageFailed(f"{what}: {one_line(cause)}{remedy}")


def _locked(folder: Path, name: str) -> int:
    try:
        return lock_state(folder, name)
    except Refused as error:
        raise Occupied(str(error)) from None


def _engine(path: Path) -> Engine:
    engine = create_engine(URL.create("sqlite", database=str(path)))

    @event.listens_for(engine, "connect")
    def connect(connection: Any, _: Any) -> None:
        connection.isolation_level = None  # SQLAlchemy begins and commits, not the driver
        for pragma in _PRAGMAS:
            connection.execute(pragma)

    @event.listens_for(engine, "begin")
    def begin(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN")

    return engine


def _migrate(engine: Engine, path: Path, migrations: Path) -> None:
    have, head = _revision(engine), head_revision(migrations)
    if have == head:
        return
    if have is not None and have > head:
        raise InvalidInput(
            f"{path} was written by a newer version (schema {have}, this one knows {head}): "
            "install that version or choose another --state"
        )
    _upgrade(engine, migrations)
    log.info("database upgraded", extra=fields(file=path, schema=head, before=have or "none"))


def _revision(engine: Engine) -> str | None:
    """The schema's revision, None for a new file; without Alembic, whose import takes a while."""
    with engine.connect() as connection:
        exists = "SELECT 1 FROM sqlite_master WHERE type='table' AND name='alembic_version'"
        if connection.exec_driver_sql(exists).first() is None:
            return None
        row = connection.exec_driver_sql("SELECT version_num FROM alembic_version").first()
        return str(row[0]) if row else None


def _upgrade(engine: Engine, migrations: Path) -> None:
    """All missing migrations in one transaction."""
    logging.getLogger("alembic").setLevel(logging.WARNING)  # it logs as soon as it is imported
    from alembic import command
    from alembic.config import Config

    config = Config()
    for option, folder in (
        ("script_location", _ENVIRONMENT),
        ("version_locations", migrations / "versions"),
    ):
        config.set_main_option(option, str(folder).replace("%", "%%"))
    config.set_main_option("path_separator", "newline")
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
