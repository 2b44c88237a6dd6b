"""The dispatcher: decides who does what. Pure: no input or output, no clock, no messages.

Each method is an event; it returns the actions that follow, in order. After each event this holds:

- a slot of an open round is received, or an attached agent works on it, or it waits;
- no slot waits while an agent that can serve its run is idle;
- an agent has at most one assignment, and no two agents have the same one.

Several runs share the fleet in turns: each gives out one slot, then the next run does. An event
costs O(active runs + slots it touches), never O(agents), but for the start and the end of a run.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from services.coordinator.buffered import OpenBuffer
from services.coordinator.fleet import Agent, Capabilities, Fleet, Needs
from services.coordinator.rounds import OpenRound
from services.coordinator.runs import ActiveRun, RunStatus
from services.coordinator.work import (
    Action,
    Assignment,
    ClosedRound,
    CloseSession,
    EndRun,
    ModelChange,
    RefusedUpdate,
    RoundClosed,
    RoundWork,
    RunChanged,
    SaveRun,
    SendAssignment,
    SendBrief,
    Withdraw,
    parse_assignment_id,
)
from tinyfleet.errors import InvalidInput
from tinyfleet.run import RunSpec

MAX_FAILURES = 3  # in a row, then an agent gets no more work of a run
REST_S = 5.0  # our choice: pause after an agent declined for the moment
_LOST = "the aggregator no longer has this run's model: was its state removed? start a new run"


@dataclass(frozen=True)
class Rules:
    """How patient the dispatcher is; times in seconds."""

    heartbeat_s: float = 15.0
    round_deadline_s: float = 60.0
    max_agents: int = 10_000

    @property
    def silence_s(self) -> float:
        """Without a sign of life for longer than this, an agent is lost."""
        return 3 * self.heartbeat_s


@dataclass(frozen=True)
class Attendance:
    """What an agent says when it attaches. session: a number never used before."""

    session: int
    name: str
    instance_id: str
    capabilities: Capabilities
    in_hand: Sequence[str] = ()


class Dispatcher:
    """The state of all active runs and all agents."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self.fleet = Fleet(rules.max_agents)
        self.runs: dict[str, ActiveRun] = {}
        self._sessions: dict[int, Agent] = {}
        self._hungry: OrderedDict[str, None] = OrderedDict()  # runs with waiting slots, by turn
        self._actions: list[Action] = []

    # Runs

    def add_run(
        self,
        run_id: str,
        spec: RunSpec,
        needs: Needs,
        status: RunStatus = RunStatus.PENDING,
        first_attempt: int = 0,
    ) -> list[Action]:
        """A run is stored, and the aggregator is about to be asked for it.

        first_attempt: 0, or for a run from an earlier life of this process a number that makes the
        ids of assignments in its open round differ from those of that life.
        """
        strategy = spec.make_strategy()
        run = ActiveRun(run_id, spec, strategy, needs, status, first_attempt)
        run.is_ending = status.has_ended
        self.runs[run_id] = run
        self.fleet.open_pool(run_id, needs)
        return self._done()

    def model_changed(self, run_id: str, change: ModelChange, now: float) -> list[Action]:
        """The aggregator told something about a run's model."""
        run = self.runs.get(run_id)
        if run is None or run.is_ending:
            return []
        run.problem = f"the aggregator waits: {change.problem}" if change.problem else ""
        run.progress.take(change.totals)
        for refused in change.refused:
            self._refuse(run, refused)
        self._account(run, change.closed, now)
        if not run.is_ending:
            self._follow(run, change, now)
        self._hand_out(now)
        self._actions.append(RunChanged(run_id))
        return self._done()

    def aggregator_lost(self, run_id: str, problem: str) -> list[Action]:
        """The aggregator cannot be asked about a run at the moment. Work in flight goes on."""
        if run := self.runs.get(run_id):
            run.problem = problem
        return self._done(look=True)

    def fail_run(self, run_id: str, reason: str, now: float) -> list[Action]:
        """A run cannot go on."""
        return self._close_run(run_id, RunStatus.FAILED, reason, now)

    def stop_run(self, run_id: str, now: float) -> list[Action]:
        """An operator wants a run to end."""
        return self._close_run(run_id, RunStatus.STOPPED, "", now)

    def ended(self, run_id: str, version: int, sha256: str) -> ActiveRun | None:
        """The aggregator has ended the run: take it off the list and give its last state."""
        run = self._forget(run_id)
        if run is not None:
            run.progress.rounds_done, run.parameters_sha256 = version, sha256
            run.status = run.status if run.status.has_ended else RunStatus.FINISHED
        return run

    def vanished(self, run_id: str) -> ActiveRun | None:
        """Like `ended`, for a run the aggregator does not have (any more)."""
        run = self._forget(run_id)
        if run is not None and not run.status.has_ended:
            run.status, run.message = RunStatus.FAILED, _LOST
        return run

    def message(self, run: ActiveRun) -> str:
        """Why a run failed or what it waits for; empty when there is nothing to say."""
        if run.message or run.problem or run.is_ending or self.fleet.pools[run.run_id].fit:
            return run.message or run.problem
        if not self.fleet.attached:
            return "waiting for an agent: none is attached"
        agent = self.fleet.any_attached()
        why = f"'{agent.name}' does not: {agent.unfit[run.run_id]}"
        return f"waiting for an agent that {run.needs}; {why}"

    # Agents

    def attach(self, hello: Attendance, now: float) -> list[Action]:
        """An agent opened a stream. The newest stream of a name is the agent."""
        known = self.fleet.agents.get(hello.name)
        if known and known.session is not None:
            self._replace(known, hello)
        agent = self.fleet.attach(
            hello.name, hello.instance_id, hello.capabilities, hello.session, now
        )
        self._sessions[hello.session] = agent
        self._resume(agent, hello.in_hand, now)
        self._hand_out(now)
        return self._done(look=True)

    def detach(self, session: int, now: float) -> list[Action]:
        """A stream has ended, for whatever reason."""
        if agent := self._sessions.get(session):
            self._lose(agent)
            self._hand_out(now)
        return self._done(look=True)

    def heard(self, session: int, now: float) -> list[Action]:
        """A sign of life."""
        if agent := self._sessions.get(session):
            self.fleet.hear(agent, now)
        return []

    def overslept(self, now: float) -> None:
        """This process was stopped for a while: what agents said meanwhile was not read."""
        self.fleet.hear_all(now)

    def agent_of(self, session: int) -> str:
        """Name of the agent behind a session; empty when it is over."""
        agent = self._sessions.get(session)
        return agent.name if agent else ""

    def works_on(self, session: int, assignment_id: str) -> bool:
        """Whether the agent behind a session has that assignment."""
        agent = self._sessions.get(session)
        return bool(agent and agent.working and agent.working.id == assignment_id)

    def decline(
        self, session: int, assignment_id: str, reason: str, permanent: bool, now: float
    ) -> list[Action]:
        """An agent cannot do an assignment."""
        agent = self._sessions.get(session)
        if agent is None or agent.working is None or not self.works_on(session, assignment_id):
            return []
        self.fleet.hear(agent, now)
        run_id = agent.working.run_id
        agent.held.pop(run_id, None)  # it may say that it lacks what it was sent before
        self._free(agent, failed=True)
        until = None if permanent else now + REST_S
        self.fleet.exclude(agent, run_id, f"it declined: {reason}", until)
        self._hand_out(now)
        return self._done(look=True)

    def tick(self, now: float) -> list[Action]:
        """Time has passed: silent agents, late slots, rests that are over. About once a second."""
        for agent in self.fleet.silent(now - self.rules.silence_s):
            session = agent.session
            assert session is not None  # noqa: S101 - silent agents are attached ones
            silence = f"no heartbeat for {self.rules.silence_s:g} s"
            self._actions.append(CloseSession(session, silence, replaced=False))
            self._lose(agent)
        self.fleet.end_rests(now)
        for run in self.runs.values():
            if run.round and run.round.expire(now):
                self._hungry[run.run_id] = None
        self._hand_out(now)
        return self._done(look=True)

    # Rounds

    def _follow(self, run: ActiveRun, change: ModelChange, now: float) -> None:
        """Bring the open round in line with what the aggregator says."""
        if run.round is None or run.round.version != change.version:
            if not run.overlaps or change.version >= run.spec.rounds:
                self._leave_round(run)
            self._enter_round(run, change, now)
        if run.round:
            for slot in run.round.received(change):
                self._receive(run, run.round, slot)
            if isinstance(run.round, OpenBuffer):
                self._keep_up(run, run.round, change.whole)
            self._settle_claims(run, run.round, now)
        if change.ended and not run.is_ending:
            self._end(run, RunStatus.FAILED, "the aggregator ended the run before its last round")

    def _enter_round(self, run: ActiveRun, change: ModelChange, now: float) -> None:
        if change.version < run.progress.rounds_done:
            return self._end(run, RunStatus.FAILED, _LOST)
        run.progress.rounds_done = change.version
        run.round_opened = now
        if change.version >= run.spec.rounds:
            run.is_ending = True
            self._dismiss_claims(run)
            self._actions.append(EndRun(run.run_id))
            return None
        try:
            start = run.starts.open(change.version, change.parameters)
        except InvalidInput as error:
            return self._end(run, RunStatus.FAILED, f"the aggregator's model is of no use: {error}")
        plan = run.strategy.plan(change.version)
        work = RoundWork(run.run_id, change.version, plan, start)
        # Only the round that is open when we come in can have been worked on in an earlier life.
        first_attempt = run.first_attempt if change.whole else 0
        run.round = run.open(work, first_attempt)
        self._hungry[run.run_id] = None
        return None

    def _keep_up(self, run: ActiveRun, open_slots: OpenBuffer, whole: bool) -> None:
        """Take back what started from too old a version, and let wait what has become open."""
        for assignment, name in open_slots.outdated(whole):
            open_slots.take_back(assignment)
            self._dismiss(self.fleet.agents[name], assignment.id)
        if open_slots.waiting:
            self._hungry[run.run_id] = None

    def _leave_round(self, run: ActiveRun) -> None:
        """The open round is over: its agents are idle again."""
        if run.round is None:
            return
        for slot in run.round.unfinished():
            self._receive(run, run.round, slot)
        run.reassignments += run.round.reassignments
        run.round = None
        self._hungry.pop(run.run_id, None)

    def _receive(self, run: ActiveRun, round: OpenRound, slot: int) -> None:
        is_contested = round.is_contested(slot)
        for assignment_id, name in round.receive(slot):
            agent = self.fleet.agents[name]
            if is_contested:  # who won is not known: the winner ignores this
                self._withdraw(agent, assignment_id)
            else:
                agent.updates += 1
                agent.failures.pop(run.run_id, None)
            self.fleet.rest_idle(agent)
        if not round.waiting:
            self._hungry.pop(run.run_id, None)

    def _refuse(self, run: ActiveRun, refused: RefusedUpdate) -> None:
        """An update was not taken: another agent does its slot, if there is one."""
        assignment = parse_assignment_id(refused.assignment_id)
        name = run.round.holder(assignment) if run.round and assignment else None
        if assignment is None or name is None:
            return
        agent = self.fleet.agents[name]
        if refused.stale and isinstance(run.round, OpenBuffer):  # it was only slow
            run.round.take_back(assignment)
            self.fleet.rest_idle(agent)
            return
        self._free(agent, failed=True)
        agent.failures[run.run_id] = agent.failures.get(run.run_id, 0) + 1
        if agent.failures[run.run_id] < MAX_FAILURES:
            return
        reason = f"its updates were refused {MAX_FAILURES} times in a row: {refused.reason}"
        self.fleet.exclude(agent, run.run_id, reason)
        if not self.fleet.pools[run.run_id].fit:
            self._end(run, RunStatus.FAILED, f"no agent is left; agent '{agent.name}': {reason}")

    def _account(self, run: ActiveRun, closed_rounds: Sequence[ClosedRound], now: float) -> None:
        for closed in closed_rounds:
            seen = run.round is not None and run.round.version == closed.round
            seconds = now - run.round_opened if seen and run.round_opened is not None else None
            again = run.round.reassignments if run.round else 0
            run.progress.loss = None if math.isnan(closed.loss) else closed.loss
            total = run.reassignments + again
            self._actions.append(RoundClosed(run.run_id, closed, seconds, total))
            if run.count_diverged(closed) and not run.is_ending:
                self._end(run, RunStatus.FAILED, _diverged(run))

    # Assignments

    def _hand_out(self, now: float) -> None:
        """Give waiting slots to idle agents, one per run and turn, until either runs out."""
        served = True
        while served and self._hungry and self.fleet.has_idle:
            served = False
            for run_id in list(self._hungry):
                served |= self._serve(self.runs[run_id], now)

    def _serve(self, run: ActiveRun, now: float) -> bool:
        open_round = run.round
        if open_round is None or not self.fleet.pools[run.run_id].idle:
            return False
        slot = open_round.next_waiting()
        agent = self.fleet.next_idle(run.run_id, open_round.avoided(slot))
        if agent is None or agent.session is None:
            return False
        assignment = open_round.give(slot, agent.name, now + self.rules.round_deadline_s)
        self.fleet.occupy(agent, assignment)
        self._hungry.move_to_end(run.run_id)
        if not open_round.waiting:
            del self._hungry[run.run_id]
        self._start(run)
        if run.run_id not in agent.briefed:
            agent.briefed.add(run.run_id)
            self._actions.append(SendBrief(agent.session, run.run_id))
        work = run.starts.for_agent(agent, open_round.work_of(slot))
        self._actions.append(SendAssignment(agent.session, assignment, work))
        return True

    def _start(self, run: ActiveRun) -> None:
        if run.status is RunStatus.PENDING:
            run.status = RunStatus.RUNNING
            self._actions += (SaveRun(run.run_id), RunChanged(run.run_id))

    def _resume(self, agent: Agent, in_hand: Sequence[str], now: float) -> None:
        """Let a returning agent keep the first thing it has in hand that is wanted."""
        for assignment_id in in_hand:
            assignment = parse_assignment_id(assignment_id)
            if agent.working or assignment is None or not self._keeps(agent, assignment, now):
                self._withdraw(agent, assignment_id)
        if agent.working is None:
            self.fleet.rest_idle(agent)

    def _keeps(self, agent: Agent, assignment: Assignment, now: float) -> bool:
        run = self.runs.get(assignment.run_id)
        if run is None or run.is_ending or run.run_id in agent.unfit:
            return False
        deadline = now + self.rules.round_deadline_s
        if run.round is None:
            run.claims[agent.name] = assignment
        elif not run.round.resume(assignment, agent.name, deadline):
            return False
        elif not run.round.waiting:
            self._hungry.pop(run.run_id, None)
        self.fleet.occupy(agent, assignment)
        return True

    def _settle_claims(self, run: ActiveRun, round: OpenRound, now: float) -> None:
        """The open round is known now: agents keep what they have in hand, or are idle."""
        deadline = now + self.rules.round_deadline_s
        for name, assignment in run.claims.items():
            if round.resume(assignment, name, deadline):
                self._start(run)
            else:
                self._dismiss(self.fleet.agents[name], assignment.id)
        run.claims.clear()
        if not round.waiting:
            self._hungry.pop(run.run_id, None)

    def _free(self, agent: Agent, failed: bool = False) -> None:
        """Take an agent's assignment off it; its slot waits again unless another has it too."""
        assignment = agent.working
        if assignment is None:
            return
        run = self.runs[assignment.run_id]
        self.fleet.rest_idle(agent)
        if run.claims.pop(agent.name, None) is not None or run.round is None:
            return
        run.round.release(assignment, failed)
        if run.round.waiting:
            self._hungry[run.run_id] = None

    def _withdraw(self, agent: Agent, assignment_id: str) -> None:
        if agent.session is not None:
            self._actions.append(Withdraw(agent.session, assignment_id))

    # Endings

    def _replace(self, agent: Agent, hello: Attendance) -> None:
        """End an agent's older stream."""
        session = agent.session
        assert session is not None  # noqa: S101 - the caller has looked
        again = agent.instance_id == hello.instance_id
        reason = (
            "this agent has opened a newer stream"
            if again
            else f"another process attached as '{agent.name}': give each agent its own name"
        )
        self._actions.append(CloseSession(session, reason, replaced=True))
        self._lose(agent)

    def _lose(self, agent: Agent) -> None:
        """An agent is gone; somebody else can have its slot."""
        self._free(agent)
        if agent.session is not None:
            del self._sessions[agent.session]
        self.fleet.detach(agent)

    def _close_run(self, run_id: str, status: RunStatus, reason: str, now: float) -> list[Action]:
        run = self.runs.get(run_id)
        if run is None or run.is_ending:
            return []
        self._end(run, status, reason)
        self._hand_out(now)
        return self._done()

    def _end(self, run: ActiveRun, status: RunStatus, reason: str) -> None:
        """Take the run's work off all agents and have it ended at the aggregator."""
        run.status, run.message, run.is_ending = status, reason, True
        if run.round:
            for slot in run.round.unfinished():
                for assignment_id, name in run.round.receive(slot):
                    self._dismiss(self.fleet.agents[name], assignment_id)
        self._dismiss_claims(run)
        run.round = None
        self._hungry.pop(run.run_id, None)
        self._actions += (SaveRun(run.run_id), EndRun(run.run_id), RunChanged(run.run_id))

    def _dismiss_claims(self, run: ActiveRun) -> None:
        for name, assignment in run.claims.items():
            self._dismiss(self.fleet.agents[name], assignment.id)
        run.claims.clear()

    def _forget(self, run_id: str) -> ActiveRun | None:
        run = self.runs.pop(run_id, None)
        if run is not None:
            self.fleet.close_pool(run_id)
        return run

    def _dismiss(self, agent: Agent, assignment_id: str) -> None:
        self._withdraw(agent, assignment_id)
        self.fleet.rest_idle(agent)

    def _done(self, look: bool = False) -> list[Action]:
        """The actions of the event. look: also tell whose message is another one now."""
        if look:
            for run in self.runs.values():
                if (text := self.message(run)) != run.shown:
                    run.shown = text
                    self._actions.append(RunChanged(run.run_id))
        actions, self._actions = self._actions, []
        return actions


def _diverged(run: ActiveRun) -> str:
    return (
        f"training diverged in {run.diverged_rounds} rounds in a row: "
        f"choose a lower inner_rate (or outer_rate) for {run.spec.strategy}"
    )
