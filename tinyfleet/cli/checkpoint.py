"""`tinyfleet checkpoint`: a run's model as a file, and inside the `.tflite` that it is."""

from __future__ import annotations

from pathlib import Path

import click

from tinyfleet.checkpoint import load_checkpoint, save_checkpoint
from tinyfleet.cli.console import examples, json_option, print_json
from tinyfleet.cli.fleet_options import fleet_options, resolve_run
from tinyfleet.cli.outcome import model_document
from tinyfleet.cli.trainable import TrainableFile, trainable_option
from tinyfleet.client import Fleet
from tinyfleet.errors import InvalidInput
from tinyfleet.files import write_whole
from tinyfleet.model import parameters_sha256


@click.group("checkpoint")
def command() -> None:
    """Fetch a model from a fleet, and take it where it is to be used."""


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


@command.command(
    "fill",
    epilog=examples(
        "tinyfleet checkpoint fill model.tinyfleet --trainable mine.tflite -o learned.tflite",
    ),
)
@click.argument("file", type=click.Path(path_type=Path))
@trainable_option
@click.option(
    "--output", "-o", type=click.Path(path_type=Path), required=True, help="File to write."
)
@json_option
def fill(file: Path, trainable: Path | None, output: Path, as_json: bool) -> None:
    """Write what checkpoint FILE learned into the .tflite that its model is.

    What comes trains and infers as before, and begins with these weights.
    """
    checkpoint = load_checkpoint(file)
    if trainable is None:
        raise InvalidInput("say which file the model is, with --trainable FILE.tflite")
    filled = TrainableFile(trainable).filled(checkpoint.run, checkpoint.parameters)
    try:
        write_whole(output, filled.content)
    except OSError as error:
        raise InvalidInput(f"cannot write {output}: {error.strerror}") from None
    if as_json:
        print_json({"file": str(output), "sha256": filled.sha256, "bytes": len(filled.content)})
    else:
        print(f"{output}: {len(filled.content):,} bytes, {len(checkpoint.parameters):,} weights")
