"""Storage beside the event loop: one thread, in order; a write that failed is tried again."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from services.coordinator.ports import Store, StoredAgent
from services.coordinator.runs import RunRecord
from services.hosting.errors import StorageFailed
from tinyfleet.logs import fields

RETRY_S = 1.0  # our choice: pause after the disk was full

Result = TypeVar("Result")
log = logging.getLogger("storage")


class Archive:
    """A store that the event loop can wait for.

    read: gives a run's record as it is when the writing of it begins, so that a later state is
    never overwritten by an earlier one. wrote: called with each record that is on disk.
    """

    def __init__(
        self,
        store: Store,
        read: Callable[[str], RunRecord | None],
        wrote: Callable[[RunRecord], None],
    ) -> None:
        self._store = store
        self._read = read
        self._wrote = wrote
        self._thread = ThreadPoolExecutor(1, "store")
        self._changed: dict[str, None] = {}
        self._wake = asyncio.Event()

    def queue(self, run_id: str) -> None:
        """Store a run soon."""
        self._changed[run_id] = None
        self._wake.set()

    async def save(self, run_id: str) -> None:
        """Store a run now; raises StorageFailed."""
        self._changed.pop(run_id, None)
        record = self._read(run_id)
        if record is None:
            return
        try:
            await self._in_thread(self._store.save_run, record)
        except StorageFailed:
            self.queue(run_id)
            raise
        self._wrote(record)

    async def save_forever(self) -> None:
        """Store what is queued, as it comes."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._changed:
                await self._try(next(iter(self._changed)))

    async def add(self, record: RunRecord) -> None:
        """Store a new run; raises StorageFailed."""
        await self._in_thread(self._store.add_run, record)

    async def find_request(self, request_id: str) -> RunRecord | None:
        return await self._in_thread(self._store.run_of_request, request_id)

    async def find(self, run_id: str) -> RunRecord | None:
        return await self._in_thread(self._store.run, run_id)

    async def newest(self, limit: int) -> list[RunRecord]:
        return await self._in_thread(self._store.newest_runs, limit)

    async def save_agents(self, agents: list[StoredAgent]) -> bool:
        """Store agents; whether that worked."""
        try:
            await self._in_thread(self._store.save_agents, agents)
        except StorageFailed as error:
            log.error("agents not stored", extra=fields(reason=error))
            return False
        return True

    async def close(self) -> None:
        """Try once more to store what is queued, then let go of the store."""
        with contextlib.suppress(StorageFailed):
            for run_id in list(self._changed):
                await self.save(run_id)
        await self._in_thread(self._store.close)
        self._thread.shutdown()

    async def _try(self, run_id: str) -> None:
        try:
            await self.save(run_id)
        except StorageFailed as error:
            log.error("run not stored, trying again", extra=fields(run=run_id, reason=error))
            await asyncio.sleep(RETRY_S)

    async def _in_thread(self, call: Callable[..., Result], *arguments: object) -> Result:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, call, *arguments)
