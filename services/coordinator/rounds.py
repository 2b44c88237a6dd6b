"""One run's open round: which slots are received, who works on which, which wait for an agent."""

from __future__ import annotations

from collections import OrderedDict

from services.coordinator.work import Assignment, RoundWork


class OpenRound:
    """The slots of a round. Every step is O(1) in the number of slots and agents.

    A slot waits until an agent takes it. It waits again when nobody works on it any more, or,
    while somebody still does, when its deadline has passed. The first update wins.

    waiting: the slots to be given out, first come, first served.
    """

    def __init__(self, work: RoundWork, slots: int, first_attempt: int) -> None:
        """first_attempt: where the attempts count from: above 0 if an earlier life of this process
        may have given out slots of the round.
        """
        self._is_inherited = first_attempt > 0
        self.work = work
        self.waiting: OrderedDict[int, None] = OrderedDict.fromkeys(range(slots))
        self._slots = [_Slot(first_attempt) for _ in range(slots)]
        self._deadlines: OrderedDict[int, float] = OrderedDict()
        self.reassignments = 0

    def next_waiting(self) -> int:
        """The slot that waits longest."""
        return next(iter(self.waiting))

    def avoided(self, slot: int) -> set[str]:
        """Agents that should not get this slot if another one can: they failed at it."""
        return self._slots[slot].avoided

    def give(self, slot: int, agent: str, deadline: float) -> Assignment:
        """Assign a waiting slot to an agent that is idle."""
        state = self._slots[slot]
        assignment = Assignment(self.work.run_id, self.work.round, slot, state.next_attempt)
        state.next_attempt += 1
        self.reassignments += bool(state.holders or state.avoided)
        self._hold(assignment, agent, deadline)
        return assignment

    def resume(self, assignment: Assignment, agent: str, deadline: float) -> bool:
        """Let an agent go on with what it has in hand; False when that is no longer wanted."""
        if assignment.round != self.work.round or assignment.slot >= len(self._slots):
            return False
        state = self._slots[assignment.slot]
        if state.received or state.holders.get(assignment.id):
            return False
        state.next_attempt = max(state.next_attempt, assignment.attempt + 1)
        self._hold(assignment, agent, deadline)
        return True

    def release(self, assignment: Assignment, failed: bool) -> None:
        """The agent no longer works on it; `failed` when it should not get the slot again."""
        state = self._slots[assignment.slot]
        agent = state.holders[assignment.id]
        state.holders[assignment.id] = None
        if failed and agent is not None:
            del state.holders[assignment.id]  # no update can come of it any more
            state.avoided.add(agent)
        if not state.received and not any(state.holders.values()):
            self._deadlines.pop(assignment.slot, None)
            self.waiting[assignment.slot] = None

    def receive(self, slot: int) -> list[tuple[str, str]]:
        """The slot's update is stored: the (assignment id, agent) pairs that worked on it."""
        if slot >= len(self._slots) or self._slots[slot].received:
            return []
        state = self._slots[slot]
        state.received = True
        self.waiting.pop(slot, None)
        self._deadlines.pop(slot, None)
        return [(held, agent) for held, agent in state.holders.items() if agent]

    def holder(self, assignment: Assignment) -> str | None:
        """The agent that works on an assignment of this round, if one does."""
        if assignment.round != self.work.round or assignment.slot >= len(self._slots):
            return None
        return self._slots[assignment.slot].holders.get(assignment.id)

    def is_contested(self, slot: int) -> bool:
        """Whether several assignments may have been served, so that the winner is not known."""
        return self._is_inherited or len(self._slots[slot].holders) > 1

    def is_received(self, slot: int) -> bool:
        return self._slots[slot].received

    def unfinished(self) -> list[int]:
        """The slots whose updates are not stored yet."""
        return [slot for slot, state in enumerate(self._slots) if not state.received]

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

    def _hold(self, assignment: Assignment, agent: str, deadline: float) -> None:
        self._slots[assignment.slot].holders[assignment.id] = agent
        self.waiting.pop(assignment.slot, None)
        # Deadlines are all equally far away, so the order of insertion is the order of time.
        self._deadlines[assignment.slot] = deadline
        self._deadlines.move_to_end(assignment.slot)


class _Slot:
    """holders: each assignment that may still be served -> its agent, None when that left."""

    __slots__ = ("avoided", "holders", "next_attempt", "received")

    def __init__(self, first_attempt: int) -> None:
        self.received = False
        self.holders: dict[str, str | None] = {}
        self.avoided: set[str] = set()
        self.next_attempt = first_attempt
