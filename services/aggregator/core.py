"""The rules of the aggregator: which updates count, when a round ends, what the model becomes.

Pure: no clock, storage, sockets or protobuf. A `Ledger` is one run. Its life is told from outside:

    decision = ledger.admit(submission)     STORE? then keep it on disk, and tell the outcome:
    ledger.stored([decision.update])        it is on disk: from now on it counts
    ledger.not_stored([decision.update])    it is not: as if it had never come
    if ledger.is_due: ledger.close_round(ledger.fold())

The same steps on the same updates give the same bits, so a ledger is rebuilt after a restart from
a snapshot and the updates that were stored since (`restore`).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

import numpy as np

from tinyfleet.errors import InvalidInput
from tinyfleet.exchange import Exchange, Payload
from tinyfleet.model.spec import Parameters
from tinyfleet.run import RunSpec
from tinyfleet.strategies import Update
from tinyfleet.strategies.base import MAX_DELTA_NORM, MAX_SENT_NORM, Memory, delta_norm
from tinyfleet.strategies.server import ServerState, next_state, state_at

MAX_ROUND_BYTES = 1 << 30  # our choice: the updates of one round are held in memory
MAX_TRAINING_US = 2**53
# Our choice: how many closed rounds back a repeat is still answered "accepted" and not "late".
REMEMBERED_ROUNDS = 8


class Verdict(Enum):
    """What becomes of a submission."""

    STORE = "store"  # it counts once it is on disk
    KNOWN = "known"  # it is on disk already: accepted again, and nothing changes
    LATE = "late"
    STALE = "stale"  # it started from too old a version: its slot is to be given out again
    INVALID = "invalid"
    WAIT = "wait"  # it depends on something that is being stored: ask again after that


@dataclass(frozen=True, slots=True)
class Submission:
    """An update as it arrived, whole but unchecked.

    data: the encoded delta, empty if diverged. start_bytes: what its agent was sent to start from,
    None for all of it.
    """

    assignment_id: str
    round: int
    slot: int
    base_version: int
    samples: int
    loss: float
    training_us: int
    diverged: bool
    data: Payload
    start_bytes: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class RoundUpdate:
    """A checked update.

    version: of the model that it is applied to, base_version: that it started from; both are
    `round` unless the run is asynchronous. data: the change as it came, encoded, or None when its
    training diverged: it counts as zero. loss: finite; 0 when it diverged. start_bytes: what
    its agent was sent to start from.
    """

    assignment_id: str
    round: int
    slot: int
    version: int
    base_version: int
    samples: int
    loss: float
    training_us: int
    data: Payload | None
    start_bytes: int

    @property
    def diverged(self) -> bool:
        return self.data is None

    @property
    def size(self) -> int:
        """Bytes of the encoded update."""
        return 0 if self.data is None else len(self.data)


class Place(NamedTuple):
    """Where an update belongs: its slot, and the version that it was applied to."""

    round: int
    slot: int
    version: int


@dataclass(frozen=True, slots=True)
class Decision:
    """update: set when the verdict is STORE. reason: one line, set when it is not taken."""

    verdict: Verdict
    reason: str = ""
    update: RoundUpdate | None = None


@dataclass(frozen=True, slots=True)
class ClosedRound:
    """A round that is applied to the model; several in a row when they were merged.

    round: from 0, the last one. updates: how many went into it. loss: mean training loss of the
    last round over the updates that stayed finite, nan if none did. bytes_up: encoded updates.
    bytes_down: what their agents were sent to start from. staleness: mean over the last round's
    updates, in versions.
    """

    round: int
    updates: int
    loss: float
    samples: int
    bytes_up: int
    slowest_training_us: int
    diverged: int
    bytes_down: int
    staleness: float = 0.0

    def merged_with(self, later: ClosedRound) -> ClosedRound:
        """Both as one: totals add up, the later round's number, loss and staleness stay."""
        return ClosedRound(
            round=later.round,
            updates=self.updates + later.updates,
            loss=later.loss,
            samples=self.samples + later.samples,
            bytes_up=self.bytes_up + later.bytes_up,
            slowest_training_us=max(self.slowest_training_us, later.slowest_training_us),
            diverged=self.diverged + later.diverged,
            bytes_down=self.bytes_down + later.bytes_down,
            staleness=later.staleness,
        )


@dataclass(frozen=True, slots=True)
class Totals:
    """What went into a run's model so far: updates, their samples, encoded bytes, diverged ones.

    bytes_down: what their agents were sent to start from.
    """

    updates: int = 0
    samples: int = 0
    bytes_up: int = 0
    diverged: int = 0
    bytes_down: int = 0

    def plus(self, closed: ClosedRound) -> Totals:
        """The totals with one more round."""
        return Totals(
            self.updates + closed.updates,
            self.samples + closed.samples,
            self.bytes_up + closed.bytes_up,
            self.diverged + closed.diverged,
            self.bytes_down + closed.bytes_down,
        )


@dataclass(frozen=True, slots=True, eq=False)
class Snapshot:
    """A version of a run's model, what went into it, and what the rule remembers with it.

    missing: of an asynchronous run, the slots that are not in it although a later one is, as
    round * slots of a round + slot, in order.
    """

    version: int
    parameters: Parameters
    totals: Totals = Totals()
    memory: Memory = ()
    missing: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class StoredRun:
    """What storage knows of a run.

    snapshot: the newest. updates: those for its version and later ones, in the order in which they
    were stored. closings: rounds that were closed before all their slots were there. remembered:
    assignment id -> place of updates that are in the snapshot. grant_key: empty when the run's
    updates need no grant.
    """

    run: RunSpec
    ended: bool
    snapshot: Snapshot
    updates: Sequence[RoundUpdate]
    closings: Collection[int]
    remembered: dict[str, Place]
    grant_key: bytes = b""


KNOWN, WAIT = Decision(Verdict.KNOWN), Decision(Verdict.WAIT)
ENDED = Decision(Verdict.LATE, "the run has ended")


class Ledger:
    """One run: its model and the open round. The round that is open has the model's version.

    `buffered.BufferedLedger` is that of an asynchronous run.
    """

    def __init__(self, run: RunSpec, start: Snapshot) -> None:
        check_size(run)
        self.run = run
        self.version = start.version
        self.totals = start.totals
        self.ended = False
        self._strategy = run.make_strategy()
        self._state = state_at(self._strategy, start.parameters, start.version, start.memory)
        self._slots = self._strategy.agents_per_round
        plan = self._strategy.plan(min(self.version, run.rounds - 1))
        self._plan_samples = plan.samples
        self.exchange = Exchange(run.model, plan)
        self._received: dict[int, RoundUpdate] = {}
        self._pending: dict[int, RoundUpdate] = {}
        self._pending_ids: set[str] = set()
        self._holds = 0
        self._known: dict[str, Place] = {}
        self._ids_of_version: dict[int, list[str]] = {}

    @classmethod
    def restore(cls, stored: StoredRun) -> Ledger:
        """The ledger as it was when the last stored thing was stored."""
        ledger = cls(stored.run, stored.snapshot)
        for assignment_id, place in stored.remembered.items():
            ledger._remember(assignment_id, place)
        rounds: dict[int, list[RoundUpdate]] = {}
        for update in stored.updates:
            ledger._check_stored(update)
            rounds.setdefault(update.version, []).append(update)
        while updates := rounds.pop(ledger.version, None):
            ledger.stored(updates)
            if not (ledger.is_due or ledger.version in stored.closings):
                break
            ledger.close_round(ledger.fold())
        if rounds:
            raise InvalidInput(
                f"the journal has updates of round {min(rounds)}, but ends in {ledger.version}"
            )
        ledger.ended = stored.ended
        return ledger

    @property
    def snapshot(self) -> Snapshot:
        """The model now."""
        return Snapshot(self.version, self.parameters, self.totals, self._state.memory)

    @property
    def parameters(self) -> Parameters:
        """The model's, of `version`."""
        return self._state.parameters

    @property
    def received_slots(self) -> list[int]:
        """Slots of the open round whose updates are stored."""
        return sorted(self._received)

    @property
    def open_slots(self) -> tuple[int, ...]:
        """Of an asynchronous run, the slots whose updates are taken, as in `Snapshot.missing`."""
        return ()

    @property
    def is_due(self) -> bool:
        """Whether all updates that make the next version are stored."""
        return len(self._received) == self._slots

    @property
    def is_pending(self) -> bool:
        """Whether an update of the open round is being stored."""
        return bool(self._pending)

    @property
    def folded_bytes(self) -> int:
        """Size of the open round's stored updates when they are decoded."""
        return len(self._received) * self.run.model.parameter_bytes

    def admit(self, submission: Submission) -> Decision:
        """Decide about a submission. STORE reserves the slot until `stored` or `not_stored`."""
        place = self._known.get(submission.assignment_id)
        if place is not None:
            return _repeated(submission, place)
        if submission.assignment_id in self._pending_ids:
            return WAIT
        refusal = self._misplaced(submission)
        if refusal is not None:
            return refusal
        try:
            update = self._checked(submission)
        except InvalidInput as error:
            return Decision(Verdict.INVALID, str(error))
        self._pending[self._key(update)] = update
        self._pending_ids.add(update.assignment_id)
        return Decision(Verdict.STORE, update=update)

    def stored(self, updates: Sequence[RoundUpdate]) -> None:
        """These are on disk now."""
        self.not_stored(updates)
        for update in updates:
            self._received[self._key(update)] = update
            place = Place(update.round, update.slot, update.version)
            self._remember(update.assignment_id, place)

    def not_stored(self, updates: Sequence[RoundUpdate]) -> None:
        """These could not be stored: their slots are free again."""
        for update in updates:
            self._pending.pop(self._key(update), None)
            self._pending_ids.discard(update.assignment_id)

    def can_close(self, round: int) -> bool:
        """Whether `round` is open and has an update, so that it can be closed early.

        False for a round that is closed; raises InvalidInput for one that cannot be closed yet.
        """
        if round < self.version:
            return False
        if round > self.version or self.version >= self.run.rounds:
            raise InvalidInput(f"round {round} is not open, round {self.version} is")
        if not self._received:
            raise InvalidInput(f"round {round} has no update yet")
        return True

    def hold(self) -> None:
        """Let submissions wait until `release`: the round or the run is about to end."""
        self._holds += 1

    def release(self) -> None:
        """Undo one `hold`."""
        self._holds -= 1

    def fold(self) -> ServerState:
        """The next model and memory: the strategy's rule on the stored updates, in slot order.

        Changes nothing, so that it may run beside other calls while submissions are held.
        """
        parts = [self._part(update) for update in self._in_order()]
        return next_state(self._strategy, self._state, parts, self.version)

    def close_round(self, folded: ServerState) -> ClosedRound:
        """Make the result of `fold` the model and open the next round."""
        closed = _summary(self.version, self._in_order())
        self._state = folded
        self.totals = self.totals.plus(closed)
        self.version += 1
        self._received.clear()
        self._plan_samples = self._strategy.plan(min(self.version, self.run.rounds - 1)).samples
        self._forget(self.version - REMEMBERED_ROUNDS)
        return closed

    def _key(self, update: RoundUpdate) -> int:
        """What tells the updates apart that make the next version."""
        return update.slot

    def _in_order(self) -> list[RoundUpdate]:
        """The stored updates that make the next version, in the order in which they are folded."""
        return [self._received[slot] for slot in sorted(self._received)]

    def _part(self, update: RoundUpdate) -> Update:
        data, staleness = update.data, update.version - update.base_version
        delta = np.zeros_like(self.parameters) if data is None else self.exchange.decode(data)
        return Update(update.slot, delta, update.samples, staleness)

    def _misplaced(self, submission: Submission) -> Decision | None:
        """The decision about a submission that is not for a free slot of the open round."""
        if self._holds:
            return WAIT
        version = self.version
        if self.ended or version >= self.run.rounds:
            return ENDED
        if submission.round < version:
            return Decision(Verdict.LATE, f"round {submission.round} is closed, {version} is open")
        if submission.round > version:
            return Decision(
                Verdict.INVALID, f"round {submission.round} is not open yet, {version} is"
            )
        if submission.slot >= self._slots:
            return Decision(
                Verdict.INVALID, f"slot {submission.slot}: a round has {self._slots} slots"
            )
        if submission.slot in self._received:
            return Decision(
                Verdict.LATE, f"slot {submission.slot} of round {version} has its update already"
            )
        return WAIT if submission.slot in self._pending else None

    def _checked(self, submission: Submission) -> RoundUpdate:
        """The update in a submission for a free slot; raises InvalidInput with what is wrong."""
        self._check_base(submission)
        most = self._samples_of(submission.round)
        if not 1 <= submission.samples <= most:
            raise InvalidInput(f"samples must be 1 to the plan's {most}, got {submission.samples}")
        if submission.training_us > MAX_TRAINING_US:
            raise InvalidInput(f"training_us must be at most {MAX_TRAINING_US}")
        return RoundUpdate(
            submission.assignment_id,
            submission.round,
            submission.slot,
            self.version,
            submission.base_version,
            submission.samples,
            0.0 if submission.diverged else _finite("loss", submission.loss),
            submission.training_us,
            self._data(submission),
            self._start_bytes(submission),
        )

    def _start_bytes(self, submission: Submission) -> int:
        if submission.start_bytes is None:
            return self.exchange.starts.whole_bytes
        self.exchange.check_start_size(submission.start_bytes)
        return submission.start_bytes

    def _check_base(self, submission: Submission) -> None:
        if submission.base_version != self.version:
            raise InvalidInput(
                f"trained from version {submission.base_version}, round {self.version} starts "
                f"from {self.version}"
            )

    def _samples_of(self, round: int) -> int:
        """How many samples the plan of a round takes, of one whose updates are taken now."""
        return self._plan_samples

    def _data(self, submission: Submission) -> Payload | None:
        if submission.diverged:
            if len(submission.data):
                raise InvalidInput("an update that diverged must be empty")
            return None
        norm = delta_norm(self.exchange.decode(submission.data))
        limit = MAX_DELTA_NORM if self.exchange.is_dense else MAX_SENT_NORM
        if not norm <= limit:
            raise InvalidInput(
                f"an update's norm must be at most {limit:g}, got {norm:.3g}: "
                "it diverged, and should say so"
            )
        return submission.data

    def _check_stored(self, update: RoundUpdate) -> None:
        try:
            if update.data is not None:
                self.exchange.decode(update.data)
        except InvalidInput as error:
            raise InvalidInput(
                f"the stored update {update.assignment_id} is damaged ({error}): "
                "restore the database from a copy"
            ) from None

    def _remember(self, assignment_id: str, place: Place) -> None:
        self._known[assignment_id] = place
        self._ids_of_version.setdefault(place.version, []).append(assignment_id)

    def _forget(self, before: int) -> None:
        for number in [number for number in self._ids_of_version if number < before]:
            for assignment_id in self._ids_of_version.pop(number):
                self._known.pop(assignment_id, None)


def check_size(run: RunSpec) -> None:
    """Raise InvalidInput when the updates of one of the run's rounds would not fit into memory."""
    agents = run.make_strategy().agents_per_round
    size = agents * run.model.parameter_bytes
    if size > MAX_ROUND_BYTES:
        raise InvalidInput(
            f"{agents} updates of {run.model.parameter_bytes} bytes are more than a round may hold "
            f"({MAX_ROUND_BYTES} bytes): choose fewer agents_per_round or a smaller model"
        )


def _repeated(submission: Submission, place: Place) -> Decision:
    if (place.round, place.slot) == (submission.round, submission.slot):
        return KNOWN
    return Decision(
        Verdict.INVALID,
        f"its id belongs to slot {place.slot} of round {place.round}: use a new one",
    )


def _finite(what: str, value: float) -> float:
    if not math.isfinite(value):
        raise InvalidInput(f"{what} must be finite, got {value}")
    return value


def _summary(round: int, updates: Sequence[RoundUpdate]) -> ClosedRound:
    losses = [update.loss for update in updates if not update.diverged]
    return ClosedRound(
        round=round,
        updates=len(updates),
        loss=math.fsum(losses) / len(losses) if losses else math.nan,
        samples=sum(update.samples for update in updates),
        bytes_up=sum(update.size for update in updates),
        slowest_training_us=max(update.training_us for update in updates),
        diverged=len(updates) - len(losses),
        bytes_down=sum(update.start_bytes for update in updates),
        staleness=sum(one.version - one.base_version for one in updates) / len(updates),
    )
