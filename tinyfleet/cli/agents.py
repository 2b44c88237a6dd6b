"""`tinyfleet agents`: who is in the fleet, and who does not get work and why."""

from __future__ import annotations

import click

from tinyfleet.cli.console import json_option, note, print_json, print_table, si_bytes
from tinyfleet.cli.fleet_options import ago, coordinator_option, message_document
from tinyfleet.client import Fleet
from tinyfleet.v1 import coordinator_pb2


@click.command("agents")
@coordinator_option
@click.option("--attached", is_flag=True, help="Only those whose stream is open now.")
@json_option
def command(coordinator: str, attached: bool, as_json: bool) -> None:
    """List the agents of a fleet."""
    with Fleet(coordinator) as fleet:
        agents = fleet.list_agents(attached_only=attached)
    if as_json:
        print_json({"agents": [message_document(agent) for agent in agents]})
        return
    columns = ("agent", "state", "target", "engine", "memory", "updates", "last seen", "note")
    print_table(columns, [_row(agent) for agent in agents])
    if not agents:
        note(f"no agents yet: tinyfleet-agent --coordinator {coordinator} --name NAME")


def _row(agent: coordinator_pb2.Agent) -> list[str]:
    able = agent.capabilities
    state = ("busy" if agent.assignment_id else "idle") if agent.attached else "away"
    memory = si_bytes(able.memory_bytes) if able.HasField("memory_bytes") else "-"
    seen = "now" if agent.attached else ago(agent.last_seen_time)
    updates = f"{agent.updates:,}"
    target = f"{able.target} {_megahertz(able)}".strip()
    return [agent.name, state, target, able.engine, memory, updates, seen, agent.message]


def _megahertz(able: coordinator_pb2.Capabilities) -> str:
    return f"{able.clock_hz / 1e6:g} MHz" if able.clock_hz else ""
