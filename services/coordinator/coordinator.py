"""The coordinator around its dispatcher: performs what is decided, answers what is asked.

Everything happens in one event loop. What comes from the aggregator or from an agent goes through
the dispatcher into the agents' streams in one step, without waiting for anything: that is the path
of a round. Storage and reports are beside it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import secrets
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import replace
from typing import Any

from services.coordinator.admission import check_runnable, needs_of
from services.coordinator.archive import Archive
from services.coordinator.core import Attendance, Dispatcher, Rules
from services.coordinator.fleet import Agent
from services.coordinator.following import Follower
from services.coordinator.ports import (
    AgentSession,
    AgentState,
    Aggregator,
    Clock,
    Ended,
    Store,
    StoredAgent,
    SystemClock,
)
from services.coordinator.readings import Tally, readings_of
from services.coordinator.runs import ActiveRun, RunRecord, RunStatus
from services.coordinator.watching import Watchers
from services.coordinator.work import (
    Action,
    CloseSession,
    EndRun,
    ModelChange,
    RoundClosed,
    RunChanged,
    SaveRun,
    SendAssignment,
    SendBrief,
    Withdraw,
)
from services.hosting.errors import Conflict, NotFound, NotReady
from tinyfleet.errors import InvalidInput
from tinyfleet.logs import fields
from tinyfleet.readings import Reading
from tinyfleet.run import RunSpec
from tinyfleet.telemetry import Telemetry

TICK_S = 1.0
SEEN_S = 600.0  # our choice: how old the stored time of an attached agent may get
WATCH_S = 0.1  # a follower of a run is told ten times a second at most
PATIENCE_S = 1.0  # our choice: an aggregator that is there answers sooner
STOP_S = 5.0  # our choice: StopRun answers then, also without the aggregator's word
_ID_LETTERS = "abcdefghjkmnpqrstuvwxyz23456789"  # none that looks like another

log = logging.getLogger("coordinator")


class Coordinator:
    """Made inside a running event loop; has then loaded what the store holds.

    read_spec: turns a run's serialised message into the run; raises InvalidInput. max_runs: most
    runs that go on at the same time.
    """

    def __init__(
        self,
        store: Store,
        aggregator: Aggregator,
        telemetry: Telemetry,
        read_spec: Callable[[bytes], RunSpec],
        rules: Rules,
        max_runs: int = 100,
        clock: Clock | None = None,
    ) -> None:
        self.rules = rules
        self._read_spec = read_spec
        self._telemetry = telemetry
        self._max_runs = max_runs
        self._clock = clock or SystemClock()
        self._core = Dispatcher(rules)
        self._tally = Tally()
        self._archive = Archive(store, self._record, self._forget_settled)
        self._follower = Follower(aggregator, self)
        self._watchers = Watchers()
        self._waiting = f"waiting for the aggregator at {aggregator.address}"
        self._records: dict[str, RunRecord] = {}  # of runs that are not settled and stored
        self._levels: dict[str, tuple[int, int]] = {}  # of each run, as reported last
        self._unreachable: set[str] = set()  # ended runs that the aggregator does not know of yet
        self._sessions: dict[int, AgentSession] = {}
        self._session_count = 0
        self._seen: set[str] = set()
        self._creating = asyncio.Lock()
        self._tasks: list[asyncio.Task[None]] = []
        self._is_draining = False
        self._steps: dict[type[Any], Callable[[Any], None]] = {
            SendAssignment: self._send_assignment,
            SendBrief: self._send_brief,
            Withdraw: self._withdraw,
            CloseSession: self._close_session,
            RunChanged: self._wake_watchers,
            RoundClosed: self._report,
            SaveRun: self._save_status,
            EndRun: self._end_run,
        }
        self._load(store)

    async def start(self) -> None:
        """Begin to follow the runs that have not ended; after `drain`, take agents again."""
        self._is_draining = False
        if self._tasks:
            return
        for forever in (self._tick, self._archive.save_forever, self._store_agents_forever):
            self._tasks.append(asyncio.create_task(forever()))
        for run_id, run in self._core.runs.items():
            if run.is_ending:
                self._follower.end(run_id)
            else:
                self._follower.follow(run_id, self._records[run_id].spec)

    async def drain(self) -> None:
        """End all open streams, so that the server need not wait for them, and take none.

        Runs are followed until `close`, so that nothing is missed if `start` comes again.
        """
        self._is_draining = True
        for session in list(self._sessions.values()):
            session.close("the coordinator stops", replaced=False)
        self._watchers.wake_all()

    async def close(self) -> None:
        """Store what is not stored yet and let go of everything."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._follower.close()
        self._see_attached()
        await self._store_agents()
        await self._archive.close()

    # For operators

    async def create_run(self, request_id: str, message: bytes) -> RunRecord:
        """The run of that request, stored and begun now or before. message: the serialised spec.

        Raises InvalidInput for a spec that cannot run, Conflict when the request id was used for
        another one, NotReady when too many runs go on already.
        """
        spec = self._read_spec(message)
        check_runnable(spec)
        async with self._creating:
            known = await self._archive.find_request(request_id)
            if known is None:
                return await self._begin_run(request_id, message, spec)
        if self._read_spec(known.spec) != spec:
            raise Conflict(f"request id '{request_id}' was used for another spec: choose a new one")
        return await self.run(known.run_id)

    async def _begin_run(self, request_id: str, message: bytes, spec: RunSpec) -> RunRecord:
        if len(self._core.runs) >= self._max_runs:
            raise NotReady(f"{self._max_runs} runs go on already: stop one, or wait")
        record = RunRecord(_new_run_id(), request_id, message, self._clock.wall())
        await self._archive.add(record)
        log.info("run created", extra=fields(run=record.run_id, strategy=spec.strategy))
        self._add(record, spec, first_attempt=0)
        self._follower.follow(record.run_id, message)
        return record

    async def run(self, run_id: str) -> RunRecord:
        """The run as it is now; raises NotFound."""
        record = self._view(run_id) or await self._archive.find(run_id)
        if record is None:
            raise NotFound(f"there is no run '{run_id[:80]}': `tinyfleet run list` names them")
        return record

    async def runs(self, limit: int) -> list[RunRecord]:
        """The newest runs, newest first."""
        return [self._view(one.run_id) or one for one in await self._archive.newest(limit)]

    async def watch_run(self, run_id: str) -> AsyncIterator[RunRecord]:
        """The run now, then after changes, at most ten times a second, until it has ended."""
        with self._watchers.watch(run_id) as changed:
            while True:
                changed.clear()
                record = await self.run(run_id)
                yield record
                if self._is_final(record) or self._is_draining:
                    return
                await changed.wait()
                await asyncio.sleep(WATCH_S)

    async def stop_run(self, run_id: str) -> RunRecord:
        """End a run and keep its model; that is stored when this returns."""
        if run_id in self._records:
            self._perform(self._core.stop_run(run_id, self._clock.steady()))
            await self._archive.save(run_id)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(STOP_S):
                    await self._until_final(run_id)
        return await self.run(run_id)

    def agents(self, attached_only: bool) -> list[AgentState]:
        """The agents by name."""
        known = self._core.fleet.agents.values()
        chosen = [agent for agent in known if agent.session is not None or not attached_only]
        return [self._agent_state(agent) for agent in sorted(chosen, key=lambda a: a.name)]

    def readings(self) -> Iterable[Reading]:
        """How the fleet and the runs are."""
        return readings_of(self._core, self._tally, self._clock.steady())

    # For agents

    def next_session(self) -> int:
        """A number for a stream, never used before."""
        self._session_count += 1
        return self._session_count

    def attach(self, hello: Attendance, session: AgentSession) -> None:
        """Take an agent into the fleet; raises NotReady when there is no room."""
        if self._is_draining:
            return session.close("the coordinator stops", replaced=False)
        if not self._core.fleet.has_room(hello.name):
            raise NotReady(f"the fleet has {self.rules.max_agents} agents: raise --max-agents")
        self._sessions[hello.session] = session
        self._seen.add(hello.name)
        log.info("agent attached", extra=fields(agent=hello.name, in_hand=len(hello.in_hand)))
        self._perform(self._core.attach(hello, self._clock.steady()))
        return None

    def detach(self, session: int) -> None:
        """A stream has ended."""
        if self._sessions.pop(session, None) is not None:
            self._seen.add(name := self._core.agent_of(session))
            log.info("agent detached", extra=fields(agent=name))
            self._perform(self._core.detach(session, self._clock.steady()))

    def heard(self, session: int) -> None:
        """A sign of life."""
        self._core.heard(session, self._clock.steady())

    def decline(self, session: int, assignment_id: str, reason: str, permanent: bool) -> None:
        """An agent cannot do an assignment."""
        now = self._clock.steady()
        if self._core.works_on(session, assignment_id):
            about = fields(assignment=assignment_id, reason=reason, permanent=permanent)
            log.warning("assignment declined", extra=about)
            self._perform(self._core.decline(session, assignment_id, reason, permanent, now))

    # From the aggregator: `following.Listener`

    def goes_on(self, run_id: str) -> bool:
        run = self._core.runs.get(run_id)
        return run is not None and not run.is_ending

    def model_changed(self, run_id: str, change: ModelChange) -> None:
        self._perform(self._core.model_changed(run_id, change, self._clock.steady()))

    def aggregator_lost(self, run_id: str, problem: str) -> None:
        if not self.goes_on(run_id):
            self._unreachable.add(run_id)
        self._perform(self._core.aggregator_lost(run_id, f"{self._waiting}: {problem}"))

    def _note_silence(self, run_id: str) -> None:
        """Say what a run waits for when the aggregator has neither answered nor failed yet."""
        run = self._core.runs.get(run_id)
        if run is not None and run.round is None and not run.problem:
            self._perform(self._core.aggregator_lost(run_id, self._waiting))

    def run_refused(self, run_id: str, reason: str) -> None:
        text = f"the aggregator refused the run: {reason}"
        self._perform(self._core.fail_run(run_id, text, self._clock.steady()))

    def run_ended(self, run_id: str, ended: Ended | None) -> None:
        run = self._core.ended(run_id, *ended) if ended else self._core.vanished(run_id)
        self._unreachable.discard(run_id)
        if run is not None:
            self._records[run_id] = replace(self._with_status(run), settled=True)
            self._tally.ended[run.status] += 1
            self._archive.queue(run_id)
            self._watchers.wake(run_id)
            about = fields(run=run_id, status=run.status.value, rounds=run.progress.rounds_done)
            log.info("run ended", extra=about)

    # What the dispatcher wants

    def _perform(self, actions: Iterable[Action]) -> None:
        for action in actions:
            self._steps[type(action)](action)

    def _send_assignment(self, action: SendAssignment) -> None:
        if session := self._sessions.get(action.session):
            session.assign(action.assignment, action.work)

    def _send_brief(self, action: SendBrief) -> None:
        if session := self._sessions.get(action.session):
            session.brief(action.run_id, self._records[action.run_id].spec)

    def _withdraw(self, action: Withdraw) -> None:
        if session := self._sessions.get(action.session):
            session.withdraw(action.assignment_id)

    def _close_session(self, action: CloseSession) -> None:
        if session := self._sessions.pop(action.session, None):
            log.warning("agent's stream closed", extra=fields(reason=action.reason))
            session.close(action.reason, action.replaced)

    def _wake_watchers(self, action: RunChanged) -> None:
        self._watchers.wake(action.run_id)

    def _report(self, action: RoundClosed) -> None:
        self._tally.rounds += 1
        report, closed, run_id = self._telemetry.report, action.closed, action.run_id
        if closed.diverged < closed.updates:
            report("round_loss", closed.loss, "", run_id, closed.round)
        if action.seconds is not None:
            report("round_seconds", action.seconds, "seconds", run_id, closed.round)
        slowest = closed.slowest_training_s
        report("slowest_training_seconds", slowest, "seconds", run_id, closed.round)
        run = self._core.runs.get(run_id)
        if run is not None and run.overlaps:
            report("round_staleness", closed.staleness, "", run_id, closed.round)
        levels = (self._core.fleet.attached, action.reassignments)
        if self._levels.get(run_id) != levels:
            self._levels[run_id] = levels
            report("agents_attached", levels[0], "", run_id, closed.round)
            report("reassignments_total", levels[1], "", run_id, closed.round)

    def _save_status(self, action: SaveRun) -> None:
        run = self._core.runs[action.run_id]
        self._records[run.run_id] = self._with_status(run)
        self._archive.queue(run.run_id)
        log.info("run is now", extra=fields(run=run.run_id, status=run.status.value))

    def _end_run(self, action: EndRun) -> None:
        self._follower.end(action.run_id)

    # States

    def _record(self, run_id: str) -> RunRecord | None:
        """A run as it is to be stored; None when only the store knows it."""
        run, record = self._core.runs.get(run_id), self._records.get(run_id)
        return record if run is None or record is None else self._with_status(run)

    def _view(self, run_id: str) -> RunRecord | None:
        """A run as an operator sees it: also with what it waits for."""
        run, record = self._core.runs.get(run_id), self._record(run_id)
        if run is None or record is None:
            return record
        return replace(record, message=self._core.message(run))

    def _with_status(self, run: ActiveRun) -> RunRecord:
        record = self._records[run.run_id]
        end_time = record.end_time or self._clock.wall() if run.status.has_ended else None
        return replace(
            record,
            status=run.status,
            message=run.message,
            end_time=end_time,
            parameters_sha256=run.parameters_sha256,
            progress=replace(run.progress),
        )

    def _forget_settled(self, record: RunRecord) -> None:
        """A run is stored: the store knows all about it if it is over."""
        if record.settled:
            self._records.pop(record.run_id, None)
            self._levels.pop(record.run_id, None)

    def _is_final(self, record: RunRecord) -> bool:
        if not record.status.has_ended:
            return False
        return record.settled or record.run_id in self._unreachable

    async def _until_final(self, run_id: str) -> None:
        async for record in self.watch_run(run_id):
            if self._is_final(record):
                return

    def _agent_state(self, agent: Agent) -> AgentState:
        age = self._clock.steady() - agent.heard
        return AgentState(
            name=agent.name,
            capabilities=agent.capabilities,
            attached=agent.session is not None,
            last_seen=max(self._clock.wall() - age, 0.0),
            assignment_id=agent.working.id if agent.working else "",
            updates=agent.updates,
            message="; ".join(f"run {run_id}: {why}" for run_id, why in agent.unfit.items()),
        )

    # Time and storage

    async def _tick(self) -> None:
        before = self._clock.steady()
        while True:
            await asyncio.sleep(TICK_S)
            now = self._clock.steady()
            if now - before > self.rules.heartbeat_s + TICK_S:
                self._core.overslept(now)
            before = now
            self._perform(self._core.tick(now))

    async def _store_agents_forever(self) -> None:
        """Store who came or went soon, who stayed now and then."""
        refreshed = self._clock.steady()
        while True:
            await asyncio.sleep(TICK_S)
            if self._clock.steady() - refreshed >= SEEN_S:
                refreshed = self._clock.steady()
                self._see_attached()
            if self._seen:
                await self._store_agents()

    async def _store_agents(self) -> None:
        names, self._seen = self._seen, set()
        known = self._core.fleet.agents
        states = [self._agent_state(known[name]) for name in names if name in known]
        rows = [StoredAgent(one.name, one.capabilities, one.last_seen) for one in states]
        if not await self._archive.save_agents(rows):
            self._seen |= names

    def _see_attached(self) -> None:
        known = self._core.fleet.agents.values()
        self._seen |= {agent.name for agent in known if agent.session is not None}

    def _load(self, store: Store) -> None:
        """What an earlier life of this process has stored."""
        offset = self._clock.steady() - self._clock.wall()
        for agent in store.agents(self.rules.max_agents):
            self._core.fleet.remember(agent.name, agent.capabilities, agent.last_seen + offset)
        for record in store.open_runs():
            # Agents may hold assignments of that life, and new ones must not have their ids.
            first_attempt = random.randrange(1_000, 1_000_000)
            try:
                self._add(record, self._read_spec(record.spec), first_attempt)
            except InvalidInput as error:
                store.save_run(self._unreadable(record, str(error)))
            else:
                about = fields(run=record.run_id, status=record.status.value)
                log.info("run restored", extra=about)

    def _unreadable(self, record: RunRecord, reason: str) -> RunRecord:
        """A stored run that this version does not understand."""
        log.error("run not restored", extra=fields(run=record.run_id, reason=reason))
        message = f"this version of the coordinator cannot go on with it: {reason}"
        now = self._clock.wall()
        return replace(record, status=RunStatus.FAILED, message=message, end_time=now, settled=True)

    def _add(self, record: RunRecord, spec: RunSpec, first_attempt: int) -> None:
        self._records[record.run_id] = record
        needs = needs_of(spec)
        self._perform(self._core.add_run(record.run_id, spec, needs, record.status, first_attempt))
        asyncio.get_running_loop().call_later(PATIENCE_S, self._note_silence, record.run_id)
        self._core.runs[record.run_id].message = record.message


def _new_run_id() -> str:
    return "".join(secrets.choice(_ID_LETTERS) for _ in range(8))
