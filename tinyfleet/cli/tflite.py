"""`tinyfleet tflite show` and `cut`: what is in a `.tflite`, and a part of it as an extractor."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from tinyfleet.cli.console import examples, json_option, print_json, print_table, si_bytes
from tinyfleet.errors import InvalidInput
from tinyfleet.export.cutting import cut, tensors_made
from tinyfleet.files import write_whole
from tinyfleet.litert.file import load_tflite
from tinyfleet.litert.graph import Graph

_FILE = click.Path(path_type=Path)


@click.group("tflite")
def command() -> None:
    """Look into a .tflite, and cut it."""


@command.command("show", epilog=examples("tinyfleet tflite show classifier.tflite"))
@click.argument("file", type=_FILE)
@json_option
def show(file: Path, as_json: bool) -> None:
    """List what the operators of FILE make, in order: where it can be cut."""
    made = tensors_made(load_tflite(file))
    if as_json:
        print_json({"file": str(file), "tensors": [asdict(one) for one in made]})
        return
    rows = [
        (str(number), one.operator, "x".join(map(str, one.shape)), one.dtype, one.name)
        for number, one in enumerate(made, 1)
    ]
    print_table(("number", "operator", "shape", "type", "tensor"), rows)


@command.command(
    "cut",
    epilog=examples("tinyfleet tflite cut classifier.tflite --at relu_3 --out features.tflite"),
)
@click.argument("file", type=_FILE)
@click.option(
    "--at",
    metavar="TENSOR",
    required=True,
    help="What the new file puts out: a tensor's name or number.",
)
@click.option("--out", type=_FILE, required=True, help="File to write.")
@json_option
def cut_command(file: Path, at: str, out: Path, as_json: bool) -> None:
    """Leave out what FILE computes after a tensor: an extractor to learn a head behind."""
    content = cut(load_tflite(file), at)
    graph = Graph(content)
    try:
        write_whole(out, content.content)
    except OSError as error:
        raise InvalidInput(f"cannot write {out}: {error.strerror}") from None
    size = len(content.content)
    if as_json:
        document = {"bytes": size, "sha256": content.sha256, "features": graph.output.values}
        print_json({"file": str(out), **document})
        return
    print(f"{out}: {graph.output.values:,} features, {si_bytes(size)}")
    print(f"next: tinyfleet simulate --extractor {out} --task NAME")
