"""A run: what is stored of it, how far it is, and what the dispatcher keeps while it is active."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass, field

from services.coordinator.buffered import OpenBuffer
from services.coordinator.fleet import Needs
from services.coordinator.rounds import OpenRound
from services.coordinator.starts import Starts
from services.coordinator.work import Assignment, ClosedRound, RoundWork, Totals
from tinyfleet.exchange import Exchange
from tinyfleet.run import RunSpec
from tinyfleet.strategies import Strategy
from tinyfleet.strategies.base import asynchronous

MAX_DIVERGED_ROUNDS = 20  # our choice, MUST match tinyfleet.simulation.federation


class RunStatus(enum.Enum):
    """Where a run stands; the values are what is stored."""

    PENDING = "pending"
    RUNNING = "running"
    FINISHED = "finished"
    STOPPED = "stopped"
    FAILED = "failed"

    @property
    def has_ended(self) -> bool:
        return self not in (RunStatus.PENDING, RunStatus.RUNNING)


@dataclass(slots=True)
class Progress:
    """How far a run is, as the aggregator last told: the journal knows which updates count.

    loss: of the last applied round, None before the first and when all of it diverged, and until
    one is applied after this process began. bytes_down: starts sent for those updates.
    """

    rounds_done: int = 0
    loss: float | None = None
    bytes_down: int = 0
    bytes_up: int = 0
    samples: int = 0
    diverged: int = 0

    def take(self, totals: Totals) -> None:
        """The totals of a run."""
        self.samples, self.diverged = totals.samples, totals.diverged
        self.bytes_up, self.bytes_down = totals.bytes_up, totals.bytes_down


@dataclass(frozen=True)
class RunRecord:
    """A run as it is stored. Times are seconds since 1970-01-01T00:00:00Z.

    spec: the serialised message, as the operator sent it. settled: whether the aggregator knows
    that the run has ended. progress and parameters_sha256 are stored then: before, the
    aggregator knows better.
    """

    run_id: str
    request_id: str
    spec: bytes
    create_time: float
    status: RunStatus = RunStatus.PENDING
    end_time: float | None = None
    message: str = ""
    parameters_sha256: str = ""
    settled: bool = False
    progress: Progress = field(default_factory=Progress)


@dataclass(slots=True, eq=False)
class ActiveRun:
    """A run that has work left, if only to be ended at the aggregator.

    problem: why the aggregator cannot go on, empty when it can. claims: agent -> what it said it
    has in hand before the open round was known. is_ending: no more work is given out.
    """

    run_id: str
    spec: RunSpec
    strategy: Strategy
    needs: Needs
    status: RunStatus
    first_attempt: int
    round: OpenRound | None = None
    round_opened: float | None = None
    problem: str = ""
    message: str = ""
    parameters_sha256: str = ""
    progress: Progress = field(default_factory=Progress)
    claims: dict[str, Assignment] = field(default_factory=dict)
    diverged_rounds: int = 0
    reassignments: int = 0
    is_ending: bool = False
    shown: str = ""
    starts: Starts = field(init=False)

    def __post_init__(self) -> None:
        exchange = Exchange(self.spec.model, self.strategy.plan(0))
        self.starts = Starts(self.spec.model, exchange)

    @property
    def overlaps(self) -> bool:
        """Whether slots of a round are given out before the round before is applied."""
        return asynchronous(self.strategy) is not None

    def open(self, work: RoundWork, first_attempt: int) -> OpenRound:
        """The slots that can be given out with a version that has just come."""
        if not self.overlaps:
            return OpenRound(work, self.strategy.agents_per_round, first_attempt)
        if isinstance(self.round, OpenBuffer):
            self.round.move_on(work)
            return self.round
        return OpenBuffer(work, self.strategy, first_attempt)

    def count_diverged(self, closed: ClosedRound) -> bool:
        """Whether too many rounds in a row had not one finite update."""
        lost = closed.diverged >= closed.updates or math.isnan(closed.loss)
        self.diverged_rounds = self.diverged_rounds + 1 if lost else 0
        return self.diverged_rounds >= MAX_DIVERGED_ROUNDS
