"""`tinyfleet models`: the built-in models and what each costs."""

from __future__ import annotations

from typing import Any

import click

from tinyfleet.cli.console import json_option, print_json, print_table
from tinyfleet.cli.options import ways_option
from tinyfleet.errors import InvalidInput
from tinyfleet.learner.memory import memory_needed
from tinyfleet.model import BUILTIN_MODELS, ModelSpec
from tinyfleet.model.cost import multiply_accumulates
from tinyfleet.run import fitting_model
from tinyfleet.tasks import TASKS, outline_task, task_names


@click.command("models")
@click.option(
    "--task", metavar="NAME", help=f"Only for this task: {', '.join(TASKS)}. [default: all]"
)
@ways_option
@json_option
def command(task: str | None, ways: int | None, as_json: bool) -> None:
    """List the built-in models as each task needs them.

    MACs are multiplications with a weight in one forward pass; a training step takes about three
    times as many.
    """
    options = {} if ways is None else {"ways": ways}
    names = [task] if task else _listed(options)
    entries = [
        _entry(name, fitting_model(outline_task(name, options), model))
        for name in names
        for model in BUILTIN_MODELS
    ]
    if as_json:
        print_json({"models": entries})
        return
    columns = ("task", "model", "parameters", "bytes", "MACs", "arena bytes")
    keys = ("task", "name", "parameters", "bytes", "macs", "arena_bytes")
    print_table(columns, [[_cell(entry[key]) for key in keys] for entry in entries])


def _listed(options: dict[str, Any]) -> list[str]:
    """The tasks that `options` suit; where none does, all that have them, to say why not."""
    known = [name for name in task_names() if _has_shapes(name, {})]
    able = [name for name in known if options.keys() <= outline_task(name, {}).options.keys()]
    return [name for name in able if _has_shapes(name, options)] or able


def _has_shapes(task: str, options: dict[str, Any]) -> bool:
    """Whether the task's shapes are known from the options: a table's are those of its data."""
    try:
        outline_task(task, options)
    except InvalidInput:
        return False
    return True


def _entry(task: str, model: ModelSpec) -> dict[str, Any]:
    return {
        "task": task,
        "name": model.name,
        "parameters": model.parameter_count,
        "bytes": model.parameter_bytes,
        "macs": multiply_accumulates(model),
        "arena_bytes": memory_needed(model).arena_bytes,
    }


def _cell(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)
