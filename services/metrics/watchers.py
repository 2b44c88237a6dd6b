"""Followers of samples. Each holds a bounded number; one that is too slow loses the oldest."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable

from services.hosting.errors import NotReady
from services.metrics.core import Filter, Sample

MAX_WAITING = 10_000
MAX_WATCHERS = 256


class Watcher:
    """One follower: the samples that its filter means, as they arrive."""

    def __init__(self, which: Filter, capacity: int) -> None:
        self._which = which
        self._waiting: deque[Sample] = deque(maxlen=capacity)
        self._dropped = 0
        self._changed = asyncio.Event()
        self._over = False

    def offer(self, samples: Iterable[Sample]) -> None:
        """Take those that the filter means."""
        for sample in samples:
            if self._which.matches(sample):
                self._dropped += len(self._waiting) == self._waiting.maxlen
                self._waiting.append(sample)
                self._changed.set()

    def end(self) -> None:
        """No more samples come."""
        self._over = True
        self._changed.set()

    async def next(self, most: int) -> tuple[list[Sample], int] | None:
        """Up to `most` samples and how many were dropped before them; None after the last one."""
        await self._changed.wait()
        if not self._waiting:
            return None
        taken = [self._waiting.popleft() for _ in range(min(most, len(self._waiting)))]
        dropped, self._dropped = self._dropped, 0
        if not (self._waiting or self._over):
            self._changed.clear()
        return taken, dropped


class Watchers:
    """All followers."""

    def __init__(self, capacity: int = MAX_WAITING) -> None:
        """capacity: most samples that wait for one follower."""
        self._capacity = capacity
        self._all: set[Watcher] = set()

    def __len__(self) -> int:
        return len(self._all)

    def add(self, which: Filter) -> Watcher:
        """A new follower; raises NotReady when there are too many."""
        if len(self._all) >= MAX_WATCHERS:
            raise NotReady(f"{MAX_WATCHERS} watchers follow already: end one of them")
        watcher = Watcher(which, self._capacity)
        self._all.add(watcher)
        return watcher

    def remove(self, watcher: Watcher) -> None:
        """It does not follow any more."""
        self._all.discard(watcher)

    def offer(self, samples: Iterable[Sample]) -> None:
        """Tell everyone."""
        for watcher in self._all:
            watcher.offer(samples)

    def end(self) -> None:
        """End all followers, once they have had what waits for them."""
        for watcher in self._all:
            watcher.end()
