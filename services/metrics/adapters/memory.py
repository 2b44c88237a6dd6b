"""A store that forgets everything when the process ends: for tests and throw-away fleets."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from services.metrics.core import (
    Batch,
    Filter,
    Group,
    Question,
    Retention,
    Sample,
    Summary,
    group_samples,
    summarize_samples,
)
from services.metrics.ports import PRUNE_STEP


class MemoryStore:
    """A list of samples in their order of arrival."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._samples: list[Sample] = []
        self._batches: dict[str, int] = {}

    def append(self, batches: Sequence[Batch], now_ns: int) -> list[bool]:
        with self._lock:
            return [self._append(batch, now_ns) for batch in batches]

    def samples(self, which: Filter, limit: int) -> list[Sample]:
        with self._lock:
            found = [sample for sample in self._samples if which.matches(sample)]
        return sorted(found, key=lambda sample: sample.time_ns)[:limit]

    def groups(self, question: Question) -> list[Group]:
        with self._lock:
            return group_samples(self._samples, question)

    def summarize(self, run_id: str) -> list[Summary]:
        with self._lock:
            return summarize_samples(self._samples, run_id)

    def prune(self, retention: Retention) -> int:
        with self._lock:
            expired = self._expired(retention)
            del self._samples[:expired]
            before = retention.requests_before_ns
            self._batches = {key: time for key, time in self._batches.items() if time >= before}
            return expired

    def close(self) -> None:
        pass

    def _append(self, batch: Batch, now_ns: int) -> bool:
        if batch.request_id in self._batches:
            return False
        self._batches[batch.request_id] = now_ns
        self._samples += batch.samples
        return True

    def _expired(self, retention: Retention) -> int:
        recent = (
            position
            for position, sample in enumerate(self._samples)
            if sample.time_ns >= retention.before_ns
        )
        expired = next(recent, len(self._samples))
        surplus = len(self._samples) - retention.max_rows
        return min(max(expired, surplus, 0), PRUNE_STEP)
