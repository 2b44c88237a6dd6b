"""Who did what: `audit.jsonl` in a service's state folder, one JSON object a line.

    {"time": "2026-11-30T22:47:01.120Z", "who": "agent pi-1", "method": "SubmitUpdates",
     "outcome": "refused", "what": "agent pi-1 may not submit for 'pi-2'"}

A thread writes: callers never wait. What is noted within a tenth of a second is written and synced
together, the same thing said again is counted (`times`), and what no longer fits the queue is
counted too (`lost`). Full files move on to audit.jsonl.1 and so on; the oldest goes.
"""

from __future__ import annotations

import json
import logging
import os
import queue
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from tinyfleet.errors import InvalidInput
from tinyfleet.logs import fields

MAX_QUEUED = 10_000
MAX_FILE_BYTES = 10_000_000
MAX_FILES = 5
_PAUSE_S = 0.1

OK, REFUSED = "ok", "refused"

log = logging.getLogger("audit")


class Entry(NamedTuple):
    """who: "agent pi-1", or what is known of a caller. what: one line more, may be empty."""

    who: str
    method: str
    outcome: str
    what: str


class Audit:
    """Writes until `close`."""

    def __init__(
        self,
        path: Path,
        now: Callable[[], float] = time.time,
        max_bytes: int = MAX_FILE_BYTES,
    ) -> None:
        """Raises InvalidInput when the file cannot be written."""
        self._path = path
        self._now = now
        self._max_bytes = max_bytes
        self._lost = 0
        self._queue: queue.Queue[tuple[float, Entry] | None] = queue.Queue(MAX_QUEUED)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("ab")
        except OSError as error:
            raise InvalidInput(f"cannot write audit log {path}: {error.strerror}") from None
        self._thread = threading.Thread(target=self._write_all, name="audit", daemon=True)
        self._thread.start()

    def note(self, who: str, method: str, outcome: str, what: str = "") -> None:
        """Take one entry; may be called from any thread."""
        try:
            self._queue.put_nowait((self._now(), Entry(who, method, outcome, what)))
        except queue.Full:
            self._lost += 1

    def close(self) -> None:
        """Write what was noted so far, and end."""
        self._queue.put(None)
        self._thread.join()
        self._file.close()

    def _write_all(self) -> None:
        while (first := self._queue.get()) is not None:
            time.sleep(_PAUSE_S)
            batch, goes_on = [first], True
            while goes_on and not self._queue.empty():
                more = self._queue.get()
                goes_on = more is not None
                if more is not None:
                    batch.append(more)
            self._write(batch)
            if not goes_on:
                return

    def _write(self, batch: list[tuple[float, Entry]]) -> None:
        lines = [self._line(when, entry, times) for when, entry, times in _counted(batch)]
        try:
            self._make_room()
            self._file.write(b"".join(lines))
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:  # the service goes on: it is told in the log
            log.error("audit log not written", extra=fields(file=self._path, reason=error.strerror))

    def _line(self, when: float, entry: Entry, times: int) -> bytes:
        whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(when))
        document = {"time": f"{whole}.{int(when % 1 * 1000):03d}Z", **entry._asdict()}
        if times > 1:
            document["times"] = times
        if self._lost:
            document["lost"], self._lost = self._lost, 0
        level = logging.WARNING if entry.outcome == REFUSED else logging.INFO
        log.log(level, f"call {entry.outcome}", extra=fields(**_known(entry)))
        return f"{json.dumps(document)}\n".encode()

    def _make_room(self) -> None:
        if self._file.tell() < self._max_bytes:
            return
        self._file.close()
        for number in range(MAX_FILES - 1, 0, -1):
            older = self._path.with_name(f"{self._path.name}.{number}")
            newer = older.with_name(f"{self._path.name}.{number - 1}") if number > 1 else self._path
            if newer.exists():
                newer.replace(older)
        self._file = self._path.open("ab")


def _known(entry: Entry) -> dict[str, str]:
    return {key: value for key, value in entry._asdict().items() if value and key != "outcome"}


def _counted(batch: Iterable[tuple[float, Entry]]) -> list[tuple[float, Entry, int]]:
    """Every entry once: when it came first, and how often it came."""
    found: dict[Entry, tuple[float, int]] = {}
    for when, entry in batch:
        first, times = found.get(entry, (when, 0))
        found[entry] = first, times + 1
    return [(first, entry, times) for entry, (first, times) in found.items()]
