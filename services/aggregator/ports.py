"""What the aggregator needs of the world: a journal that survives. `adapters` has the journals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from services.aggregator.core import REMEMBERED_ROUNDS, RoundUpdate, Snapshot, StoredRun
from tinyfleet.model.spec import Parameters
from tinyfleet.run import RunSpec
from tinyfleet.run_files import RunFile

__all__ = ["REMEMBERED_ROUNDS", "Closing", "Entry", "FileStore", "Journal", "Usage"]


class Entry(NamedTuple):
    """An update of a run, to be stored."""

    run_id: str
    update: RoundUpdate


class Closing(NamedTuple):
    """A round that ends before all its slots are there."""

    run_id: str
    round: int


class Usage(NamedTuple):
    """What is stored: so many files, of so many bytes together."""

    files: int
    bytes: int


class FileStore(Protocol):
    """Files by hash. What holds for calls of a journal holds for these."""

    def put(self, file: RunFile, content: bytes) -> None:
        """Store a file that is not there yet."""
        ...

    def size(self, sha256: str) -> int | None:
        """Bytes of a file, None when it is not there."""
        ...

    def part(self, sha256: str, number: int) -> bytes:
        """Part `number`, from 0, of a file: PART_BYTES of it, of the last one what is left.

        Raises StorageFailed when it is not there.
        """
        ...

    def usage(self) -> Usage: ...


class Journal(Protocol):
    """Runs, their snapshots and what happened since, on disk when a call returns.

    Every call is one transaction: all of it is stored, or StorageFailed is raised and nothing is.
    Calls come from one thread at a time, not always the same one.
    """

    @property
    def files(self) -> FileStore:
        """The files that runs need."""
        ...

    def create(self, run_id: str, run: RunSpec, initial: Snapshot, grant_key: bytes = b"") -> None:
        """Store a new run, version 0 of its model, and what its grants are made with."""
        ...

    def run_ids(self, ended: bool) -> list[str]:
        """The runs that have ended, or those that have not, oldest first."""
        ...

    def load(self, run_id: str) -> StoredRun | None:
        """All that is known of a run; None when there is none of that id."""
        ...

    def append(self, entries: Sequence[Entry], closings: Sequence[Closing]) -> None:
        """Store updates and closings of any runs. A slot of a round is stored once."""
        ...

    def snapshot(self, run_id: str, snapshot: Snapshot, ended: bool) -> None:
        """Store a model, and that the run has ended if so; drop what it makes unnecessary.

        Snapshots between version 0 and this one go, and so does what was applied to earlier
        versions, the assignment ids of the last REMEMBERED_ROUNDS of them excepted.
        """
        ...

    def parameters(self, run_id: str, version: int) -> Parameters | None:
        """The snapshot of that version, None when there is none."""
        ...

    def close(self) -> None:
        """Let go of the storage."""
        ...
