"""What the commands that talk to a fleet share: its address, and how a run is shown."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from google.protobuf import json_format
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from tinyfleet.cli.console import si_bytes, wrapped
from tinyfleet.cli.options import checked_address
from tinyfleet.client import Fleet
from tinyfleet.errors import InvalidInput
from tinyfleet.v1 import coordinator_pb2

Command = Callable[..., Any]


tls_option = click.option(
    "--tls",
    type=click.Path(path_type=Path),
    envvar="TINYFLEET_TLS",
    show_envvar=True,
    metavar="FOLDER",
    help="Folder with your certificate: ca.pem, cert.pem, key.pem.",
)


def fleet_options(function: Command) -> Command:
    """The flags of every command that talks to a fleet: `coordinator` and `tls`."""
    return click.option(
        "--coordinator",
        default="127.0.0.1:7310",
        envvar="TINYFLEET_COORDINATOR",
        show_envvar=True,
        callback=checked_address,
        metavar="HOST:PORT",
        help="Address of the coordinator.",
    )(tls_option(function))


def status_name(run: coordinator_pb2.Run) -> str:
    """`running` for RUN_STATUS_RUNNING."""
    name = coordinator_pb2.RunStatus.Name(run.status)
    return name.removeprefix("RUN_STATUS_").lower()


def run_document(run: coordinator_pb2.Run) -> dict[str, Any]:
    """A run for JSON: the fields of the message, with the status in one word."""
    return message_document(run) | {"status": status_name(run)}


def message_document(message: Message) -> dict[str, Any]:
    """A message for JSON, with every field; whole numbers of 64 bits are numbers, not texts."""
    document: dict[str, Any] = json_format.MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    _numbers_as_numbers(message, document)
    return document


def _numbers_as_numbers(message: Message, document: dict[str, Any]) -> None:
    for field in message.DESCRIPTOR.fields:
        if field.name not in document or field.is_repeated:
            continue
        if field.cpp_type in (field.CPPTYPE_INT64, field.CPPTYPE_UINT64):
            document[field.name] = getattr(message, field.name)
        elif isinstance(document[field.name], dict):
            _numbers_as_numbers(getattr(message, field.name), document[field.name])


def run_row(run: coordinator_pb2.Run) -> list[str]:
    """A run as the row of a table; its columns are RUN_COLUMNS."""
    loss = f"{run.loss:.4g}" if run.HasField("loss") else "-"
    rounds = f"{run.rounds_done:,}/{run.spec.rounds:,}"
    what = f"{run.spec.task} {run.spec.strategy} {run.spec.model.name}"
    age = ago(run.create_time).removesuffix(" ago")
    return [run.run_id, status_name(run), what, rounds, loss, age]


RUN_COLUMNS = ("run", "status", "what", "rounds", "loss", "age")


def describe_run(run: coordinator_pb2.Run) -> str:
    """A run in a few lines, for people."""
    lines = [
        f"run {run.run_id}: {status_name(run)}, {run.rounds_done:,} of {run.spec.rounds:,} rounds",
        f"{run.spec.strategy} on {run.spec.task}, {run.spec.model.name}, seed {run.spec.seed}",
        f"{si_bytes(run.bytes_up)} up, {si_bytes(run.bytes_down)} down",
    ]
    if run.HasField("loss"):
        lines[-1] += f", loss {run.loss:.4g}"
    if run.diverged:
        lines[-1] += f", {run.diverged:,} updates diverged"
    if run.message:
        lines.append(wrapped(run.message))
    if run.parameters_sha256:
        lines.append(f"sha256 {run.parameters_sha256}")
    return "\n".join(lines)


def resolve_run(fleet: Fleet, run_id: str) -> str:
    """`run_id`, or for `last` that of the newest run; raises InvalidInput when there is none."""
    if run_id != "last":
        return run_id
    runs = fleet.list_runs(limit=1)
    if not runs:
        raise InvalidInput("there is no run yet: start one with 'tinyfleet run start'")
    return runs[0].run_id


def ago(when: Timestamp) -> str:
    """`12 s ago`, `3 h ago`; `-` when it is not set."""
    if not when.seconds:
        return "-"
    seconds = max((datetime.now(UTC) - when.ToDatetime(UTC)).total_seconds(), 0.0)
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit} ago"
    return f"{seconds:.0f} s ago"
