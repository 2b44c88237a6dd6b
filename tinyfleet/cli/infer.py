"""`tinyfleet infer`: a `.tflite` on samples, by LiteRT."""

from __future__ import annotations

import io
from pathlib import Path

import click
import numpy as np

from tinyfleet.cli.console import examples, json_option, print_json
from tinyfleet.errors import InvalidInput
from tinyfleet.export.samples import load_inputs, load_table
from tinyfleet.files import write_whole
from tinyfleet.learner.protocol import Floats
from tinyfleet.litert.file import load_tflite
from tinyfleet.litert.graph import Graph

_FILE = click.Path(path_type=Path)
_SHOWN = 10


@click.command(
    "infer",
    epilog=examples(
        "tinyfleet infer model.tflite --inputs samples.npz",
        "tinyfleet infer model.tflite --inputs samples.csv --out outputs.npz",
    ),
)
@click.argument("file", type=_FILE)
@click.option(
    "--inputs",
    type=_FILE,
    required=True,
    metavar="FILE.npz|FILE.csv",
    help="The array inputs, (samples, ...), or a line of numbers for each sample.",
)
@click.option("--out", type=_FILE, metavar="FILE.npz", help="Keep the array outputs.")
@json_option
def command(file: Path, inputs: Path, out: Path | None, as_json: bool) -> None:
    """Run the .tflite FILE, of one input and one output, on samples, one by one.

    Real numbers go in and come out, whatever the file computes with: what int8 values stand for.
    """
    graph = Graph(load_tflite(file))
    load = load_table if inputs.suffix == ".csv" else load_inputs
    outputs = graph(load(inputs, graph.input.values))
    if out is not None:
        _keep(out, outputs)
    if as_json:
        print_json(
            {
                "file": str(file),
                "input": {"shape": graph.input.shape, "type": graph.input.dtype.__name__},
                "output": {"shape": graph.output.shape, "type": graph.output.dtype.__name__},
                "outputs": [[_finite(value) for value in row] for row in outputs.tolist()],
            }
        )
        return
    for row in outputs[:_SHOWN]:
        print(" ".join(f"{value:.6g}" for value in row))
    if len(outputs) > _SHOWN:
        print(f"... {len(outputs):,} samples in all: --json prints, --out keeps them")


def _finite(value: float) -> float | None:
    """A number for JSON, which has no infinity."""
    return value if np.isfinite(value) else None


def _keep(path: Path, outputs: Floats) -> None:
    archive = io.BytesIO()
    np.savez(archive, outputs=outputs)
    try:
        write_whole(path, archive.getvalue())
    except OSError as error:
        raise InvalidInput(f"cannot write {path}: {error.strerror}") from None
