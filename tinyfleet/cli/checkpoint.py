"""`tinyfleet checkpoint pull`: a run's model as a file."""

from __future__ import annotations

from pathlib import Path

import click

from tinyfleet.checkpoint import save_checkpoint
from tinyfleet.cli.console import examples, json_option, print_json
from tinyfleet.cli.fleet_options import fleet_options, resolve_run
from tinyfleet.cli.outcome import model_document
from tinyfleet.client import Fleet
from tinyfleet.model import parameters_sha256


@click.group("checkpoint")
def command() -> None:
    """Fetch a model from a fleet."""


@command.command(
    "pull",
    epilog=examples(
        "tinyfleet checkpoint pull last -o model.tinyfleet",
        "tinyfleet evaluate model.tinyfleet --shots 5",
    ),
)
@click.argument("run_id", metavar="RUN|last")
@click.option(
    "--output",
    "-o",
    type=click.Path(path_type=Path),
    help="File to write. [default: RUN-ROUND.tinyfleet]",
)
@click.option("--version", type=click.IntRange(0), help="Rounds done. [default: the latest]")
@fleet_options
@json_option
def pull(
    run_id: str,
    output: Path | None,
    version: int | None,
    coordinator: str,
    tls: Path | None,
    as_json: bool,
) -> None:
    """Fetch the model of RUN, checked against its hash, as a checkpoint file.

    It may still be training: what comes is the latest version.
    """
    with Fleet(coordinator, tls=tls) as fleet:
        checkpoint = fleet.fetch_checkpoint(resolve_run(fleet, run_id), version)
    path = output or Path(f"{checkpoint.run_id}-{checkpoint.version}.tinyfleet")
    save_checkpoint(path, checkpoint)
    sha256 = parameters_sha256(checkpoint.parameters)
    if as_json:
        print_json(
            {
                "file": str(path),
                "run_id": checkpoint.run_id,
                "version": checkpoint.version,
                "model": model_document(checkpoint.run.model),
                "parameters_sha256": sha256,
            }
        )
    else:
        print(f"{path}: round {checkpoint.version:,} of {checkpoint.run.rounds:,}")
        print(f"sha256 {sha256}")
