"""A store that forgets everything with the process: for tests, and fleets that nobody restarts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from services.coordinator.ports import StoredAgent
from services.coordinator.runs import RunRecord


class MemoryStore:
    """Runs and agents in dictionaries, in the order they were added or seen."""

    def __init__(self) -> None:
        self._runs: dict[str, RunRecord] = {}
        self._agents: dict[str, StoredAgent] = {}
        self._requests: dict[str, str] = {}
        self._secrets: dict[str, bytes] = {}

    def add_run(self, record: RunRecord) -> None:
        self._runs[record.run_id] = _copy(record)
        self._requests[record.request_id] = record.run_id

    def save_run(self, record: RunRecord) -> None:
        if record.run_id in self._runs:
            self._runs[record.run_id] = _copy(record)

    def run(self, run_id: str) -> RunRecord | None:
        found = self._runs.get(run_id)
        return _copy(found) if found else None

    def run_of_request(self, request_id: str) -> RunRecord | None:
        return self.run(self._requests.get(request_id, ""))

    def newest_runs(self, limit: int) -> list[RunRecord]:
        return [_copy(record) for record in list(self._runs.values())[: -limit - 1 : -1]]

    def open_runs(self) -> list[RunRecord]:
        return [_copy(record) for record in self._runs.values() if not record.settled]

    def save_agents(self, agents: Sequence[StoredAgent]) -> None:
        self._agents |= {agent.name: agent for agent in agents}

    def agents(self, limit: int) -> list[StoredAgent]:
        known = sorted(self._agents.values(), key=lambda agent: (agent.last_seen, agent.name))
        return known[-limit:]

    def secret(self, name: str, fresh: bytes) -> bytes:
        return self._secrets.setdefault(name, fresh)

    def close(self) -> None:
        pass


def _copy(record: RunRecord) -> RunRecord:
    """The record with a progress of its own: that one changes while the run goes on."""
    return replace(record, progress=replace(record.progress))
