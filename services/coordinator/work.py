"""The words of the dispatcher: assignments, what the aggregator tells, what has to be done.

Plain values only. Times are seconds on a steady clock (one that never jumps), given by the caller.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from tinyfleet.strategies import TrainingPlan

_ASSIGNMENT_ID = re.compile(r"([a-z0-9]{1,32})-(\d{1,10})-(\d{1,10})-(\d{1,10})\Z", re.ASCII)


class Assignment(NamedTuple):
    """One slot of one round, given to one agent. Its id is the update's idempotency key."""

    run_id: str
    round: int
    slot: int
    attempt: int

    @property
    def id(self) -> str:
        return f"{self.run_id}-{self.round}-{self.slot}-{self.attempt}"


def parse_assignment_id(text: str) -> Assignment | None:
    """The assignment of that id; None when it cannot be one of ours."""
    match = _ASSIGNMENT_ID.match(text)
    if match is None:
        return None
    run_id, *numbers = match.groups()
    return Assignment(run_id, *(int(number) for number in numbers))


@dataclass(frozen=True, slots=True)
class RoundWork:
    """What every slot has in common that starts from the same version, by the same plan.

    version: of the model; also the round, unless the run is asynchronous. parameters: the start
    that is that version, as docs/formats/start.md has it; empty when it is too large to travel
    inside an assignment and has to be fetched. relative_to: the version that they are the changes
    to, None when they are everything.
    """

    run_id: str
    version: int
    plan: TrainingPlan
    parameters: bytes
    relative_to: int | None = None


class ClosedRound(NamedTuple):
    """A round that the aggregator has applied to the model.

    loss: mean over the updates that stayed finite, nan when none did. staleness: mean over all, in
    versions; 0 unless rounds overlap.
    """

    round: int
    updates: int
    loss: float
    samples: int
    bytes_up: int
    slowest_training_s: float
    diverged: int
    staleness: float = 0.0


class Totals(NamedTuple):
    """What went into a model since the run was opened: the updates that count, and nothing else."""

    updates: int = 0
    samples: int = 0
    bytes_up: int = 0
    diverged: int = 0
    bytes_down: int = 0


NOTHING = Totals()


class RefusedUpdate(NamedTuple):
    """An update that the aggregator did not take, so that its slot has to be given out again.

    stale: nothing is wrong with it but that it started from too old a version.
    """

    assignment_id: str
    reason: str
    stale: bool = False


@dataclass(frozen=True, slots=True)
class ModelChange:
    """What the aggregator says about a run's model.

    whole: the first message of a stream describes the whole state, later ones what changed.
    version: of the model; also the round that is open, and received are slots of that round. Of an
    asynchronous run open_slots are those whose updates are taken, as round * slots of a round +
    slot, in place of both. totals: of all rounds up to `version`. problem: why updates cannot be
    stored; empty when they can.
    """

    version: int
    parameters: bytes = b""
    received: Sequence[int] = ()
    open_slots: Sequence[int] = ()
    refused: Sequence[RefusedUpdate] = ()
    closed: Sequence[ClosedRound] = ()
    ended: bool = False
    whole: bool = False
    totals: Totals = NOTHING
    problem: str = ""


class SendBrief(NamedTuple):
    """Tell the agent behind a session what a run is, before its first assignment of it."""

    session: int
    run_id: str


class SendAssignment(NamedTuple):
    """Give the agent behind a session a slot to train."""

    session: int
    assignment: Assignment
    work: RoundWork


class Withdraw(NamedTuple):
    """Tell the agent behind a session that an assignment is no longer wanted."""

    session: int
    assignment_id: str


class CloseSession(NamedTuple):
    """End a session: its agent is silent, or (replaced) has attached again under its name."""

    session: int
    reason: str
    replaced: bool


class SaveRun(NamedTuple):
    """A run's status has changed: store it."""

    run_id: str


class EndRun(NamedTuple):
    """Tell the aggregator that a run is over, and `Dispatcher.ended` what it answers."""

    run_id: str


class RunChanged(NamedTuple):
    """Something about a run that an operator sees has changed."""

    run_id: str


class RoundClosed(NamedTuple):
    """A round is applied: report it. seconds: since it was opened, None when that was not seen."""

    run_id: str
    closed: ClosedRound
    seconds: float | None
    reassignments: int


Action = (
    SendBrief
    | SendAssignment
    | Withdraw
    | CloseSession
    | SaveRun
    | EndRun
    | RunChanged
    | RoundClosed
)
