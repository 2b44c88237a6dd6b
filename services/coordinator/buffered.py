"""The open slots of an asynchronous run: those of later rounds are given out beside earlier ones.

The aggregator says which slots are open (`ModelChange.open_slots`): as many as may be out at once,
the lowest that are not stored. Each is given out with the model that is the newest then, and taken
back when it has fallen too far behind, so that a slow agent holds up nobody and begins anew.
"""

from __future__ import annotations

from collections.abc import Sequence

from services.coordinator.rounds import OpenRound, Slot
from services.coordinator.work import Assignment, ModelChange, RoundWork
from tinyfleet.strategies import Strategy
from tinyfleet.strategies.base import Asynchronous


class OpenBuffer(OpenRound):
    """Like a round that never ends: slots come and go. They are numbered through the whole run."""

    def __init__(self, work: RoundWork, strategy: Strategy, first_attempt: int) -> None:
        """first_attempt: as in `OpenRound`, for the slots that are open at the start."""
        super().__init__(work, 0, 0)
        assert isinstance(strategy, Asynchronous)  # noqa: S101 - the caller has looked
        self._strategy: Strategy = strategy
        self._max_staleness = strategy.max_staleness
        self._slots_of_round = strategy.agents_per_round
        self._first_attempt = first_attempt
        # Of each open slot, the versions that its assignments were given out with, by their ids.
        self._bases: dict[int, dict[str, int]] = {}

    def move_on(self, work: RoundWork) -> None:
        """There is a new version."""
        self.work = work

    def work_of(self, slot: int) -> RoundWork:
        plan = self._strategy.plan(slot // self._slots_of_round)
        return RoundWork(self.work.run_id, self.work.version, plan, self.work.parameters)

    def next_waiting(self) -> int:
        """The slot that waits longest; one that an agent still works on only if there is no other.

        So a slow agent's work is not done twice while there is other work.
        """
        left = (slot for slot in self.waiting if not any(self._slots[slot].holders.values()))
        return next(left, super().next_waiting())

    def received(self, change: ModelChange) -> Sequence[int]:
        """The slots that are no longer open; those that are now begin to wait."""
        for slot in change.open_slots:
            if slot not in self._slots:
                self._slots[slot] = Slot(self._first_attempt)
                self.waiting[slot] = None
        self._first_attempt = 0  # what opens later was never given out before
        still_open = set(change.open_slots)
        return [slot for slot in self._slots if slot not in still_open]

    def receive(self, slot: int) -> list[tuple[str, str]]:
        holders = super().receive(slot)
        self._slots.pop(slot, None)
        self._bases.pop(slot, None)
        return holders

    def outdated(self, whole: bool) -> list[tuple[Assignment, str]]:
        """The (assignment, agent) pairs of which no update would be taken any more.

        What was given out in an earlier life of this process is not among them: with which version
        is not known, and the aggregator tells when it refuses its update. But a `whole` change says
        that some of what it told may have been missed: then it is among them.
        """
        oldest = self.work.version - self._max_staleness
        unknown = oldest - 1 if whole else oldest
        return [
            (self._assignment(slot, int(held.rpartition("-")[2])), agent)
            for slot, state in self._slots.items()
            for held, agent in state.holders.items()
            if agent is not None and self._bases.get(slot, {}).get(held, unknown) < oldest
        ]

    def take_back(self, assignment: Assignment) -> None:
        """No update of the assignment is taken: its slot waits unless another agent has it too."""
        slot = self._number(assignment)
        state = self._slots[slot]
        del state.holders[assignment.id]
        self._let_wait(slot, state)

    def give(self, slot: int, agent: str, deadline: float) -> Assignment:
        assignment = super().give(slot, agent, deadline)
        self._bases.setdefault(slot, {})[assignment.id] = self.work.version
        return assignment

    def _assignment(self, slot: int, attempt: int) -> Assignment:
        return Assignment(self.work.run_id, *divmod(slot, self._slots_of_round), attempt)

    def _number(self, assignment: Assignment) -> int:
        if assignment.slot >= self._slots_of_round:
            return -1
        return assignment.round * self._slots_of_round + assignment.slot
