"""A journal in memory: for tests and for fleets that may forget everything when they stop."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from services.aggregator.core import Place, RoundUpdate, Snapshot, StoredRun
from services.aggregator.ports import REMEMBERED_ROUNDS, Closing, Entry, Usage
from services.hosting.errors import StorageFailed
from tinyfleet.model.spec import Parameters
from tinyfleet.run import RunSpec
from tinyfleet.run_files import PART_BYTES, RunFile


@dataclass
class _Record:
    run: RunSpec
    snapshots: dict[int, Snapshot]
    ended: bool = False
    updates: dict[tuple[int, int], RoundUpdate] = field(default_factory=dict)
    closings: set[int] = field(default_factory=set)
    grant_key: bytes = b""

    @property
    def version(self) -> int:
        return max(self.snapshots)


class MemoryFiles:
    """Files in a dictionary."""

    def __init__(self) -> None:
        self._contents: dict[str, bytes] = {}

    def put(self, file: RunFile, content: bytes) -> None:
        if file.sha256 in self._contents:
            raise StorageFailed(f"file {file} is stored already")
        self._contents[file.sha256] = content

    def size(self, sha256: str) -> int | None:
        return len(self._contents[sha256]) if sha256 in self._contents else None

    def part(self, sha256: str, number: int) -> bytes:
        part = self._contents.get(sha256, b"")[number * PART_BYTES : (number + 1) * PART_BYTES]
        if not part:
            raise StorageFailed(f"part {number} of file {sha256[:12]}... is not stored")
        return part

    def usage(self) -> Usage:
        return Usage(len(self._contents), sum(map(len, self._contents.values())))


class MemoryJournal:
    """Keeps everything in dictionaries, until the process ends."""

    def __init__(self) -> None:
        self._records: dict[str, _Record] = {}
        self.files = MemoryFiles()

    def create(self, run_id: str, run: RunSpec, initial: Snapshot, grant_key: bytes = b"") -> None:
        if run_id in self._records:
            raise StorageFailed(f"run {run_id} is stored already")
        self._records[run_id] = _Record(run, {0: initial}, grant_key=grant_key)

    def run_ids(self, ended: bool) -> list[str]:
        return [name for name, record in self._records.items() if record.ended is ended]

    def load(self, run_id: str) -> StoredRun | None:
        record = self._records.get(run_id)
        if record is None:
            return None
        version = record.version
        old = {
            update.assignment_id: Place(update.round, update.slot, update.version)
            for update in record.updates.values()
            if record.ended or update.version < version
        }
        return StoredRun(
            run=record.run,
            ended=record.ended,
            snapshot=record.snapshots[version],
            updates=[u for u in record.updates.values() if u.assignment_id not in old],
            closings={number for number in record.closings if number >= version},
            remembered=old,
            grant_key=record.grant_key,
        )

    def append(self, entries: Sequence[Entry], closings: Sequence[Closing]) -> None:
        self._check_new(entries)
        for entry in entries:
            update = entry.update
            self._records[entry.run_id].updates[update.round, update.slot] = update
        for closing in closings:
            self._records[closing.run_id].closings.add(closing.round)

    def snapshot(self, run_id: str, snapshot: Snapshot, ended: bool) -> None:
        record = self._records[run_id]
        version = snapshot.version
        record.snapshots = {0: record.snapshots[0], version: snapshot}
        record.ended = ended
        record.closings = {number for number in record.closings if number >= version}
        keep = version - REMEMBERED_ROUNDS
        record.updates = {p: one for p, one in record.updates.items() if one.version >= keep}

    def parameters(self, run_id: str, version: int) -> Parameters | None:
        record = self._records.get(run_id)
        found = None if record is None else record.snapshots.get(version)
        return None if found is None else found.parameters

    def close(self) -> None:
        pass

    def _check_new(self, entries: Sequence[Entry]) -> None:
        places = [(entry.run_id, entry.update.round, entry.update.slot) for entry in entries]
        taken = [place for place in places if place[1:] in self._records[place[0]].updates]
        if taken or len(set(places)) < len(places):
            raise StorageFailed(f"slot stored twice: {(taken or places)[0]}")
