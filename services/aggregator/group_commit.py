"""One thread that writes: while it commits, what arrives meanwhile becomes the next commit.

So an update waits for at most two commits, and a hundred that arrive together share one.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, TypeVar

from services.aggregator.ports import Entry, Journal
from services.hosting.errors import StorageFailed

Result = TypeVar("Result")

# Called with (status, message) once it is known what becomes of an update.
Answer = Callable[["Receipt", str], None]


class Receipt(Enum):
    """What is said of an update."""

    ACCEPTED = "accepted"
    LATE = "late"
    INVALID = "invalid"
    RETRY = "retry"


@dataclass(slots=True)
class Batch:
    """Updates that are stored together, and whom to tell about each.

    error: why they were not stored. seconds: how long the commit took.
    """

    entries: list[Entry] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    error: StorageFailed | None = None
    seconds: float = 0.0


class GroupCommit:
    """Writes to a journal from one thread. Its methods belong to the loop it was made in."""

    def __init__(self, journal: Journal, on_done: Callable[[Batch], None]) -> None:
        """on_done: called in the loop with each batch, stored or not."""
        self._journal = journal
        self._on_done = on_done
        self._loop = asyncio.get_running_loop()
        self._next = Batch()
        self._is_busy = self._is_due = False
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="journal", daemon=True)
        self._thread.start()

    def add(self, entry: Entry, answer: Answer) -> None:
        """Store an update with the next commit; `answer` travels with it."""
        self._next.entries.append(entry)
        self._next.answers.append(answer)
        if not (self._is_busy or self._is_due):
            self._is_due = True
            # Once the loop has handled all that it has read: those belong together.
            self._loop.call_soon(self._begin)

    async def run(self, call: Callable[..., Result], *arguments: Any) -> Result:
        """The result of a call that uses the journal, made in the writing thread."""
        future: asyncio.Future[Result] = self._loop.create_future()

        def job() -> None:
            try:
                result = call(*arguments)
            except Exception as error:  # noqa: BLE001 - it is raised where the result is awaited
                self._loop.call_soon_threadsafe(_fail, future, error)
            else:
                self._loop.call_soon_threadsafe(_succeed, future, result)

        self._jobs.put(job)
        return await future

    async def close(self) -> None:
        """Finish what was added, then end the thread."""
        while self._is_busy or self._is_due:
            await self.run(lambda: None)
        self._jobs.put(None)
        await self._loop.run_in_executor(None, self._thread.join)

    def _begin(self) -> None:
        batch, self._next = self._next, Batch()
        self._is_busy, self._is_due = True, False
        self._jobs.put(lambda: self._commit(batch))

    def _commit(self, batch: Batch) -> None:
        begun = time.perf_counter()
        try:
            self._journal.append(batch.entries, ())
        except StorageFailed as error:
            batch.error = error
        except Exception as error:  # noqa: BLE001 - whatever it is, nothing may be acknowledged
            batch.error = StorageFailed(f"cannot store updates: {type(error).__name__}: {error}")
        batch.seconds = time.perf_counter() - begun
        self._loop.call_soon_threadsafe(self._finish, batch)

    def _finish(self, batch: Batch) -> None:
        self._is_busy = False
        if self._next.entries:
            self._begin()
        self._on_done(batch)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()


def _succeed(future: asyncio.Future[Result], result: Result) -> None:
    if not future.cancelled():
        future.set_result(result)


def _fail(future: asyncio.Future[Any], error: Exception) -> None:
    if not future.cancelled():
        future.set_exception(error)
