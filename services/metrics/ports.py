"""What the metrics service needs of a store."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from services.metrics.core import Batch, Filter, Group, Question, Retention, Sample, Summary

# How much one call of `prune` may delete: short enough that a commit behind it does not wait long.
PRUNE_STEP = 10_000


class MetricsStore(Protocol):
    """Keeps samples in their order of arrival and answers questions about them.

    All methods block. `append` and `prune` are called by one thread at a time, the others by any.
    Every method raises StorageFailed when the store cannot be used; it has changed nothing then.
    """

    def append(self, batches: Sequence[Batch], now_ns: int) -> list[bool]:
        """Store batches, all or none; on disk when it returns.

        For each whether it was stored; False if its request id was there before, also in a batch
        of the same call.
        """
        ...

    def samples(self, which: Filter, limit: int) -> list[Sample]:
        """The first `limit` samples by time, those of the same time in order of arrival."""
        ...

    def groups(self, question: Question) -> list[Group]:
        """The first `question.limit` groups by key, as `core.group_samples` defines them."""
        ...

    def summarize(self, run_id: str) -> list[Summary]:
        """One summary per metric of the run, by name; [] when no sample names the run."""
        ...

    def prune(self, retention: Retention) -> int:
        """Delete up to PRUNE_STEP of what may be deleted; how many samples it deleted.

        Samples go in their order of arrival: an expired one stays until those before it go.
        """
        ...

    def close(self) -> None:
        """Give up the store; nothing else is called afterwards."""
        ...
