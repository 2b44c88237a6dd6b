"""Runs and agents in a SQLite database, with SQLAlchemy Core. Nothing is written per round."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import insert

from services.coordinator.fleet import Capabilities
from services.coordinator.ports import StoredAgent
from services.coordinator.runs import Progress, RunRecord, RunStatus
from services.hosting.database import open_database, storage_errors

MIGRATIONS = Path(__file__).parents[1] / "migrations"
TABLES = sa.MetaData()

runs = sa.Table(
    "runs",
    TABLES,
    sa.Column("number", sa.Integer, primary_key=True),  # in the order of creation
    sa.Column("run_id", sa.Text, nullable=False, unique=True),
    sa.Column("request_id", sa.Text, nullable=False, unique=True),
    sa.Column("spec", sa.LargeBinary, nullable=False),  # the message RunSpec, serialised
    sa.Column("create_time", sa.Float, nullable=False),  # seconds since 1970-01-01T00:00:00Z
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("end_time", sa.Float),
    sa.Column("message", sa.Text, nullable=False),
    sa.Column("parameters_sha256", sa.Text, nullable=False),
    sa.Column("settled", sa.Boolean, nullable=False, index=True),
    sa.Column("rounds_done", sa.Integer, nullable=False),
    sa.Column("loss", sa.Float),
    sa.Column("bytes_down", sa.Integer, nullable=False),
    sa.Column("bytes_up", sa.Integer, nullable=False),
    sa.Column("samples", sa.Integer, nullable=False),
    sa.Column("diverged", sa.Integer, nullable=False),
)
_agents = sa.Table(
    "agents",
    TABLES,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("capabilities", sa.Text, nullable=False),  # JSON
    sa.Column("last_seen", sa.Float, nullable=False),
)
_secrets = sa.Table(
    "secrets",
    TABLES,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("secret", sa.LargeBinary, nullable=False),
)
_STATE = ("status", "end_time", "message", "parameters_sha256", "settled")
_COUNTS = ("rounds_done", "loss", "bytes_down", "bytes_up", "samples", "diverged")


def open_store(state: Path) -> SqlStore:
    """The store in the folder `state`; see `open_database` for what it raises."""
    return SqlStore(open_database(state, "coordinator", MIGRATIONS))


class SqlStore:
    """A store on an engine that it owns."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    def add_run(self, record: RunRecord) -> None:
        with storage_errors("cannot store the run"), self._engine.begin() as connection:
            connection.execute(insert(runs).values(_row(record)))

    def save_run(self, record: RunRecord) -> None:
        row = _row(record)
        values = {name: row[name] for name in (*_STATE, *_COUNTS)}
        save = sa.update(runs).where(runs.c.run_id == record.run_id).values(values)
        what = f"cannot store run {record.run_id}"
        with storage_errors(what), self._engine.begin() as connection:
            connection.execute(save)

    def run(self, run_id: str) -> RunRecord | None:
        found = self._records(sa.select(runs).where(runs.c.run_id == run_id))
        return found[0] if found else None

    def run_of_request(self, request_id: str) -> RunRecord | None:
        found = self._records(sa.select(runs).where(runs.c.request_id == request_id))
        return found[0] if found else None

    def newest_runs(self, limit: int) -> list[RunRecord]:
        return self._records(sa.select(runs).order_by(runs.c.number.desc()).limit(limit))

    def open_runs(self) -> list[RunRecord]:
        return self._records(sa.select(runs).where(~runs.c.settled).order_by(runs.c.number))

    def save_agents(self, agents: Sequence[StoredAgent]) -> None:
        if not agents:
            return
        save = insert(_agents)
        save = save.on_conflict_do_update(
            index_elements=[_agents.c.name],
            set_={name: save.excluded[name] for name in ("capabilities", "last_seen")},
        )
        with storage_errors("cannot store the agents"), self._engine.begin() as connection:
            connection.execute(save, [_agent_row(agent) for agent in agents])

    def agents(self, limit: int) -> list[StoredAgent]:
        latest = sa.select(_agents).order_by(_agents.c.last_seen.desc(), _agents.c.name.desc())
        with storage_errors("cannot read the agents"), self._engine.connect() as connection:
            rows = connection.execute(latest.limit(limit)).mappings().all()
        return [_agent(row) for row in reversed(rows)]

    def secret(self, name: str, fresh: bytes) -> bytes:
        add = insert(_secrets).values(name=name, secret=fresh).on_conflict_do_nothing()
        get = sa.select(_secrets.c.secret).where(_secrets.c.name == name)
        with storage_errors(f"cannot store the secret {name}"), self._engine.begin() as connection:
            connection.execute(add)
            return bytes(connection.execute(get).scalar_one())

    def close(self) -> None:
        self._engine.dispose()

    def _records(self, query: sa.Select[Any]) -> list[RunRecord]:
        with storage_errors("cannot read the runs"), self._engine.connect() as connection:
            return [_record(row) for row in connection.execute(query).mappings()]


def _row(record: RunRecord) -> dict[str, Any]:
    own = {
        name: getattr(record, name)
        for name in ("run_id", "request_id", "spec", "create_time", *_STATE)
    }
    counts = {name: getattr(record.progress, name) for name in _COUNTS}
    return own | counts | {"status": record.status.value}


def _record(row: Any) -> RunRecord:
    values = {name: row[name] for name in row if name not in ("number", *_COUNTS)}
    values["status"] = RunStatus(row["status"])
    return RunRecord(**values, progress=Progress(**{name: row[name] for name in _COUNTS}))


def _agent_row(agent: StoredAgent) -> dict[str, Any]:
    capabilities = json.dumps(asdict(agent.capabilities))
    return {"name": agent.name, "capabilities": capabilities, "last_seen": agent.last_seen}


def _agent(row: Any) -> StoredAgent:
    said = json.loads(row["capabilities"])
    return StoredAgent(
        row["name"], Capabilities(**said | {"tasks": tuple(said["tasks"])}), row["last_seen"]
    )
