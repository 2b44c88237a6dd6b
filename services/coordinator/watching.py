"""Who follows which run: wakes the followers of a run when it has changed."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator


class Watchers:
    """Events by run. Waking the followers of a run that has none costs one look-up."""

    def __init__(self) -> None:
        self._events: dict[str, set[asyncio.Event]] = {}

    @contextlib.contextmanager
    def watch(self, run_id: str) -> Iterator[asyncio.Event]:
        """An event that is set whenever the run changes."""
        changed = asyncio.Event()
        self._events.setdefault(run_id, set()).add(changed)
        try:
            yield changed
        finally:
            self._events[run_id].discard(changed)
            if not self._events[run_id]:
                del self._events[run_id]

    def wake(self, run_id: str) -> None:
        for changed in self._events.get(run_id, ()):
            changed.set()

    def wake_all(self) -> None:
        for run_id in self._events:
            self.wake(run_id)
