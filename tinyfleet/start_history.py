"""The newest starts of a run, and what to send of the latest to a device that holds another.

Coordinator and simulator use the same history, so that they send the same bytes.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

from tinyfleet.codec.start import Start, StartFormat
from tinyfleet.errors import InvalidInput

MAX_VERSIONS = 256  # our choice, like the next: a device that was away for longer gets everything
MAX_BYTES = 4 * 1024 * 1024
HELD_RUNS = 4  # our choice: of so many runs a device keeps its last start


class SentStart(NamedTuple):
    """What a device is sent. base: the version that `data` are the changes to, None for all."""

    data: bytes
    base: int | None = None


class StartHistory:
    """At most `versions` starts that take at most 4 MiB together, the latest one always."""

    def __init__(self, format: StartFormat, versions: int = MAX_VERSIONS) -> None:
        self._format = format
        self._versions = min(versions, MAX_VERSIONS)
        self._starts: OrderedDict[int, Start] = OrderedDict()
        self._bytes = 0
        self._sent: dict[int | None, SentStart] = {}

    def add(self, version: int, start: Start) -> None:
        """Make `start` the latest. Versions only grow; some may be left out."""
        self._starts[version] = start
        self._bytes += start.size
        self._sent = {None: SentStart(self._format.write_whole(start))}
        while len(self._starts) > self._versions or (
            self._bytes > MAX_BYTES and len(self._starts) > 1
        ):
            self._bytes -= self._starts.popitem(last=False)[1].size

    def sent_to(self, held: int | None) -> SentStart:
        """The latest start for a device that holds version `held`; None when it holds nothing.

        Everything, where changes are no shorter or that version is no longer known. Each version's
        changes are written once.
        """
        known = held if held in self._starts else None
        if known not in self._sent:
            self._sent[known] = self._changes(known)
        return self._sent[known]

    def to_bytes(self) -> bytes:
        """All starts, the oldest first."""
        return b"".join(self._format.write_whole(start) for start in self._starts.values())

    def restore(self, data: bytes, latest: int) -> None:
        """Take in what `to_bytes` gave of starts of consecutive versions up to `latest`.

        Raises InvalidInput for anything else.
        """
        size = self._format.whole_bytes
        count = len(data) // size
        if len(data) % size or count > min(self._versions, latest + 1):
            raise InvalidInput(f"{len(data)} bytes are no starts of {size} bytes each")
        for place in range(count):
            start = self._format.read_whole(data[place * size : (place + 1) * size])
            self.add(latest - count + 1 + place, start)

    def _changes(self, held: int | None) -> SentStart:
        assert held is not None  # noqa: S101 - all is written when it is added
        latest = self._starts[next(reversed(self._starts))]
        data = self._format.write_changes(self._starts[held], latest)
        return self._sent[None] if data is None else SentStart(data, held)
