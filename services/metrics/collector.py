"""Runs a store for many callers: one thread that writes in groups, a few that answer, and pruning.

While one group of batches is committed, those that arrive become the next group: a hundred reports
at once cost one write to the disk, and each of them waits for two at most.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from services.hosting.errors import NotFound, StorageFailed
from services.metrics.core import (
    NANOSECONDS,
    Batch,
    Filter,
    Group,
    Question,
    Retention,
    Sample,
    Summary,
    check_batch,
)
from services.metrics.ports import PRUNE_STEP, MetricsStore
from services.metrics.watchers import Watchers
from tinyfleet.errors import InvalidInput
from tinyfleet.logs import fields
from tinyfleet.readings import Level, Reading

READERS = 2  # our choice: a slow question must not hold up the next one
MAX_WAITING_SAMPLES = 200_000  # about 50 MB; beyond that callers are told to come back
PRUNE_INTERVAL_S = 600.0
# A reporter repeats a batch within a minute; a day covers one that was suspended with its laptop.
REMEMBER_REQUESTS_NS = 86_400 * NANOSECONDS

log = logging.getLogger("metrics")


@dataclass(frozen=True)
class Keep:
    """How long and how many samples are kept."""

    days: float
    max_rows: int

    def retention(self, now_ns: int) -> Retention:
        """What may be deleted now."""
        return Retention(
            before_ns=now_ns - int(self.days * 86_400 * NANOSECONDS),
            max_rows=self.max_rows,
            requests_before_ns=now_ns - REMEMBER_REQUESTS_NS,
        )


@dataclass
class _Group:
    """Batches that are committed together; `stored` is done when they are on disk."""

    stored: asyncio.Future[None]
    batches: list[Batch] = field(default_factory=list)


class Collector:
    """The metrics service without gRPC. Made and used inside one event loop."""

    def __init__(self, store: MetricsStore, keep: Keep, clock_ns: Callable[[], int]) -> None:
        """clock_ns: nanoseconds since 1970-01-01T00:00:00Z."""
        self._store = store
        self._keep = keep
        self._clock_ns = clock_ns
        self._loop = asyncio.get_running_loop()
        self._writer = ThreadPoolExecutor(1, "metrics-writer")
        self._readers = ThreadPoolExecutor(READERS, "metrics-reader")
        self._next: _Group | None = None
        self._waiting = self._stored = 0
        self._committing: asyncio.Task[None] | None = None
        self._pruning: asyncio.Task[None] | None = None
        self._is_failing = False
        self._tell_health: Callable[[bool], None] = lambda _: None
        self.watchers = Watchers()

    def start(self) -> None:
        """Begin to prune in the background, unless that goes on already."""
        if self._pruning is None:
            self._pruning = self._loop.create_task(self._prune_forever())

    async def report(self, batch: Batch) -> None:
        """Return when the batch is on disk, now or since an earlier call with its request id.

        Raises InvalidInput for a batch that cannot be stored, StorageFailed when it was not.
        """
        check_batch(batch, self._clock_ns())
        if self._waiting + len(batch.samples) > MAX_WAITING_SAMPLES:
            raise StorageFailed("too many samples wait to be stored; try again in a second")
        group = self._open_group()
        group.batches.append(batch)
        self._waiting += len(batch.samples)
        # A caller that hangs up must not take the others of its group with it.
        await asyncio.shield(group.stored)

    async def samples(self, which: Filter, limit: int) -> list[Sample]:
        """See `MetricsStore.samples`."""
        return await self._loop.run_in_executor(self._readers, self._store.samples, which, limit)

    async def groups(self, question: Question) -> list[Group]:
        """See `MetricsStore.groups`."""
        return await self._loop.run_in_executor(self._readers, self._store.groups, question)

    async def summarize(self, run_id: str) -> list[Summary]:
        """See `MetricsStore.summarize`; raises NotFound when no sample names the run."""
        if not run_id:
            raise InvalidInput("run_id is not set: name the run to summarize")
        found = await self._loop.run_in_executor(self._readers, self._store.summarize, run_id)
        if not found:
            raise NotFound(f"no sample names run '{run_id[:80]}'")
        return found

    async def prune(self) -> int:
        """Delete what may be deleted, in steps between which reports are stored; how many."""
        retention, deleted, step = self._keep.retention(self._clock_ns()), 0, PRUNE_STEP
        while step == PRUNE_STEP:
            step = await self._loop.run_in_executor(self._writer, self._store.prune, retention)
            deleted += step
        return deleted

    def tell_health(self, tell: Callable[[bool], None]) -> None:
        """Call `tell` with whether the last write to the store succeeded."""
        self._tell_health = tell

    async def end_watches(self) -> None:
        """End the streams of all watchers, once they have had what waits for them."""
        self.watchers.end()

    def readings(self) -> Iterable[Reading]:
        """How the store is, and how many samples wait for it."""
        values = {
            "stored_samples": self._stored,
            "waiting_samples": self._waiting,
            "watchers": len(self.watchers),
        }
        if self._is_failing:
            yield Reading(
                "storage", Level.ERROR, "samples are not stored; the log says why", values
            )
        else:
            yield Reading("storage", values=values)

    async def close(self) -> None:
        """Finish what was reported, then close the store."""
        if self._pruning is not None:
            self._pruning.cancel()
            await asyncio.wait([self._pruning])
        while self._committing is not None:
            await asyncio.wait([self._committing])
        for pool in (self._writer, self._readers):
            await asyncio.to_thread(pool.shutdown)
        self._store.close()

    def _open_group(self) -> _Group:
        if self._next is None:
            self._next = _Group(self._loop.create_future())
            if self._committing is None:
                self._committing = self._loop.create_task(self._commit_all())
        return self._next

    async def _commit_all(self) -> None:
        while (group := self._next) is not None:
            self._next = None
            await self._commit(group)
        self._committing = None

    async def _commit(self, group: _Group) -> None:
        try:
            is_new = await self._loop.run_in_executor(
                self._writer, self._store.append, group.batches, self._clock_ns()
            )
        except Exception as error:  # noqa: BLE001 - whatever it is, nothing may be acknowledged
            self._fail(group, error)
        else:
            for batch, new in zip(group.batches, is_new, strict=True):
                if new:
                    self._stored += len(batch.samples)
                    self.watchers.offer(batch.samples)
            group.stored.set_result(None)
            self._is_failing = False
            self._tell_health(True)
        finally:
            self._waiting -= sum(len(batch.samples) for batch in group.batches)

    def _fail(self, group: _Group, error: Exception) -> None:
        if not isinstance(error, StorageFailed):
            log.error("unexpected error", exc_info=error)
            error = StorageFailed("cannot store samples; the service's log has the details")
        self._is_failing = True
        self._tell_health(False)
        log.warning("samples not stored", extra=fields(batches=len(group.batches), reason=error))
        group.stored.set_exception(error)
        group.stored.exception()  # seen: a group whose callers all hung up is not worth a warning

    async def _prune_forever(self) -> None:
        while True:
            try:
                if deleted := await self.prune():
                    log.info("old samples deleted", extra=fields(count=deleted))
            except StorageFailed as error:
                log.warning("old samples not deleted", extra=fields(reason=error))
            await asyncio.sleep(PRUNE_INTERVAL_S)
