"""Follows the models of runs at the aggregator, and ends them there; waits when it is away."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import AsyncGenerator
from typing import Protocol, cast

from services.coordinator.ports import (
    Aggregator,
    AggregatorRefused,
    AggregatorUnavailable,
    Ended,
    ModelUnknown,
)
from services.coordinator.work import ModelChange
from tinyfleet.logs import fields

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 2.0  # our choice: between attempts to reach the aggregator

log = logging.getLogger("aggregator")


class Listener(Protocol):
    """Whom it concerns. Calls never wait."""

    def goes_on(self, run_id: str) -> bool:
        """Whether the run's model is still to be followed."""
        ...

    def model_changed(self, run_id: str, change: ModelChange) -> None: ...

    def aggregator_lost(self, run_id: str, problem: str) -> None: ...

    def run_refused(self, run_id: str, reason: str) -> None: ...

    def run_ended(self, run_id: str, ended: Ended | None) -> None:
        """The aggregator knows that the run is over; None when it has no such run."""
        ...


class Follower:
    """One task per run: first it follows the model, then, after `end`, it ends the run."""

    def __init__(self, aggregator: Aggregator, listener: Listener) -> None:
        self._aggregator = aggregator
        self._listener = listener
        self._following: dict[str, asyncio.Task[None]] = {}
        self._ending: dict[str, asyncio.Task[None]] = {}

    def follow(self, run_id: str, spec: bytes) -> None:
        """Open a run at the aggregator and follow its model. spec: the serialised message."""
        self._following[run_id] = asyncio.create_task(self._follow(run_id, spec))

    def end(self, run_id: str) -> None:
        """Stop following, and have the run ended at the aggregator."""
        task = self._following.pop(run_id, None)
        if task is not None and task is not asyncio.current_task():
            task.cancel()
        self._ending[run_id] = asyncio.create_task(self._end(run_id))

    async def close(self) -> None:
        """Stop everything."""
        tasks = [*self._following.values(), *self._ending.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._aggregator.close()

    async def _follow(self, run_id: str, spec: bytes) -> None:
        pauses = _Pauses()
        while self._listener.goes_on(run_id):
            problem = "it ended the stream"
            try:
                await self._aggregator.open_run(run_id, spec)
                await self._read(run_id, pauses)
            except (AggregatorRefused, ModelUnknown) as error:
                self._listener.run_refused(run_id, str(error))
                return
            except AggregatorUnavailable as error:
                problem = str(error)
            if self._listener.goes_on(run_id):
                await self._wait(run_id, problem, pauses)

    async def _read(self, run_id: str, pauses: _Pauses) -> None:
        changes = cast("AsyncGenerator[ModelChange]", self._aggregator.watch(run_id))
        async with contextlib.aclosing(changes):
            async for change in changes:
                self._listener.model_changed(run_id, change)
                pauses.reset()
                if not self._listener.goes_on(run_id):
                    return

    async def _end(self, run_id: str) -> None:
        pauses = _Pauses()
        ended: Ended | None = None
        while True:
            try:
                ended = await self._aggregator.end_run(run_id)
                break
            except (AggregatorRefused, ModelUnknown):
                break
            except AggregatorUnavailable as error:
                await self._wait(run_id, str(error), pauses)
        del self._ending[run_id]
        self._listener.run_ended(run_id, ended)

    async def _wait(self, run_id: str, problem: str, pauses: _Pauses) -> None:
        if pauses.at_start:
            where = fields(run=run_id, address=self._aggregator.address, reason=problem)
            log.warning("aggregator does not answer, trying again", extra=where)
        self._listener.aggregator_lost(run_id, problem)
        await asyncio.sleep(pauses.next())


class _Pauses:
    """Pauses that double, jittered, so that many runs do not come back in step."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self._next = FIRST_PAUSE_S

    @property
    def at_start(self) -> bool:
        return self._next == FIRST_PAUSE_S

    def next(self) -> float:
        pause, self._next = self._next, min(2 * self._next, LONGEST_PAUSE_S)
        return pause * random.uniform(0.5, 1.0)
