"""The agents: who is attached, who is idle since when, who can serve which run.

Each active run has a pool: the idle agents that can serve it, longest idle first. An agent is in
no pool while it works. So finding an agent for a slot, and a slot for an agent, takes no search.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from services.coordinator.work import Assignment


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What an agent says of itself.

    memory_bytes: None when not limited. tasks: () means any. clock_hz: None when not said.
    """

    version: str = ""
    target: str = ""
    engine: str = ""
    memory_bytes: int | None = None
    tasks: tuple[str, ...] = ()
    clock_hz: int | None = None


@dataclass(frozen=True, slots=True)
class Needs:
    """What a run asks of an agent. memory_bytes: for parameters and training."""

    task: str
    memory_bytes: int

    def missing(self, capabilities: Capabilities) -> str:
        """Why an agent of these capabilities cannot serve the run; empty when it can."""
        if capabilities.tasks and self.task not in capabilities.tasks:
            return f"it has no samples for task '{self.task}': start it with --data"
        limit = capabilities.memory_bytes
        if limit is not None and limit < self.memory_bytes:
            return (
                f"it has {limit} bytes of memory, the run needs {self.memory_bytes}: "
                f"{self.memory_bytes - limit} bytes are missing"
            )
        return ""

    def __str__(self) -> str:
        return f"can draw samples for task '{self.task}' in {self.memory_bytes} bytes of memory"


@dataclass(slots=True, eq=False)
class Agent:
    """A member of the fleet.

    session: of its open stream, None while it is not attached. heard: when it was last heard of.
    working: the one assignment it has. unfit: run id -> why it gets no work of that run.
    failures: run id -> its failures in a row there. briefed: runs that this session was told of.
    held: run id -> the version whose start this session was sent last, of the last few runs.
    """

    name: str
    capabilities: Capabilities
    instance_id: str
    heard: float
    session: int | None = None
    working: Assignment | None = None
    updates: int = 0
    unfit: dict[str, str] = field(default_factory=dict)
    failures: dict[str, int] = field(default_factory=dict)
    briefed: set[str] = field(default_factory=set)
    held: OrderedDict[str, int] = field(default_factory=OrderedDict)


@dataclass(slots=True, eq=False)
class Pool:
    """The agents for one run. fit: how many attached ones can serve it, idle or not."""

    needs: Needs
    fit: int = 0
    idle: OrderedDict[str, Agent] = field(default_factory=OrderedDict)


class Fleet:
    """All agents, attached or remembered. Steps are O(active runs), opening a pool O(agents)."""

    def __init__(self, max_agents: int) -> None:
        self.agents: dict[str, Agent] = {}
        self.pools: dict[str, Pool] = {}
        self._max_agents = max_agents
        self._attached: OrderedDict[str, Agent] = OrderedDict()  # silent longest first
        self._detached: OrderedDict[str, Agent] = OrderedDict()  # away longest first
        self._idle: OrderedDict[str, Agent] = OrderedDict()
        self._resting: deque[tuple[float, str, str, str]] = deque()

    @property
    def attached(self) -> int:
        """How many agents are attached."""
        return len(self._attached)

    @property
    def has_idle(self) -> bool:
        return bool(self._idle)

    def has_room(self, name: str) -> bool:
        """Whether an agent of this name can attach: it is known, or one that is away can go."""
        return name in self.agents or len(self.agents) < self._max_agents or bool(self._detached)

    def remember(self, name: str, capabilities: Capabilities, heard: float) -> None:
        """An agent known from before this process began."""
        agent = Agent(name, capabilities, "", heard)
        self.agents[name] = self._detached[name] = agent

    def attach(
        self, name: str, instance_id: str, capabilities: Capabilities, session: int, now: float
    ) -> Agent:
        """The agent, attached and not idle yet; it must not be attached already."""
        agent = self.agents.get(name) or self._add(name, now)
        if agent.instance_id != instance_id:  # a new process may be able to do what the old was not
            agent.unfit.clear()
            agent.failures.clear()
        agent.instance_id, agent.capabilities = instance_id, capabilities
        agent.session, agent.heard = session, now
        agent.briefed.clear()
        agent.held.clear()
        self._detached.pop(name, None)
        self._attached[name] = agent
        for run_id, pool in self.pools.items():
            self._judge(agent, run_id, pool)
        return agent

    def detach(self, agent: Agent) -> None:
        """Its stream is gone. What it worked on is the caller's to give to another."""
        agent.session = agent.working = None
        self._leave_idle(agent)
        for run_id, pool in self.pools.items():
            pool.fit -= run_id not in agent.unfit
        del self._attached[agent.name]
        self._detached[agent.name] = agent

    def any_attached(self) -> Agent:
        """One of the attached agents; there must be one."""
        return next(iter(self._attached.values()))

    def hear(self, agent: Agent, now: float) -> None:
        """A sign of life."""
        agent.heard = now
        self._attached.move_to_end(agent.name)

    def hear_all(self, now: float) -> None:
        """Nobody attached is silent."""
        for agent in self._attached.values():
            agent.heard = now

    def silent(self, since: float) -> Iterator[Agent]:
        """Attached agents not heard of since then; each must be detached before the next."""
        while self._attached:
            agent = next(iter(self._attached.values()))
            if agent.heard >= since:
                return
            yield agent

    def rest_idle(self, agent: Agent) -> None:
        """An attached agent has nothing to do."""
        agent.working = None
        self._idle[agent.name] = agent
        for run_id, pool in self.pools.items():
            if run_id not in agent.unfit:
                pool.idle[agent.name] = agent

    def occupy(self, agent: Agent, assignment: Assignment) -> None:
        """An attached agent has something to do."""
        agent.working = assignment
        self._leave_idle(agent)

    def next_idle(self, run_id: str, avoided: set[str]) -> Agent | None:
        """The agent for a slot of a run, longest idle first; an avoided one only if no other is."""
        idle = self.pools[run_id].idle
        for name, agent in idle.items():
            if name not in avoided:
                return agent
        return next(iter(idle.values()), None)

    def open_pool(self, run_id: str, needs: Needs) -> None:
        """From now on agents serve this run. O(attached agents)."""
        pool = self.pools[run_id] = Pool(needs)
        for agent in self._attached.values():
            self._judge(agent, run_id, pool)
        pool.idle.update((n, a) for n, a in self._idle.items() if run_id not in a.unfit)

    def close_pool(self, run_id: str) -> None:
        """No agent serves this run any more. O(known agents)."""
        del self.pools[run_id]
        for agent in self.agents.values():
            agent.unfit.pop(run_id, None)
            agent.failures.pop(run_id, None)
            agent.briefed.discard(run_id)

    def exclude(self, agent: Agent, run_id: str, reason: str, until: float | None = None) -> None:
        """Give an attached agent no work of a run.

        until: when that ends, the same time ahead for all; None means never.
        """
        pool = self.pools[run_id]
        pool.fit -= run_id not in agent.unfit
        pool.idle.pop(agent.name, None)
        agent.unfit[run_id] = reason
        if until is not None:
            self._resting.append((until, agent.name, run_id, reason))

    def end_rests(self, now: float) -> None:
        """Let agents whose exclusion was for a while serve again."""
        while self._resting and self._resting[0][0] <= now:
            _, name, run_id, reason = self._resting.popleft()
            agent, pool = self.agents.get(name), self.pools.get(run_id)
            if agent is None or pool is None or agent.unfit.get(run_id) != reason:
                continue
            del agent.unfit[run_id]
            if agent.session is not None:
                self._judge(agent, run_id, pool)
                if name in self._idle and run_id not in agent.unfit:
                    pool.idle[name] = agent

    def _add(self, name: str, now: float) -> Agent:
        if len(self.agents) >= self._max_agents:
            forgotten, _ = self._detached.popitem(last=False)
            del self.agents[forgotten]
        agent = self.agents[name] = Agent(name, Capabilities(), "", now)
        return agent

    def _judge(self, agent: Agent, run_id: str, pool: Pool) -> None:
        """Count an attached agent in or note why it is out; earlier reasons stay."""
        if reason := pool.needs.missing(agent.capabilities):
            agent.unfit.setdefault(run_id, reason)
        pool.fit += run_id not in agent.unfit

    def _leave_idle(self, agent: Agent) -> None:
        if self._idle.pop(agent.name, None) is not None:
            for pool in self.pools.values():
                pool.idle.pop(agent.name, None)
