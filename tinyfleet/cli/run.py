"""`tinyfleet run`: start, list, show, watch and stop runs of a fleet."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from tinyfleet.cli.console import (
    RoundProgress,
    examples,
    json_option,
    note,
    print_json,
    print_table,
    warn,
    wrapped,
)
from tinyfleet.cli.fleet_options import (
    RUN_COLUMNS,
    describe_run,
    fleet_options,
    resolve_run,
    run_document,
    run_row,
    status_name,
)
from tinyfleet.cli.options import RunOptions, run_options
from tinyfleet.client import ENDED, Fleet
from tinyfleet.errors import Refused, Unreachable
from tinyfleet.evaluation import Health
from tinyfleet.v1 import coordinator_pb2

RECONNECT_S = 0.5
ATTACH_S = 120.0  # our choice: a board's firmware may have to be built first

_run_argument = click.argument("run_id", metavar="RUN|last")


@click.group("run")
def command() -> None:
    """Start, list, show, watch and stop runs."""


@command.command(
    "start",
    epilog=examples(
        "tinyfleet run start --model mlp_32 --rounds 1000 --watch",
    ),
)
@run_options
@click.option(
    "--wait-for",
    type=click.IntRange(0),
    default=0,
    metavar="N",
    help="Start it once so many agents and boards are attached.",
)
@click.option("--watch", is_flag=True, help="Follow the run to its end.")
@fleet_options
@json_option
def start(
    run: RunOptions,
    wait_for: int,
    watch: bool,
    coordinator: str,
    tls: Path | None,
    as_json: bool,
) -> None:
    """Start a run on a fleet; it begins as soon as an agent is there.

    The agents have the data: give --data only to have the options checked against it.
    """
    spec = run.make_run(run.outline_task())
    health = Health(spec.rounds, None, warn)
    with Fleet(coordinator, tls=tls) as fleet:
        wait_for_agents(fleet, wait_for)
        run.put_files(fleet)
        state = fleet.create_run(spec)
        if watch:
            state = follow(fleet, state.run_id, health, quiet=as_json)
    _print(state, as_json, health.warnings)
    _fail_unless_well(state)


@command.command("list")
@click.option(
    "--limit", type=click.IntRange(1, 1000), default=20, metavar="N", help="Most runs to list."
)
@fleet_options
@json_option
def list_runs(limit: int, coordinator: str, tls: Path | None, as_json: bool) -> None:
    """List the newest runs."""
    with Fleet(coordinator, tls=tls) as fleet:
        runs = fleet.list_runs(limit)
    if as_json:
        print_json({"runs": [run_document(run) for run in runs]})
        return
    print_table(RUN_COLUMNS, [run_row(run) for run in runs])
    if not runs:
        note("no runs yet: tinyfleet run start --help")


@command.command("show")
@_run_argument
@fleet_options
@json_option
def show(run_id: str, coordinator: str, tls: Path | None, as_json: bool) -> None:
    """Show one run."""
    with Fleet(coordinator, tls=tls) as fleet:
        state = fleet.get_run(resolve_run(fleet, run_id))
    _print(state, as_json)


@command.command("watch")
@_run_argument
@fleet_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per change.")
def watch(run_id: str, coordinator: str, tls: Path | None, as_json: bool) -> None:
    """Follow a run to its end; fails when the run does."""
    with Fleet(coordinator, tls=tls) as fleet:
        run_id = resolve_run(fleet, run_id)
        state = fleet.get_run(run_id)
        health = Health(state.spec.rounds, None, warn)
        if as_json:
            for state in states(fleet, run_id):
                health.updates(state.rounds_done, state.diverged)
                print(json.dumps(_document(state, health.warnings)), flush=True)
        else:
            state = follow(fleet, run_id, health)
            _print(state, as_json, health.warnings)
    _fail_unless_well(state)


@command.command("stop")
@_run_argument
@fleet_options
@json_option
def stop(run_id: str, coordinator: str, tls: Path | None, as_json: bool) -> None:
    """Stop a run; the model it has reached stays and can be pulled."""
    with Fleet(coordinator, tls=tls) as fleet:
        state = fleet.stop_run(resolve_run(fleet, run_id))
    _print(state, as_json)


def wait_for_agents(fleet: Fleet, wanted: int) -> None:
    """Return once so many are attached; raises Refused when they are not within ATTACH_S."""
    deadline = time.monotonic() + ATTACH_S
    while wanted and (attached := len(fleet.list_agents(attached_only=True))) < wanted:
        if time.monotonic() > deadline:
            raise Refused(f"{attached} of {wanted} agents are attached after {ATTACH_S:g} s")
        time.sleep(RECONNECT_S)


def follow(fleet: Fleet, run_id: str, health: Health, quiet: bool = False) -> coordinator_pb2.Run:
    """Show a run's progress until it ends; returns its last state.

    Nobody tests a run here, so `health` hears of updates that diverge and of nothing else.
    """
    state = fleet.get_run(run_id)
    said = ""
    with RoundProgress(state.spec.rounds, quiet) as progress:
        for state in states(fleet, run_id):
            health.updates(state.rounds_done, state.diverged)
            if state.rounds_done:
                sent = state.bytes_up + state.bytes_down
                progress.update(state.rounds_done, state.loss, sent)
            if state.message and state.message != said and not quiet:
                said = state.message
                note(said)
    return state


def states(fleet: Fleet, run_id: str) -> Iterator[coordinator_pb2.Run]:
    """The run's states until it ends, also over a restart of the coordinator."""
    away = False
    while True:
        try:
            for state in fleet.watch_run(run_id):
                away = False
                yield state
                if state.status in ENDED:
                    return
        except Unreachable as error:
            if not away:
                note(f"{error}; waiting for it")
            away = True
        time.sleep(RECONNECT_S)


def _print(state: coordinator_pb2.Run, as_json: bool, warnings: tuple[str, ...] = ()) -> None:
    if as_json:
        print_json(_document(state, warnings))
        return
    print(describe_run(state))
    for warning in warnings:
        print(wrapped(f"warning: {warning}"))


def _document(state: coordinator_pb2.Run, warnings: tuple[str, ...]) -> dict[str, Any]:
    return run_document(state) | {"warnings": list(warnings)}


def _fail_unless_well(state: coordinator_pb2.Run) -> None:
    if state.status == coordinator_pb2.RUN_STATUS_FAILED:
        raise Refused(f"run {state.run_id} {status_name(state)}: {state.message}")
