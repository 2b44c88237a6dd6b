"""The samples of a topic that wait for one member of the fleet: a bounded queue.

One thread puts, an event loop takes. Nothing that trains ever blocks on it: whoever wants samples
awaits them in the loop, and can be cancelled there.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from edge_agents.trainers.protocol import NotNow
from tinyfleet.errors import InvalidInput
from tinyfleet.learner.protocol import Floats, Samples
from tinyfleet.run import SampleShape


@dataclass(frozen=True)
class Sample:
    """inputs, targets: one row each, float32."""

    inputs: Floats
    targets: Floats


@dataclass
class StreamCounts:
    """taken: by trainings. dropped: pushed out by newer ones while a training was under way.
    unused: the same while none was. dropped_at: of the last one, monotonic seconds.
    """

    taken: int = 0
    dropped: int = 0
    unused: int = 0
    dropped_at: float = -float("inf")


class StreamSource:
    """A SampleSource whose samples come when they come, in the order of the topic."""

    draws: ClassVar[bool] = False

    def __init__(
        self,
        widths: tuple[int, int],
        queue: int,
        timeout_s: float,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        """widths: values of an input and of a target. queue: samples that wait at most.

        timeout_s: how long to wait for the next one.
        """
        self.counts = StreamCounts()
        self._widths = widths
        self._waiting: deque[Sample] = deque(maxlen=queue)
        self._timeout_s = timeout_s
        self._timer = timer
        self._lock = threading.Lock()
        self._waiter: tuple[asyncio.AbstractEventLoop, asyncio.Future[None]] | None = None
        self._in_use = 0
        self._closed = False

    def check(self, need: SampleShape) -> None:
        """Raise InvalidInput unless the samples are what the run needs."""
        if self._widths != (need.inputs, need.outputs):
            raise InvalidInput(
                f"the topic gives {self._widths[0]} inputs and {self._widths[1]} targets a sample, "
                f"the run takes {need.inputs} and {need.outputs}"
            )

    def draw(self, round: int, slot: int, count: int) -> Samples:
        """Raises InvalidInput: samples of a topic are awaited, not drawn."""
        raise InvalidInput("samples of a topic come when they come: only `some` gives them")

    @contextlib.contextmanager
    def in_use(self) -> Iterator[None]:
        """A training is under way: what is pushed out meanwhile is lost to it."""
        self._in_use += 1
        try:
            yield
        finally:
            self._in_use -= 1

    def put(self, sample: Sample) -> None:
        """Add the newest; from any thread, never blocks. The oldest goes where there is no room."""
        with self._lock:
            if self._closed:
                return
            if len(self._waiting) == self._waiting.maxlen:
                self._count_pushed_out()
            self._waiting.append(sample)
            self._wake()

    def open(self) -> None:
        """Take samples, again after `close`: those that waited then are gone."""
        with self._lock:
            self._closed = False
            self._waiting.clear()

    def close(self) -> None:
        """No more will come. What waits can still be taken; then NotNow is raised."""
        with self._lock:
            self._closed = True
            self._wake()

    async def some(self, most: int) -> Samples:
        """The next 1 to `most` samples, as soon as there is one.

        Raises NotNow when none came for `timeout_s`, or when the stream is closed.
        """
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._arrival()
        except TimeoutError:
            raise NotNow(f"the topic gave no sample for {self._timeout_s:g} s") from None
        return _stacked(self._take(most))

    async def all(self, count: int) -> Samples:
        """The next `count` samples; raises NotNow like `some`. They may be more than can wait."""
        parts: list[Samples] = []
        while (missing := count - sum(map(len, parts))) > 0:
            parts.append(await self.some(missing))
        return Samples(
            np.concatenate([part.inputs for part in parts]),
            np.concatenate([part.targets for part in parts]),
        )

    async def _arrival(self) -> None:
        """Return when a sample waits."""
        while True:
            with self._lock:
                if self._waiting:
                    return
                if self._closed:
                    raise NotNow("the agent stops and its topic has no more samples")
                loop = asyncio.get_running_loop()
                future: asyncio.Future[None] = loop.create_future()
                self._waiter = loop, future
            await future

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                waiter[0].call_soon_threadsafe(_settle, waiter[1])

    def _take(self, most: int) -> list[Sample]:
        with self._lock:
            taken = [self._waiting.popleft() for _ in range(min(most, len(self._waiting)))]
            self.counts.taken += len(taken)
        return taken

    def _count_pushed_out(self) -> None:
        if self._in_use:
            self.counts.dropped += 1
            self.counts.dropped_at = self._timer()
        else:
            self.counts.unused += 1


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _stacked(samples: list[Sample]) -> Samples:
    return Samples(
        np.stack([sample.inputs for sample in samples]),
        np.stack([sample.targets for sample in samples]),
    )
