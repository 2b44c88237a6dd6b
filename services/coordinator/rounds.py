"""One run's open round: which slots are received, who works on which, which wait for an agent."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from services.coordinator.work import Assignment, ModelChange, RoundWork


class OpenRound:
    """The slots of a round. Every step is O(1) in the number of slots and agents.

    A slot waits until an agent takes it. It waits again when nobody works on it any more, or,
    while somebody still does, when its deadline has passed. The first update wins.

    waiting: the slots to be given out, first come, first served. `buffered.OpenBuffer` is the same
    for a run whose rounds overlap.
    """

    def __init__(self, work: RoundWork, slots: int, first_attempt: int) -> None:
        """first_attempt: where the attempts count from: above 0 if an earlier life of this process
        may have given out slots of the round.
        """
        self.work = work
        self.waiting: OrderedDict[int, None] = OrderedDict.fromkeys(range(slots))
        self._slots = {slot: Slot(first_attempt) for slot in range(slots)}
        self._deadlines: OrderedDict[int, float] = OrderedDict()
        self.reassignments = 0

    @property
    def version(self) -> int:
        """Of the model that slots are given out with."""
        return self.work.version

    def work_of(self, slot: int) -> RoundWork:
        """What an agent that is given the slot now has to know."""
        return self.work

    def received(self, change: ModelChange) -> Sequence[int]:
        """The slots whose updates are stored, by what the aggregator says of this version."""
        return change.received

    def next_waiting(self) -> int:
        """The slot that waits longest."""
        return next(iter(self.waiting))

    def avoided(self, slot: int) -> set[str]:
        """Agents that should not get this slot if another one can: they failed at it."""
        return self._slots[slot].avoided

    def give(self, slot: int, agent: str, deadline: float) -> Assignment:
        """Assign a waiting slot to an agent that is idle."""
        state = self._slots[slot]
        assignment = self._assignment(slot, state.next_attempt)
        state.next_attempt += 1
        self.reassignments += bool(state.holders or state.avoided)
        self._hold(assignment, agent, deadline)
        return assignment

    def resume(self, assignment: Assignment, agent: str, deadline: float) -> bool:
        """Let an agent go on with what it has in hand; False when that is no longer wanted."""
        state = self._slots.get(self._number(assignment))
        if state is None or state.received or state.holders.get(assignment.id):
            return False
        state.next_attempt = max(state.next_attempt, assignment.attempt + 1)
        self._hold(assignment, agent, deadline)
        return True

    def release(self, assignment: Assignment, failed: bool) -> None:
        """The agent no longer works on it; `failed` when it should not get the slot again."""
        slot = self._number(assignment)
        state = self._slots[slot]
        agent = state.holders[assignment.id]
        state.holders[assignment.id] = None
        if failed and agent is not None:
            del state.holders[assignment.id]  # no update can come of it any more
            state.avoided.add(agent)
        self._let_wait(slot, state)

    def receive(self, slot: int) -> list[tuple[str, str]]:
        """The slot's update is stored: the (assignment id, agent) pairs that worked on it."""
        state = self._slots.get(slot)
        if state is None or state.received:
            return []
        state.received = True
        self.waiting.pop(slot, None)
        self._deadlines.pop(slot, None)
        return [(held, agent) for held, agent in state.holders.items() if agent]

    def holder(self, assignment: Assignment) -> str | None:
        """The agent that works on an assignment of this round, if one does."""
        state = self._slots.get(self._number(assignment))
        return None if state is None else state.holders.get(assignment.id)

    def is_contested(self, slot: int) -> bool:
        """Whether several assignments may have been served, so that the winner is not known."""
        state = self._slots.get(slot)
        return state is not None and (state.is_inherited or len(state.holders) > 1)

    def is_received(self, slot: int) -> bool:
        return self._slots[slot].received

    def unfinished(self) -> list[int]:
        """The slots whose updates are not stored yet."""
        return [slot for slot, state in self._slots.items() if not state.received]

    def in_flight(self) -> bool:
        """Whether an agent works on a slot and has time left."""
        return bool(self._deadlines)

    def expire(self, now: float) -> bool:
        """Let slots past their deadline wait for another agent; whether there are any."""
        found = False
        while self._deadlines:
            slot, deadline = next(iter(self._deadlines.items()))
            if deadline > now:
                break
            del self._deadlines[slot]
            self.waiting[slot] = None
            found = True
        return found

    def _assignment(self, slot: int, attempt: int) -> Assignment:
        return Assignment(self.work.run_id, self.work.version, slot, attempt)

    def _number(self, assignment: Assignment) -> int:
        """What the assignment's slot is called here; -1 when it is of another round."""
        return assignment.slot if assignment.round == self.work.version else -1

    def _let_wait(self, slot: int, state: Slot) -> None:
        """A slot is left by an agent: it waits, unless it is received or another works on it."""
        if not state.received and not any(state.holders.values()):
            self._deadlines.pop(slot, None)
            self.waiting[slot] = None

    def _hold(self, assignment: Assignment, agent: str, deadline: float) -> None:
        slot = self._number(assignment)
        self._slots[slot].holders[assignment.id] = agent
        self.waiting.pop(slot, None)
        # Deadlines are all equally far away, so the order of insertion is the order of time.
        self._deadlines[slot] = deadline
        self._deadlines.move_to_end(slot)


class Slot:
    """holders: each assignment that may still be served -> its agent, None when that left.

    is_inherited: whether an earlier life of this process may have given it out.
    """

    __slots__ = ("avoided", "holders", "is_inherited", "next_attempt", "received")

    def __init__(self, first_attempt: int) -> None:
        self.received = False
        self.is_inherited = first_attempt > 0
        self.holders: dict[str, str | None] = {}
        self.avoided: set[str] = set()
        self.next_attempt = first_attempt
