"""Copies the databases of a site while its services work, so that the copies agree.

What the other two say of a run, the aggregator's journal must know: so it is copied last. The order
is metrics, coordinator, aggregator, each from one moment after the one before:

- A round that metrics were kept of is in the copied journal, not about to be trained again.
- A run that the coordinator says has ended has ended in the copied journal as well. One that ends
  in between has not ended for the copied coordinator: restored, it hears of it from the journal.
- A run made in between is in the journal but not with the coordinator, who would never end it:
  it is left out. Nobody had been told of it when the backup began.

All that was acknowledged before the first copy is in the copies.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from tinyfleet.backup.archive import NAMES, Part, sha256_of
from tinyfleet.errors import InvalidInput, one_line

ORDER = ("metrics", "coordinator", "aggregator")
NEEDED = ("coordinator", "aggregator")
BUSY_S = 30.0  # our choice: a service that starts holds its database while it migrates it


@dataclass(frozen=True)
class Database:
    """A service's database where it lies; `own_folder` as in `archive.Part`."""

    name: str
    path: Path
    own_folder: bool


def find_databases(states: Sequence[Path]) -> list[Database]:
    """The databases in state folders or in folders of their services' names there, in ORDER.

    Raises InvalidInput when one is there twice, or those of a coordinator and an aggregator are
    not there both.
    """
    found: dict[str, Database] = {}
    for state in states:
        here = list(_databases_in(state))
        if not here:
            files = ", ".join(f"{name}.sqlite" for name in NAMES)
            raise InvalidInput(f"no database in {state}: give a folder with {files}")
        for database in here:
            other = found.setdefault(database.name, database)
            if not other.path.samefile(database.path):
                raise InvalidInput(
                    f"two {database.name} databases, {other.path} and {database.path}: "
                    "a backup is of one site"
                )
    if missing := [name for name in NEEDED if name not in found]:
        raise InvalidInput(
            f"no {missing[0]}.sqlite: coordinator and aggregator are backed up together, "
            "give the state folders of both"
        )
    return [found[name] for name in ORDER if name in found]


def bytes_of(databases: Sequence[Database]) -> int:
    """What they take on the disk, with what is only in their logs."""
    files = [database.path for database in databases]
    files += [path.with_name(f"{path.name}-wal") for path in files]
    return sum(path.stat().st_size for path in files if path.exists())


def copy_databases(databases: Sequence[Database], folder: Path) -> list[tuple[Part, Path]]:
    """Copies of all in `folder`, in ORDER. Raises InvalidInput when one cannot be made."""
    by_name = {database.name: database for database in databases}
    before = run_ids(by_name["aggregator"].path)
    copies = {}
    for database in databases:
        copies[database.name] = copy_database(database.path, folder / f"{database.name}.sqlite")
    kept = before | run_ids(copies["coordinator"])
    drop_runs(copies["aggregator"], run_ids(copies["aggregator"]) - kept)
    return [
        (_part(database, copies[database.name]), copies[database.name]) for database in databases
    ]


def copy_database(source: Path, target: Path) -> Path:
    """A copy of a database as it is at one moment, checked; whoever writes it is not disturbed."""
    what, new = f"cannot copy {source}", contextlib.closing(sqlite3.connect(target))
    with _errors(what), _opened(source) as origin, new as copy:
        origin.backup(copy)
        copy.execute("PRAGMA journal_mode=DELETE")  # else there are three files
        if copy.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
            raise InvalidInput(f"{source} is damaged: restore an earlier backup")
    return target


def run_ids(path: Path) -> set[str]:
    """The runs in the database of a coordinator or an aggregator."""
    with _errors(f"cannot read {path}"), _opened(path) as database:
        return {row[0] for row in database.execute("SELECT run_id FROM runs")}


def drop_runs(path: Path, ids: set[str]) -> None:
    """Take runs, and all that belongs to them, out of the copy of an aggregator's database."""
    rows = [(one,) for one in sorted(ids)]
    copy = contextlib.closing(sqlite3.connect(path))
    with _errors(f"cannot write {path}"), copy as database, database:
        for table in (*_tables_of_runs(database), "runs"):
            database.executemany(f'DELETE FROM "{table}" WHERE run_id = ?', rows)  # noqa: S608


def _tables_of_runs(database: sqlite3.Connection) -> list[str]:
    """The tables whose rows belong to a run."""
    tables = database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    return [
        table
        for (table,) in tables
        if any(
            key[2] == "runs"
            for key in database.execute("SELECT * FROM pragma_foreign_key_list(?)", (table,))
        )
    ]


def _databases_in(state: Path) -> Iterator[Database]:
    for name in NAMES:
        for folder, own in ((state, False), (state / name, True)):
            path = folder / f"{name}.sqlite"
            if path.is_file():
                yield Database(name, path, own)


def _part(database: Database, copy: Path) -> Part:
    with _errors(f"cannot read {database.path}"), _opened(copy) as opened:
        (schema,) = opened.execute("SELECT version_num FROM alembic_version").fetchone()
    return Part(database.name, database.own_folder, schema, copy.stat().st_size, sha256_of(copy))


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    """A database to be read only."""
    name = f"file:{quote(str(path.absolute()))}?mode=ro"
    with contextlib.closing(sqlite3.connect(name, uri=True, timeout=BUSY_S)) as database:
        yield database


@contextlib.contextmanager
def _errors(what: str) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise InvalidInput(f"{what}: {one_line(str(error))}") from None
    except OSError as error:
        raise InvalidInput(f"{what}: {error.strerror}") from None
