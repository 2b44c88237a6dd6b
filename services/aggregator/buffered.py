"""The ledger of an asynchronous run: what comes first makes the next version.

Slots are numbered through the whole run, round * slots of a round + slot. Updates are taken for the
lowest slots that are not done, as many as the strategy lets be out at once, whichever version they
started from, unless that is too old. As many as a round has slots make a version, folded in the
order in which they were stored; more are asked to wait meanwhile, so that the version an update is
admitted to is the one it is applied to, and the journal can say so.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence
from dataclasses import replace

from services.aggregator.core import (
    ENDED,
    WAIT,
    ClosedRound,
    Decision,
    Ledger,
    RoundUpdate,
    Snapshot,
    Submission,
    Verdict,
)
from tinyfleet.errors import InvalidInput
from tinyfleet.run import RunSpec
from tinyfleet.strategies.base import asynchronous
from tinyfleet.strategies.server import ServerState


def ledger_of(run: RunSpec) -> type[Ledger]:
    """The kind of ledger that keeps a run."""
    return BufferedLedger if asynchronous(run.make_strategy()) else Ledger


class Window:
    """The lowest slots of a run that are not done.

    Of `total` slots, `done` are: all but the `missing` ones below some number, and none above. At
    most `size` are open at a time, so `missing`, the gaps, are always fewer.
    """

    def __init__(self, total: int, size: int, done: int, missing: Sequence[int]) -> None:
        self._total, self._size = total, size
        self._missing = sorted(missing)
        self._next = done + len(missing)  # the first of those that nobody has been given
        is_whole = self._next <= total and len(missing) < size
        if not is_whole or any(not 0 <= number < self._next for number in missing):
            raise InvalidInput("the snapshot's missing slots are damaged: restore it from a copy")

    @property
    def missing(self) -> tuple[int, ...]:
        """Slots that are not done although a later one is."""
        return tuple(self._missing)

    @property
    def open(self) -> tuple[int, ...]:
        """The slots whose updates are taken, in order."""
        return (*self._missing, *range(self._next, self._end))

    def is_done(self, number: int) -> bool:
        return number < self._next and not self._is_missing(number)

    def is_ahead(self, number: int) -> bool:
        """Whether the slot is not to be worked on yet."""
        return number >= self._end

    def finish(self, number: int) -> None:
        """An open slot is done."""
        if number < self._next:
            self._missing.pop(bisect_left(self._missing, number))
            return
        for gap in range(self._next, number):
            insort(self._missing, gap)
        self._next = number + 1

    @property
    def _end(self) -> int:
        return min(self._next + self._size - len(self._missing), self._total)

    def _is_missing(self, number: int) -> bool:
        place = bisect_left(self._missing, number)
        return place < len(self._missing) and self._missing[place] == number


class BufferedLedger(Ledger):
    """One asynchronous run: its model, and the buffer of what makes the next version."""

    def __init__(self, run: RunSpec, start: Snapshot) -> None:
        super().__init__(run, start)
        strategy = asynchronous(self._strategy)
        if strategy is None:
            raise InvalidInput(f"the rounds of {run.strategy} do not overlap")
        self._max_staleness = strategy.max_staleness
        total, done = run.rounds * self._slots, start.version * self._slots
        self._window = Window(total, strategy.concurrency, done, start.missing)
        self._missing = start.missing

    @property
    def snapshot(self) -> Snapshot:
        return replace(super().snapshot, missing=self._missing)

    @property
    def received_slots(self) -> list[int]:
        """None: which slots are done shows in `open_slots`."""
        return []

    @property
    def open_slots(self) -> tuple[int, ...]:
        return self._window.open

    def stored(self, updates: Sequence[RoundUpdate]) -> None:
        super().stored(updates)
        for update in updates:
            self._window.finish(self._key(update))

    def can_close(self, round: int) -> bool:
        raise InvalidInput("a round of an asynchronous run ends when its updates are there")

    def close_round(self, folded: ServerState) -> ClosedRound:
        closed = super().close_round(folded)
        self._missing = self._window.missing
        return closed

    def _key(self, update: RoundUpdate | Submission) -> int:
        return update.round * self._slots + update.slot

    def _in_order(self) -> list[RoundUpdate]:
        return list(self._received.values())

    def _misplaced(self, submission: Submission) -> Decision | None:
        """The decision about a submission that cannot go into the buffer."""
        if self._holds:
            return WAIT
        if self.ended or self.version >= self.run.rounds:
            return ENDED
        if (refusal := self._not_open(submission)) is not None:
            return refusal
        if self._key(submission) in self._pending:
            return WAIT
        if len(self._received) + len(self._pending) >= self._slots:
            return WAIT
        return self._too_old(submission)

    def _not_open(self, submission: Submission) -> Decision | None:
        slot, where = submission.slot, f"slot {submission.slot} of round {submission.round}"
        if slot >= self._slots:
            return Decision(Verdict.INVALID, f"slot {slot}: a round has {self._slots} slots")
        if self._window.is_done(number := self._key(submission)):
            return Decision(Verdict.LATE, f"{where} has its update already")
        if self._window.is_ahead(number):
            return Decision(Verdict.INVALID, f"{where} is not open yet")
        return None

    def _too_old(self, submission: Submission) -> Decision | None:
        if self.version - submission.base_version <= self._max_staleness:
            return None
        return Decision(
            Verdict.STALE,
            f"trained from version {submission.base_version}, {self.version} is the newest: more "
            f"than the {self._max_staleness} that max_staleness allows",
        )

    def _check_base(self, submission: Submission) -> None:
        if submission.base_version > self.version:
            raise InvalidInput(
                f"trained from version {submission.base_version}, {self.version} is the newest"
            )

    def _samples_of(self, round: int) -> int:
        return self._strategy.plan(round).samples
