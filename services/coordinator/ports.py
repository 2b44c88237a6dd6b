"""What the coordinator needs from outside: storage, the aggregator, agents' streams, the time."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from services.coordinator.fleet import Capabilities
from services.coordinator.runs import RunRecord
from services.coordinator.work import Assignment, ModelChange, RoundWork
from tinyfleet.errors import Refused, Unreachable


@dataclass(frozen=True)
class StoredAgent:
    """An agent as it is stored. last_seen: seconds since 1970-01-01T00:00:00Z."""

    name: str
    capabilities: Capabilities
    last_seen: float


class AgentState(NamedTuple):
    """An agent as an operator sees it. last_seen: seconds since 1970-01-01T00:00:00Z."""

    name: str
    capabilities: Capabilities
    attached: bool
    last_seen: float
    assignment_id: str
    updates: int
    message: str


class Store(Protocol):
    """Runs and agents. Calls block, and raise StorageFailed; what they return from is on disk."""

    def add_run(self, record: RunRecord) -> None:
        """Store a new run; there must be none of its id or request id."""
        ...

    def save_run(self, record: RunRecord) -> None:
        """Store a run's state anew; spec, request and creation time stay as they were added."""
        ...

    def run(self, run_id: str) -> RunRecord | None:
        """The run of that id."""
        ...

    def run_of_request(self, request_id: str) -> RunRecord | None:
        """The run that was made for that request."""
        ...

    def newest_runs(self, limit: int) -> list[RunRecord]:
        """At most `limit` runs, newest first."""
        ...

    def open_runs(self) -> list[RunRecord]:
        """The runs that are not settled, oldest first."""
        ...

    def save_agents(self, agents: Sequence[StoredAgent]) -> None:
        """Add or renew agents."""
        ...

    def agents(self, limit: int) -> list[StoredAgent]:
        """The agents seen last, the latest of them last."""
        ...

    def secret(self, name: str, fresh: bytes) -> bytes:
        """The secret of that name: the one that is stored, or else `fresh`, from now on."""
        ...

    def close(self) -> None: ...


class AggregatorUnavailable(Unreachable):
    """It does not answer now: try again."""


class AggregatorRefused(Refused):
    """It will not do it: trying again is of no use."""


class ModelUnknown(Refused):
    """It has no run of that id."""


class Ended(NamedTuple):
    """What a run ended with."""

    version: int
    parameters_sha256: str


class Aggregator(Protocol):
    """Keeper of the models. Raises the three errors above."""

    @property
    def address(self) -> str:
        """host:port"""
        ...

    async def open_run(self, run_id: str, spec: bytes) -> None:
        """Make version 0 of a model, if there is none yet. spec: the serialised message."""
        ...

    def watch(self, run_id: str) -> AsyncIterator[ModelChange]:
        """The state of a run's model, then what changes, until either side ends it."""
        ...

    async def end_run(self, run_id: str) -> Ended:
        """Let the model stay as it is."""
        ...

    async def close(self) -> None: ...


class AgentSession(Protocol):
    """The way to one attached agent. Calls never wait."""

    def brief(self, run_id: str, spec: bytes) -> None: ...

    def assign(self, assignment: Assignment, work: RoundWork) -> None: ...

    def withdraw(self, assignment_id: str) -> None: ...

    def close(self, reason: str, replaced: bool) -> None:
        """End the stream. replaced: the agent must not come back under its name."""
        ...


class Clock(Protocol):
    """Two clocks: `steady` never jumps and measures, `wall` says what time it is. In seconds."""

    def steady(self) -> float: ...

    def wall(self) -> float: ...


class SystemClock:
    """The machine's clocks."""

    def steady(self) -> float:
        return time.monotonic()

    def wall(self) -> float:
        return time.time()
