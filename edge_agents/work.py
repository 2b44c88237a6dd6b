"""Work: from an assignment to an update, one after the other.

What cannot be done is declined with one line, and the agent stays in the fleet. What was trained
goes to the delivery, which keeps it until it has a receipt.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Protocol, TypeVar

import grpc

from edge_agents.arrival import Arrival, HeldStarts, SlotWork
from edge_agents.channel import Lost
from edge_agents.delivery import Delivery, TrainedUpdate
from edge_agents.fetch import fetch_file, fetch_start
from edge_agents.model_files import Fetch
from edge_agents.reconnect import Backoff, Clock
from edge_agents.sources import SampleSource, SlotSamples
from edge_agents.trainers.protocol import NotNow, Outcome, Trainer
from edge_agents.uploads import LeftOut, SlotUpload
from tinyfleet.codec.start import Start
from tinyfleet.errors import TinyFleetError
from tinyfleet.exchange import Exchange, Payload
from tinyfleet.logs import fields
from tinyfleet.model.spec import Parameters
from tinyfleet.run import RunSpec
from tinyfleet.run_files import RunFile
from tinyfleet.strategies.base import asynchronous
from tinyfleet.strategies.plan import TrainingPlan
from tinyfleet.telemetry import Telemetry
from tinyfleet.v1 import aggregator_pb2, coordinator_pb2
from tinyfleet.wire import run_from_message

MAX_WAITING = 16  # our choice: the coordinator gives an agent one assignment at a time
MAX_BRIEFS = 64  # our choice: kept as messages, a few hundred bytes each
MAX_RUNS = 4  # our choice: runs with task and learner in memory

_DENSE = aggregator_pb2.UPDATE_ENCODING_DENSE_FLOAT32
_SELECTED = aggregator_pb2.UPDATE_ENCODING_SELECTED

Result = TypeVar("Result")

log = logging.getLogger("work")


@dataclass(frozen=True)
class PreparedRun:
    """What serves the assignments of one run. own: what a model that is a file begins with."""

    spec: RunSpec
    source: SampleSource
    trainer: Trainer
    own: Parameters | None = None

    @cached_property
    def initial(self) -> Parameters:
        """Version 0 of the model: what local layers begin as."""
        return self.spec.initial_parameters(self.own)

    @cached_property
    def overlaps(self) -> bool:
        """Whether the run is asynchronous: then an update may start from any recent version."""
        return asynchronous(self.spec.make_strategy()) is not None


class Prepare(Protocol):
    """Makes a run ready on this agent."""

    async def __call__(self, spec: RunSpec, fetch: Fetch) -> PreparedRun:
        """Raises TinyFleetError when this agent cannot serve the run.

        fetch: gets the files that the run needs; what it raises passes.
        """
        ...


Decline = Callable[[str, str, bool], Awaitable[None]]
"""decline(assignment_id, reason, permanent) tells the coordinator."""


@dataclass
class Done:
    """What was trained so far: rounds, how long they took, and how many left the numbers."""

    rounds: int = 0
    seconds: float = 0.0
    diverged: int = 0


class Work:
    """The assignments of this agent, from arrival to delivery."""

    def __init__(
        self,
        name: str,
        prepare: Prepare,
        delivery: Delivery,
        decline: Decline,
        telemetry: Telemetry,
        clock: Clock | None = None,
    ) -> None:
        self._name = name
        self._prepare = prepare
        self._delivery = delivery
        self._decline = decline
        self._telemetry = telemetry
        self._clock = clock or Clock()
        self._briefs: OrderedDict[str, coordinator_pb2.RunBrief] = OrderedDict()
        self._runs: OrderedDict[str, PreparedRun] = OrderedDict()
        self._starts = HeldStarts()
        self._left_out = LeftOut()
        self._waiting: OrderedDict[str, Arrival] = OrderedDict()
        self._overflow: deque[coordinator_pb2.Assignment] = deque(maxlen=MAX_WAITING)
        self.done = Done()
        self._current = ""
        self._began = 0.0
        self._withdrawn = False
        self._deadline: asyncio.Timeout | None = None
        self._closed = False
        self._arrived = asyncio.Event()
        self._rested = asyncio.Event()
        self._rested.set()

    def in_hand(self) -> list[str]:
        """Ids of what is in training, without a receipt, or waiting."""
        current = [self._current] if self._current and not self._withdrawn else []
        return [*current, *self._delivery.unsettled, *self._waiting]

    @property
    def round_age_s(self) -> float:
        """For how long the assignment in training has been in training, seconds; 0 without one."""
        return self._clock.now() - self._began if self._current else 0.0

    def welcome(self) -> None:
        """A new stream begins, on which nothing was said yet."""
        self._starts.forget()

    def brief(self, message: coordinator_pb2.RunBrief) -> None:
        """Keep what is to be known of a run; it is looked at when its first assignment comes."""
        known = self._briefs.pop(message.run_id, None)
        if known is not None and known != message:
            self._runs.pop(message.run_id, None)
        self._briefs[message.run_id] = message
        while len(self._briefs) > MAX_BRIEFS:
            self._briefs.popitem(last=False)

    def assign(self, message: coordinator_pb2.Assignment) -> None:
        """Put work in line. What is in hand already is not taken twice."""
        arrival = self._arrival(message)
        if self._closed or message.assignment_id in self.in_hand():
            return
        if len(self._waiting) < MAX_WAITING:
            self._waiting[message.assignment_id] = arrival
            self._delivery.expect()
        else:
            self._overflow.append(message)
        self._arrived.set()

    def _arrival(self, message: coordinator_pb2.Assignment) -> Arrival:
        """An assignment as it comes; what is wrong with it is said when it is its turn."""
        try:
            return Arrival(message, self._starts.work(message, self._spec(message.run_id)))
        except Exception as error:  # noqa: BLE001 - it is raised where the work is done
            return Arrival(message, error)

    def withdraw(self, assignment_id: str) -> None:
        """Drop work that is no longer wanted, wherever it is."""
        self._waiting.pop(assignment_id, None)
        self._delivery.forget(assignment_id)
        if assignment_id == self._current:
            self._withdrawn = True
            if self._deadline is not None:
                self._deadline.reschedule(0.0)

    async def run(self) -> None:
        """Do the work, for ever."""
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            while self._overflow:
                reason = f"{MAX_WAITING} assignments wait already"
                await self._refuse(self._overflow.popleft(), reason, permanent=False)
            while self._waiting:
                await self._delivery.room()
                if self._waiting:
                    await self._do(self._waiting.popitem(last=False)[1])

    async def finish(self) -> None:
        """Take no more work; return when what is in training is trained and all is delivered."""
        self._closed = True
        self._waiting.clear()
        await self._rested.wait()
        await self._delivery.settled()

    async def _do(self, arrival: Arrival) -> None:
        assignment = arrival.message
        self._current, self._withdrawn = assignment.assignment_id, False
        self._began = self._clock.now()
        self._rested.clear()
        try:
            update, upload = await self._update(arrival)
            if not self._withdrawn:
                self._left_out.sent(assignment.run_id, upload)
                await self._delivery.submit(update)
            self._measure(update.header)
        except NotNow as error:
            await self._refuse(assignment, str(error), permanent=False)
        except TinyFleetError as error:
            await self._refuse(assignment, str(error), permanent=True)
        except Exception as error:  # whatever it is, the agent stays in the fleet
            log.error("unexpected error", exc_info=error, extra=_named(assignment))
            await self._refuse(assignment, "internal error; the agent's log has the details", True)
        finally:
            self._current = ""
            self._rested.set()

    async def _refuse(
        self, assignment: coordinator_pb2.Assignment, reason: str, permanent: bool
    ) -> None:
        if self._withdrawn:
            return
        log.warning("assignment declined", extra=_named(assignment, reason=reason))
        await self._decline(assignment.assignment_id, reason, permanent)

    async def _update(self, arrival: Arrival) -> tuple[TrainedUpdate, SlotUpload]:
        assignment, work = arrival.message, arrival.checked()
        run = self._runs.get(assignment.run_id)
        if run is None:
            run = await self._ready(assignment)
        start, version = await self._start(assignment, run, work)
        slot = assignment.round, assignment.slot, assignment.run_id
        draw = SlotSamples(run.source, run.spec.seed, *slot)
        upload = self._upload(assignment, run, work.exchange)
        outcome = await self._train(run.trainer, start, work.plan, draw, upload)
        header = _header(assignment, work, outcome, version)
        header.agent = self._name
        return TrainedUpdate(header, outcome.update, self._refusal(upload, header)), upload

    def _upload(
        self, assignment: coordinator_pb2.Assignment, run: PreparedRun, exchange: Exchange
    ) -> SlotUpload:
        feedback = self._left_out.feedback(assignment.run_id, exchange)
        return SlotUpload(exchange, run.spec.seed, assignment.round, assignment.slot, feedback)

    def _refusal(
        self, upload: SlotUpload, header: aggregator_pb2.UpdateHeader
    ) -> Callable[[Payload], None] | None:
        """What to do when an update does not get there: with error feedback, it is left out."""
        if upload.left_out is None:
            return None
        return lambda data: self._left_out.refused(header.run_id, upload.exchange, data)

    async def _train(
        self,
        trainer: Trainer,
        start: Parameters,
        plan: TrainingPlan,
        draw: SlotSamples,
        upload: SlotUpload,
    ) -> Outcome:
        """Train; where that can be stopped, a withdrawal stops it."""
        if not trainer.can_be_stopped:
            return await trainer.train(start, plan, draw, upload)
        try:
            async with self._until_withdrawn():
                return await trainer.train(start, plan, draw, upload)
        except TimeoutError:
            if not self._withdrawn:
                raise
            raise NotNow("it is no longer wanted") from None

    @contextlib.asynccontextmanager
    async def _until_withdrawn(self, limit_s: float | None = None) -> AsyncIterator[None]:
        """Raises TimeoutError after `limit_s`, or once the assignment is withdrawn."""
        try:
            async with asyncio.timeout(0.0 if self._withdrawn else limit_s) as self._deadline:
                yield
        finally:
            self._deadline = None

    def _spec(self, run_id: str) -> RunSpec:
        if run_id in self._runs:
            return self._runs[run_id].spec
        brief = self._briefs.get(run_id)
        if brief is None:
            raise NotNow(f"no brief of run '{run_id[:80]}' came before its assignment")
        return run_from_message(brief.spec)

    async def _ready(self, assignment: coordinator_pb2.Assignment) -> PreparedRun:
        """The run, prepared; only the last few stay in memory."""
        run_id = assignment.run_id

        async def fetch(file: RunFile) -> bytes:
            ask = partial(fetch_file, file=file)
            return await self._from_aggregator(assignment, "a file of the run", ask)

        run = await self._prepare(self._spec(run_id), fetch)
        self._runs[run_id] = run
        while len(self._runs) > MAX_RUNS:
            self._runs.popitem(last=False)
        log.info(
            "run joined", extra=fields(run=run_id, task=run.spec.task, model=run.spec.model.name)
        )
        return run

    async def _start(
        self, assignment: coordinator_pb2.Assignment, run: PreparedRun, work: SlotWork
    ) -> tuple[Parameters, int]:
        """What training starts from, and which version that is."""
        exchange, start, version = work.exchange, work.start, assignment.base_version
        if start is None:
            start, version = await self._fetch(assignment, run, exchange)
        shared = exchange.starts.parameters(start)
        return shared if exchange.is_whole else exchange.whole(shared, run.initial), version

    async def _fetch(
        self, assignment: coordinator_pb2.Assignment, run: PreparedRun, exchange: Exchange
    ) -> tuple[Start, int]:
        """The start from the aggregator."""
        # Where rounds overlap, the version of the assignment may be gone by now.
        version = None if run.overlaps else assignment.base_version
        ask = partial(fetch_start, run_id=assignment.run_id, version=version, exchange=exchange)
        return await self._from_aggregator(assignment, "the model", ask)

    async def _from_aggregator(
        self,
        assignment: coordinator_pb2.Assignment,
        what: str,
        ask: Callable[[grpc.aio.Channel], Awaitable[Result]],
    ) -> Result:
        """What `ask` gets over a channel; tried again until the assignment's deadline."""
        limit_s = (assignment.deadline_ms or 60_000) / 1000.0
        backoff = Backoff(1.0, self._clock)
        with _not_now_after_the_deadline(what):
            async with self._until_withdrawn(limit_s):
                while True:
                    with contextlib.suppress(Lost):
                        return await self._ask_once(what, ask)
                    await backoff.pause()

    async def _ask_once(
        self, what: str, ask: Callable[[grpc.aio.Channel], Awaitable[Result]]
    ) -> Result:
        async with self._delivery.connection() as channel:
            try:
                return await ask(channel)
            except Lost as lost:
                if lost.code is grpc.StatusCode.NOT_FOUND:
                    raise NotNow(f"{what} cannot be fetched: {lost}") from None
                raise

    def _measure(self, done: aggregator_pb2.UpdateHeader) -> None:
        self.done.rounds += 1
        self.done.seconds += done.training_us / 1e6
        self.done.diverged += done.diverged
        report, where = self._telemetry.report, (done.run_id, done.round)
        report("training_seconds", done.training_us / 1e6, "seconds", *where)
        if done.diverged:
            report("training_diverged", 1.0, "", *where)
        else:
            report("training_loss", done.loss, "", *where)


@contextlib.contextmanager
def _not_now_after_the_deadline(what: str) -> Iterator[None]:
    try:
        yield
    except TimeoutError:
        raise NotNow(f"{what} could not be fetched before the deadline") from None


def _header(
    assignment: coordinator_pb2.Assignment, work: SlotWork, outcome: Outcome, base_version: int
) -> aggregator_pb2.UpdateHeader:
    is_whole = not assignment.HasField("relative_to")
    return aggregator_pb2.UpdateHeader(
        assignment_id=assignment.assignment_id,
        run_id=assignment.run_id,
        round=assignment.round,
        slot=assignment.slot,
        base_version=base_version,
        total_bytes=len(outcome.update),
        encoding=_DENSE if work.exchange.is_dense else _SELECTED,
        samples=work.plan.samples,
        loss=outcome.loss,
        training_us=round(outcome.seconds * 1e6),
        diverged=outcome.diverged,
        grant=assignment.grant,
        start_bytes=None if is_whole else len(assignment.parameters),
    )


def _named(assignment: coordinator_pb2.Assignment, **values: object) -> dict[str, object]:
    return fields(run=assignment.run_id, assignment=assignment.assignment_id, **values)
