"""The aggregator at work: its runs, the journal behind them, the followers in front of them.

All of it lives in one event loop; the rules are in `core`, the writing thread in `group_commit`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import asdict, dataclass, field, replace
from typing import Any, NamedTuple

from services.aggregator.buffered import ledger_of
from services.aggregator.core import Ledger, RoundUpdate, Snapshot, Submission, Verdict, check_size
from services.aggregator.files import Files, Quota
from services.aggregator.group_commit import Answer, Batch, GroupCommit, Receipt
from services.aggregator.ports import Closing, Entry, Journal
from services.aggregator.watching import Refused, State, Watcher
from services.hosting.errors import Conflict, NotFound, NotReady, StorageFailed
from tinyfleet.errors import InvalidInput
from tinyfleet.exchange import Exchange
from tinyfleet.logs import fields
from tinyfleet.model.spec import Parameters
from tinyfleet.readings import Level, Reading
from tinyfleet.run import RunSpec
from tinyfleet.strategies.server import ServerState
from tinyfleet.telemetry import Telemetry
from tinyfleet.wire import parameters_from_bytes, parameters_to_bytes

MAX_INLINE_BYTES = 256 * 1024  # models up to this size travel inside other messages
MAX_LOOP_FOLD_BYTES = 4 * 1024 * 1024  # our choice: longer rounds are folded beside the loop
MAX_ENDED_LOADED = 8  # our choice: ended runs kept in memory for questions about them
TELEMETRY_INTERVAL_S = 0.1  # our choice: a fast run is sampled, or measuring would slow it down

_RECEIPTS = {
    Verdict.KNOWN: Receipt.ACCEPTED,
    Verdict.LATE: Receipt.LATE,
    Verdict.STALE: Receipt.LATE,
    Verdict.INVALID: Receipt.INVALID,
}

_TOO_LATE = (Verdict.LATE, Verdict.STALE)

log = logging.getLogger("aggregator")


@dataclass(frozen=True)
class SnapshotPolicy:
    """When a run's journal is long enough for a snapshot; whichever comes first.

    bytes: of updates; at least eight models, so that a large one is not written over and over.
    """

    rounds: int
    bytes: int

    def is_due(self, rounds: int, size: int, model_bytes: int) -> bool:
        """Whether a snapshot is due after `rounds` rounds with `size` bytes of updates."""
        return rounds >= self.rounds or size >= max(self.bytes, 8 * model_bytes)


class Model(NamedTuple):
    """A version of a run's model."""

    run: RunSpec
    version: int
    parameters: Parameters


@dataclass(eq=False)
class _Run:
    """A run in memory.

    state: as followers are told. waiting: submissions that depend on
    what is being stored. rounds_since, bytes_since: of the journal since the last snapshot.
    """

    run_id: str
    ledger: Ledger
    grant_key: bytes = b""
    state: State = field(init=False)
    watchers: list[Watcher] = field(default_factory=list)
    waiting: list[tuple[Submission, Answer]] = field(default_factory=list)
    settled: asyncio.Event = field(default_factory=asyncio.Event)
    control: asyncio.Lock = field(default_factory=asyncio.Lock)
    folding: bool = False
    snapshotting: bool = False
    rounds_since: int = 0
    bytes_since: int = 0

    def __post_init__(self) -> None:
        self.note_version()

    def note_version(self) -> None:
        """Write the parameters down, once for all who are told about this version."""
        ledger = self.ledger
        small = ledger.run.model.parameter_bytes <= MAX_INLINE_BYTES
        inline = parameters_to_bytes(ledger.parameters) if small else b""
        self.state = State(ledger.version, inline, ledger.totals, ledger.open_slots)

    def note_slots(self) -> None:
        """Write down which slots of an asynchronous run are open; others have none."""
        self.state = replace(self.state, open_slots=self.ledger.open_slots)

    async def quiet(self) -> None:
        """Return when nothing of the run is being stored or folded."""
        while self.ledger.is_pending or self.folding or self.snapshotting:
            self.settled.clear()
            await self.settled.wait()


class Keeper:
    """Keeps the runs. Made and used inside one running event loop."""

    def __init__(
        self,
        journal: Journal,
        policy: SnapshotPolicy,
        telemetry: Telemetry,
        quota: Quota = Quota(),  # noqa: B008 - it never changes
    ) -> None:
        """quota: of the files for runs."""
        self._journal = journal
        self._policy = policy
        self._measured = _Measured(telemetry)
        self._commits = GroupCommit(journal, self._committed)
        self.files = Files(journal.files, self._commits.run, quota)
        self._runs: dict[str, _Run] = {}
        self._loading = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._storage_problem = ""
        self._on_storage: Callable[[bool], None] = lambda _: None

    async def start(self) -> None:
        """Load the runs that have not ended and are not here yet."""
        for run_id in await self._commits.run(self._journal.run_ids, False):
            if run_id in self._runs:
                continue
            run = await self._find(run_id)
            log.info("run restored", extra=fields(run=run_id, version=run.ledger.version))

    def report_storage_to(self, listener: Callable[[bool], None]) -> None:
        """Call `listener` with False when the journal fails, with True when it works again."""
        self._on_storage = listener

    async def drain(self) -> None:
        """End the followers' streams."""
        for run in self._runs.values():
            for watcher in run.watchers:
                watcher.stop()

    async def close(self) -> None:
        """Store snapshots of the open runs, then let go of the journal. Updates wait no longer."""
        for run in list(self._runs.values()):
            async with run.control:
                await run.quiet()
            if run.rounds_since and not run.ledger.ended:
                await self._snapshot(run)
        await self._commits.close()
        self._journal.close()

    async def open_run(self, run_id: str, spec: RunSpec, grant_key: bytes = b"") -> None:
        """Make version 0 of a run. Raises Conflict when it is there with another spec or key.

        A run that is there without a key stays so. Raises NotReady when a file it needs is missing.
        """
        check_size(spec)
        async with self._loading:
            run = await self._load(run_id)
            if run is None:
                initial = Snapshot(0, await self._version_0(spec))
                await self._commits.run(self._journal.create, run_id, spec, initial, grant_key)
                self._runs[run_id] = _Run(run_id, ledger_of(spec)(spec, initial), grant_key)
                details = fields(run=run_id, strategy=spec.strategy, rounds=spec.rounds)
                log.info("run opened", extra=details)
            elif run.ledger.run != spec:
                raise Conflict(f"run {run_id} is there with another spec: choose another run id")
            elif run.grant_key and run.grant_key != grant_key:
                raise Conflict(
                    f"run {run_id} belongs to another coordinator: give this one that one's state"
                )

    async def _version_0(self, spec: RunSpec) -> Parameters:
        """What a run starts from: made of its seed, or stored as a file before the run."""
        await self.files.check(spec.files)
        if spec.initial_file is None:
            return spec.initial_parameters()
        await self.files.check([spec.initial_file])
        data = b"".join([part async for _, part in self.files.fetch(spec.initial_file.sha256)])
        own = parameters_from_bytes(data, spec.model.parameter_count)
        return await asyncio.to_thread(spec.initial_parameters, own)

    async def close_round(self, run_id: str, round: int) -> None:
        """End a round with the updates that are stored. Raises NotReady when there is none."""
        run = await self._find(run_id)
        async with run.control:
            run.ledger.hold()
            try:
                await run.quiet()
                if _can_close(run.ledger, round):
                    closing = Closing(run_id, round)
                    await self._commits.run(self._journal.append, (), (closing,))
                    self._publish(run, await asyncio.to_thread(run.ledger.fold))
            finally:
                run.ledger.release()
                self._admit_waiting(run)

    async def end_run(self, run_id: str) -> Model:
        """End a run for good; its last model."""
        run = await self._find(run_id)
        ledger = run.ledger
        async with run.control:
            if not ledger.ended:
                ledger.hold()
                try:
                    await run.quiet()
                    await self._commits.run(self._journal.snapshot, run_id, ledger.snapshot, True)
                    self._end(run)
                finally:
                    ledger.release()
                    self._admit_waiting(run)
        return Model(ledger.run, ledger.version, ledger.parameters)

    async def watch(self, run_id: str) -> Watcher:
        """A new follower of a run; hand it to `unwatch` when done."""
        run = await self._find(run_id)
        ledger = run.ledger
        watcher = Watcher(run.state, ledger.received_slots, ledger.ended, self._storage_problem)
        run.watchers.append(watcher)
        return watcher

    def unwatch(self, run_id: str, watcher: Watcher) -> None:
        """Forget a follower."""
        run = self._runs.get(run_id)
        if run is not None and watcher in run.watchers:
            run.watchers.remove(watcher)

    async def model(self, run_id: str, version: int | None) -> Model:
        """A version of the model, None means the latest. Raises NotFound when it is not kept."""
        ledger = (await self._find(run_id)).ledger
        if version is None or version == ledger.version:
            return Model(ledger.run, ledger.version, ledger.parameters)
        parameters = await self._commits.run(self._journal.parameters, run_id, version)
        if parameters is None:
            raise NotFound(
                f"version {version} of run {run_id} is not kept: ask for 0 or {ledger.version}"
            )
        return Model(ledger.run, version, parameters)

    async def newest_run(self) -> str:
        """The newest run that goes on, else the newest that has ended; raises NotFound."""
        for ended in (False, True):
            if run_ids := await self._commits.run(self._journal.run_ids, ended):
                return run_ids[-1]
        raise NotFound("there is no run yet: start one")

    def readings(self) -> Iterable[Reading]:
        """How the journal and the runs are."""
        problem = self._storage_problem
        yield Reading("storage", Level.ERROR if problem else Level.OK, problem or "ok")
        going = [run for run in self._runs.values() if not run.ledger.ended]
        updates = sum(run.ledger.totals.updates for run in going)
        values = {"open_runs": len(going), "updates": updates}
        yield Reading("runs", values=values | asdict(self._measured.tally))

    async def exchange(self, run_id: str) -> Exchange:
        """What travels in a run. Raises NotFound when there is none of that id."""
        return (await self._find(run_id)).ledger.exchange

    def known_exchange(self, run_id: str) -> Exchange | None:
        """What travels in a run, if it is in memory: never waits."""
        run = self._runs.get(run_id)
        return None if run is None else run.ledger.exchange

    def grant_key(self, run_id: str) -> bytes:
        """What the grants of a run in memory are made with; empty when it needs none."""
        run = self._runs.get(run_id)
        return b"" if run is None else run.grant_key

    def submit(self, run_id: str, submission: Submission, answer: Answer) -> None:
        """Decide about an update of a run that `known_exchange` knows; `answer` is called once."""
        run = self._runs.get(run_id)
        if run is None:
            answer(Receipt.RETRY, f"run {run_id} is being loaded: send it again")
            return
        decision = run.ledger.admit(submission)
        if decision.update is not None:
            self._commits.add(Entry(run_id, decision.update), answer)
        elif decision.verdict is Verdict.WAIT:
            run.waiting.append((submission, answer))
        else:
            if decision.verdict is Verdict.INVALID:
                self.refuse(run_id, submission.assignment_id, decision.reason)
            elif decision.verdict is Verdict.STALE:
                self._tell_refused(run, Refused(submission.assignment_id, decision.reason, True))
            self._measured.tally.late += decision.verdict in _TOO_LATE
            answer(_RECEIPTS[decision.verdict], decision.reason)

    def refuse(self, run_id: str, assignment_id: str, reason: str) -> None:
        """Tell the followers that an update is not taken, so that its slot is given out again."""
        self._measured.tally.refused += 1
        log.warning("update refused", extra=fields(assignment=assignment_id, reason=reason))
        if (run := self._runs.get(run_id)) is not None:
            self._tell_refused(run, Refused(assignment_id, reason))

    def _tell_refused(self, run: _Run, refused: Refused) -> None:
        for watcher in run.watchers:
            watcher.add_refused(refused)

    async def _find(self, run_id: str) -> _Run:
        run = self._runs.get(run_id)
        if run is None:
            async with self._loading:
                run = await self._load(run_id)
        if run is None:
            raise NotFound(f"there is no run {run_id} here: open it first")
        return run

    async def _load(self, run_id: str) -> _Run | None:
        """The run from memory or from the journal; call it while holding `_loading`."""
        if run_id in self._runs:
            return self._runs[run_id]
        stored = await self._commits.run(self._journal.load, run_id)
        if stored is None:
            return None
        ledger = await asyncio.to_thread(ledger_of(stored.run).restore, stored)
        done = ledger.version - stored.snapshot.version
        run = _Run(run_id, ledger, stored.grant_key, rounds_since=done)
        run.bytes_since = sum(update.size for update in stored.updates)
        self._runs[run_id] = run
        self._drop_ended()
        return run

    def _drop_ended(self) -> None:
        ended = [run for run in self._runs.values() if run.ledger.ended and not run.watchers]
        for run in ended[: max(0, len(ended) - MAX_ENDED_LOADED)]:
            del self._runs[run.run_id]

    def _committed(self, batch: Batch) -> None:
        """Go on with updates that are stored, or are not: first the round, then the receipts."""
        self._note_storage(batch.error)
        self._measured.add_commit(batch.seconds)
        touched: dict[str, list[RoundUpdate]] = {}
        for entry in batch.entries:
            touched.setdefault(entry.run_id, []).append(entry.update)
        for run_id, updates in touched.items():
            if batch.error is None:
                self._stored(self._runs[run_id], updates)
            else:
                self._runs[run_id].ledger.not_stored(updates)
        receipt, message = Receipt.ACCEPTED, ""
        if batch.error is not None:
            receipt, message = Receipt.RETRY, str(batch.error)
            self._measured.tally.not_stored += len(batch.entries)
        for answer in batch.answers:
            answer(receipt, message)
        for run_id in touched:
            self._settle(self._runs[run_id])

    def _stored(self, run: _Run, updates: list[RoundUpdate]) -> None:
        ledger = run.ledger
        ledger.stored(updates)
        self._measured.tally.add(updates)
        run.bytes_since += sum(update.size for update in updates)
        if not ledger.is_due:
            run.note_slots()
            slots = [update.slot for update in updates]
            for watcher in run.watchers:
                watcher.add_received(slots, run.state)
        elif ledger.folded_bytes <= MAX_LOOP_FOLD_BYTES:
            self._publish(run, ledger.fold())
        else:
            run.folding = True
            ledger.hold()
            self._spawn(self._close_aside(run))

    async def _close_aside(self, run: _Run) -> None:
        """Close a round whose folding would keep the loop from other runs."""
        try:
            self._publish(run, await asyncio.to_thread(run.ledger.fold))
        finally:
            run.folding = False
            run.ledger.release()
            self._settle(run)

    def _publish(self, run: _Run, folded: ServerState) -> None:
        """Make it the model and tell everybody."""
        ledger = run.ledger
        closed = ledger.close_round(folded)
        run.note_version()
        for watcher in run.watchers:
            watcher.add_closed(closed, run.state)
        self._measured.add_round(run.run_id, closed.round)
        run.rounds_since += 1
        size = ledger.run.model.parameter_bytes
        if not run.snapshotting and self._policy.is_due(run.rounds_since, run.bytes_since, size):
            run.snapshotting = True
            self._spawn(self._snapshot(run))

    async def _snapshot(self, run: _Run) -> None:
        """Store the model, so that a restart need not go through the whole journal."""
        run.rounds_since = run.bytes_since = 0
        try:
            await self._commits.run(self._journal.snapshot, run.run_id, run.ledger.snapshot, False)
        except StorageFailed as error:
            log.warning("no snapshot, the journal grows", extra=fields(reason=error))
        finally:
            run.snapshotting = False
            self._settle(run)

    def _end(self, run: _Run) -> None:
        run.ledger.ended = True
        for watcher in run.watchers:
            watcher.end_run()
        self._drop_ended()
        log.info("run ended", extra=fields(run=run.run_id, version=run.ledger.version))

    def _settle(self, run: _Run) -> None:
        """Something of the run came to its end: go on with what waited for that."""
        run.settled.set()
        self._admit_waiting(run)

    def _admit_waiting(self, run: _Run) -> None:
        waiting, run.waiting = run.waiting, []
        for submission, answer in waiting:
            self.submit(run.run_id, submission, answer)

    def _note_storage(self, error: StorageFailed | None) -> None:
        problem = "" if error is None else str(error)
        if bool(problem) is bool(self._storage_problem):
            return
        self._storage_problem = problem
        if problem:
            log.error("nothing is accepted until it can be stored", extra=fields(reason=problem))
        else:
            log.info("updates are stored again")
        self._on_storage(not problem)
        for run in self._runs.values():
            for watcher in run.watchers:
                watcher.set_problem(problem)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._reap)

    def _reap(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("unexpected error", exc_info=error)


@dataclass
class Tally:
    """What happened since the process started: updates by their receipts, and what was accepted."""

    accepted: int = 0
    refused: int = 0
    late: int = 0
    not_stored: int = 0
    diverged: int = 0
    bytes_up: int = 0
    bytes_down: int = 0

    def add(self, updates: Iterable[RoundUpdate]) -> None:
        """These are accepted."""
        for update in updates:
            self.accepted += 1
            self.diverged += update.diverged
            self.bytes_up += update.size
            self.bytes_down += update.start_bytes


class _Measured:
    """What is measured, reported at most every TELEMETRY_INTERVAL_S."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry
        self._reported_at = 0.0
        self._commits = 0
        self._commit_s = 0.0
        self.tally = Tally()

    def add_commit(self, seconds: float) -> None:
        self._commits += 1
        self._commit_s += seconds

    def add_round(self, run_id: str, round: int) -> None:
        now = time.monotonic()
        if now - self._reported_at < TELEMETRY_INTERVAL_S:
            return
        report = self._telemetry.report
        report("updates_refused_total", self.tally.refused, "", run_id, round)
        if self._commits:
            report("commit_seconds", self._commit_s / self._commits, "seconds", run_id, round)
        self._reported_at, self._commits, self._commit_s = now, 0, 0.0


def _can_close(ledger: Ledger, round: int) -> bool:
    try:
        return ledger.can_close(round)
    except InvalidInput as error:
        raise NotReady(str(error)) from None
