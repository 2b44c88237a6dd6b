"""`tinyfleet memory`: what memory a model needs where it learns."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import click

from tinyfleet.cli.console import examples, json_option, print_json, print_table
from tinyfleet.cli.options import find_model, ways_option
from tinyfleet.cli.outcome import model_document
from tinyfleet.learner.memory import MemoryNeed, memory_needed
from tinyfleet.model import ModelSpec
from tinyfleet.model.layers import Conv2D, DepthwiseConv2D
from tinyfleet.run import fitting_model
from tinyfleet.tasks import TASKS, outline_task

_EXPLAINED = {
    "parameters_bytes": "the parameters, float32",
    "arena_bytes": "activations and the gradients in flight",
    "table_bytes": "the layer table",
    "sample_bytes": "one sample and its target",
}


@click.command(
    "memory",
    epilog=examples(
        "tinyfleet memory cnn_s",
        "tinyfleet memory my_model.toml",
    ),
)
@click.argument("model", metavar="NAME|FILE.toml")
@click.option(
    "--task",
    metavar="NAME",
    help=f"Task of a built-in model: {', '.join(TASKS)}. [default: what suits it]",
)
@ways_option
@json_option
def command(model: str, task: str | None, ways: int | None, as_json: bool) -> None:
    """Show what memory a model needs to learn online, one sample at a time.

    To send a difference, a device keeps a second copy of the parameters; batches need room for
    their gradient, as much again.
    """
    spec = _model(model, task, {} if ways is None else {"ways": ways})
    need = memory_needed(spec)
    if as_json:
        print_json(_document(spec, need))
        return
    print(f"{spec.name}: input {spec.input_shape}, {spec.outputs} outputs")
    rows = [[f"{getattr(need, name):,}", text] for name, text in _EXPLAINED.items()]
    rows.append([f"{need.online_bytes:,}", "to learn online, together"])
    rows.append(
        [f"{need.parameters_bytes:,}", "more to send the difference: a copy to compare with"]
    )
    rows.append([f"{need.gradient_bytes:,}", "more for batches of several samples"])
    print_table(("bytes", "for"), rows)


def _document(spec: ModelSpec, need: MemoryNeed) -> dict[str, Any]:
    return {
        "model": model_document(spec),
        **asdict(need),
        "online_bytes": need.online_bytes,
        "difference_bytes": need.parameters_bytes,
    }


def _model(name: str, task: str | None, options: dict[str, Any]) -> ModelSpec:
    found = find_model(name)
    if isinstance(found, ModelSpec):
        return found
    if task is not None:
        return fitting_model(outline_task(task, options), found)
    plain = fitting_model(outline_task("sine", {}), found)
    if any(isinstance(layer, Conv2D | DepthwiseConv2D) for layer in plain.layers):
        return fitting_model(outline_task("omniglot", options), found)
    return plain
