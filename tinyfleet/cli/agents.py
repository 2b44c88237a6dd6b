"""`tinyfleet agents`: who is in the fleet, and who does not get work and why."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from tinyfleet.cli.console import json_option, note, print_json, print_table, si_bytes
from tinyfleet.cli.fleet_options import ago, fleet_options, message_document
from tinyfleet.client import Fleet
from tinyfleet.v1 import coordinator_pb2


@click.command("agents")
@fleet_options
@click.option("--attached", is_flag=True, help="Only those whose stream is open now.")
@json_option
def command(coordinator: str, tls: Path | None, attached: bool, as_json: bool) -> None:
    """List the agents of a fleet."""
    with Fleet(coordinator, tls=tls) as fleet:
        agents = fleet.list_agents(attached_only=attached)
    if as_json:
        print_json({"agents": [message_document(agent) for agent in agents]})
        return
    columns = ("agent", "state", "target", "engine", "memory", "updates", "last seen", "note")
    print_table(columns, [_row(agent) for agent in agents])
    if not agents:
        note(f"no agents yet: tinyfleet-agent --coordinator {coordinator} --name NAME")


def print_shares(agents: Sequence[coordinator_pb2.Agent]) -> None:
    """Who trained how much of all that the fleet did, on stdout."""
    columns = ("agent", "target", "engine", "memory", "updates")
    print_table(columns, [[agent.name, *_abilities(agent), _updates(agent)] for agent in agents])


def _row(agent: coordinator_pb2.Agent) -> list[str]:
    state = ("busy" if agent.assignment_id else "idle") if agent.attached else "away"
    seen = "now" if agent.attached else ago(agent.last_seen_time)
    return [agent.name, state, *_abilities(agent), _updates(agent), seen, agent.message]


def _abilities(agent: coordinator_pb2.Agent) -> list[str]:
    """Target, engine and memory."""
    able = agent.capabilities
    memory = si_bytes(able.memory_bytes) if able.HasField("memory_bytes") else "-"
    return [f"{able.target} {_megahertz(able)}".strip(), able.engine, memory]


def _updates(agent: coordinator_pb2.Agent) -> str:
    return f"{agent.updates:,}"


def _megahertz(able: coordinator_pb2.Capabilities) -> str:
    return f"{able.clock_hz / 1e6:g} MHz" if able.clock_hz else ""
