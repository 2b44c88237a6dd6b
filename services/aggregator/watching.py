"""What a follower of a run is told: the whole state once, then what changed, however slow it is.

A watcher holds a bounded amount: of versions only the newest, of closed rounds at most
MAX_CLOSED_ROUNDS entries, the oldest of which are merged into one so that totals stay right.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import NamedTuple

from services.aggregator.core import ClosedRound, Totals

MAX_CLOSED_ROUNDS = 256
MAX_REFUSED = 1024  # beyond that the oldest are dropped: their slots' deadlines pass


class Refused(NamedTuple):
    """An update that was not taken, so that its slot has to be given out again.

    stale: nothing is wrong with it but that it started from too old a version.
    """

    assignment_id: str
    reason: str
    stale: bool = False


@dataclass(frozen=True, slots=True)
class Change:
    """What changed since the change before.

    parameters: of `version`, when that is new; empty when the model is large. received_slots: of
    the open round, not told before. open_slots: as in `State`. totals: of all rounds up to
    `version`. problem: why nothing can be stored at the moment; empty when it can.
    """

    version: int
    parameters: bytes
    received_slots: list[int]
    open_slots: tuple[int, ...]
    refused: list[Refused]
    closed: list[ClosedRound]
    ended: bool
    totals: Totals
    problem: str


@dataclass(frozen=True, slots=True)
class State:
    """The state of a run.

    parameters: of `version`, empty when the model is large. open_slots: of an asynchronous run,
    those whose updates are taken, as round * slots of a round + slot.
    """

    version: int
    parameters: bytes
    totals: Totals
    open_slots: tuple[int, ...] = ()


class Watcher:
    """One follower of one run."""

    def __init__(self, state: State, received: list[int], ended: bool, problem: str = "") -> None:
        self._state = state
        self._is_told = False
        self._received = received
        self._refused: deque[Refused] = deque(maxlen=MAX_REFUSED)
        self._closed: deque[ClosedRound] = deque()
        self._ended = ended
        self._problem = problem
        self._changed = asyncio.Event()
        self._changed.set()
        self._over = False

    def add_received(self, slots: list[int], state: State) -> None:
        """Updates of the open round were stored; `state` is the same version's."""
        if state.open_slots:
            self._state = state
        else:
            self._received += slots
        self._changed.set()

    def add_refused(self, refused: Refused) -> None:
        """An update was refused."""
        self._refused.append(refused)
        self._changed.set()

    def add_closed(self, closed: ClosedRound, state: State) -> None:
        """A round was applied: `state` is the new one."""
        if len(self._closed) == MAX_CLOSED_ROUNDS:
            oldest = self._closed.popleft()
            self._closed[0] = oldest.merged_with(self._closed[0])
        self._closed.append(closed)
        self._state, self._is_told = state, False
        self._received = []
        self._changed.set()

    def set_problem(self, problem: str) -> None:
        """Nothing can be stored, or all is well again when there is no problem."""
        self._problem = problem
        self._changed.set()

    def end_run(self) -> None:
        """The run has ended."""
        self._ended = True
        self._changed.set()

    def stop(self) -> None:
        """The service stops: after what is still to be told, `next` returns None."""
        self._over = True
        self._changed.set()

    async def next(self) -> Change | None:
        """The next change, as soon as there is one; None when there will be no more."""
        await self._changed.wait()
        self._changed.clear()
        if self._over:
            return None
        change = Change(
            version=self._state.version,
            parameters=b"" if self._is_told else self._state.parameters,
            received_slots=self._received,
            open_slots=self._state.open_slots,
            refused=list(self._refused),
            closed=list(self._closed),
            ended=self._ended,
            totals=self._state.totals,
            problem=self._problem,
        )
        self._is_told = True
        self._received = []
        self._refused.clear()
        self._closed.clear()
        self._over = self._ended
        if self._over:
            self._changed.set()
        return change
