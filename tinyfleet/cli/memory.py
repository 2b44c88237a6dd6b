"""`tinyfleet memory`: what memory a model needs where it learns, and whether a board has it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import click

from tinyfleet.cli.console import examples, json_option, print_json, print_table, wrapped
from tinyfleet.cli.options import find_model, ways_option
from tinyfleet.cli.outcome import model_document
from tinyfleet.errors import DoesNotFit, InvalidInput
from tinyfleet.learner.memory import MemoryNeed, memory_needed
from tinyfleet.learner.targets import (
    TARGETS,
    Target,
    board_memory_needed,
    find_target,
    most_stored_samples,
)
from tinyfleet.model import ModelSpec
from tinyfleet.model.layers import Conv2D, DepthwiseConv2D
from tinyfleet.run import fitting_model
from tinyfleet.tasks import TASKS, outline_task

MAX_STORED_SAMPLES = 1_000_000  # as many as a phase may have
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
        "tinyfleet memory my_model.toml --target cortex-m4",
        "tinyfleet memory cnn_s --target nrf52840 --stored-samples 50 --gradient",
    ),
)
@click.argument("model", metavar="NAME|FILE.toml")
@click.option(
    "--task",
    metavar="NAME",
    help=f"Task of a built-in model: {', '.join(TASKS)}. [default: what suits it]",
)
@ways_option
@click.option(
    "--target", metavar="NAME", help=f"Say whether it fits this board: {', '.join(TARGETS)}."
)
@click.option(
    "--keep-start",
    is_flag=True,
    help="With --target: encode its update, or be pulled back (fed_prox), too.",
)
@click.option("--gradient", is_flag=True, help="With --target: learn from batches, too.")
@click.option(
    "--stored-samples",
    type=click.IntRange(0, MAX_STORED_SAMPLES),
    default=0,
    metavar="N",
    help="With --target: keep N samples for several passes, too.",
)
@json_option
def command(
    model: str,
    task: str | None,
    ways: int | None,
    target: str | None,
    keep_start: bool,
    gradient: bool,
    stored_samples: int,
    as_json: bool,
) -> None:
    """Show what memory a model needs to learn online, one sample at a time.

    To send a difference, a device keeps a second copy of the parameters; batches need room for
    their gradient, as much again. With --target it also says what of that fits a board, and ends
    with 4 when what was asked for does not. A board needs no copy to take part: its agent has one.
    """
    extras = _Extras(keep_start, gradient, stored_samples)
    if target is None and extras.any:
        raise InvalidInput("--keep-start, --gradient and --stored-samples go with --target NAME")
    board = None if target is None else find_target(target)
    spec = _model(model, task, {} if ways is None else {"ways": ways})
    if as_json:
        print_json(_document(spec, memory_needed(spec)) | _fit_document(spec, board, extras))
    else:
        _print_need(spec, memory_needed(spec))
        if board is not None:
            _print_fit(spec, board, extras)
    if board is not None:
        _fail_unless_fitting(spec, board, extras)


@dataclass(frozen=True)
class _Extras:
    """What a board shall do beyond learning online."""

    keep_start: bool = False
    gradient: bool = False
    stored_samples: int = 0

    @property
    def any(self) -> bool:
        return self != _Extras()

    def needed(self, spec: ModelSpec) -> int:
        return board_memory_needed(spec, **asdict(self))


@dataclass(frozen=True)
class _Use:
    """One thing to do with a model on a board, and what it takes."""

    name: str
    title: str
    needed_bytes: int
    memory_bytes: int

    @property
    def free_bytes(self) -> int:
        return max(self.memory_bytes - self.needed_bytes, 0)

    @property
    def missing_bytes(self) -> int:
        return max(self.needed_bytes - self.memory_bytes, 0)

    def row(self) -> list[str]:
        verdict = f"{self.missing_bytes:,} bytes missing" if self.missing_bytes else "fits"
        return [self.title, f"{self.needed_bytes:,}", f"{self.free_bytes:,}", verdict]

    def document(self) -> dict[str, Any]:
        return {
            "use": self.name,
            "needed_bytes": self.needed_bytes,
            "free_bytes": self.free_bytes,
            "missing_bytes": self.missing_bytes,
        }


def _uses(spec: ModelSpec, target: Target, extras: _Extras) -> list[_Use]:
    """Learning online, each extra by itself, and all that was asked for, where it is several."""
    kinds = [
        ("online", "to learn online", _Extras()),
        ("keep_start", "and encode its own update", _Extras(keep_start=True)),
        ("gradient", "or in batches", _Extras(gradient=True)),
    ]
    if stored := extras.stored_samples:
        title = f"or from {stored:,} stored samples"
        kinds.append(("stored_samples", title, _Extras(stored_samples=stored)))
    if extras not in [wanted for _, _, wanted in kinds]:
        kinds.append(("asked", "all that was asked for", extras))
    return [
        _Use(name, title, wanted.needed(spec), target.memory_bytes) for name, title, wanted in kinds
    ]


def _print_need(spec: ModelSpec, need: MemoryNeed) -> None:
    print(f"{spec.name}: input {spec.input_shape}, {spec.outputs} outputs")
    rows = [[f"{getattr(need, name):,}", text] for name, text in _EXPLAINED.items()]
    rows.append([f"{need.online_bytes:,}", "to learn online, together"])
    rows.append(
        [f"{need.parameters_bytes:,}", "more to send the difference: a copy to compare with"]
    )
    rows.append([f"{need.gradient_bytes:,}", "more for batches of several samples"])
    print_table(("bytes", "for"), rows)


def _print_fit(spec: ModelSpec, target: Target, extras: _Extras) -> None:
    most = most_stored_samples(spec, target.memory_bytes)
    print()
    print(wrapped(f"{target.name}: {target.title}."))
    print(
        wrapped(
            f"Of {target.ram_bytes:,} bytes of RAM the firmware keeps {target.firmware_bytes:,} "
            f"(stacks, rings, buffers); {target.memory_bytes:,} are for model and training. Flash "
            f"({target.flash_bytes:,} bytes) holds the firmware alone: models come over the line.",
            later="",
        )
    )
    columns = ("what", "bytes", "left", "verdict")
    print_table(columns, [use.row() for use in _uses(spec, target, extras)])
    print(f"Beside online learning there is room for {most:,} stored samples.")


def _document(spec: ModelSpec, need: MemoryNeed) -> dict[str, Any]:
    return {
        "model": model_document(spec),
        **asdict(need),
        "online_bytes": need.online_bytes,
        "difference_bytes": need.parameters_bytes,
    }


def _fit_document(spec: ModelSpec, target: Target | None, extras: _Extras) -> dict[str, Any]:
    if target is None:
        return {}
    return {
        "target": asdict(target) | {"firmware_bytes": target.firmware_bytes},
        "uses": [use.document() for use in _uses(spec, target, extras)],
        "asked": asdict(extras) | {"fits": extras.needed(spec) <= target.memory_bytes},
        "most_stored_samples": most_stored_samples(spec, target.memory_bytes),
    }


def _fail_unless_fitting(spec: ModelSpec, target: Target, extras: _Extras) -> None:
    needed = extras.needed(spec)
    if needed > target.memory_bytes:
        raise DoesNotFit(
            f"{spec.name} does not fit {target.name}: it needs {needed:,} bytes, there are "
            f"{target.memory_bytes:,}, {needed - target.memory_bytes:,} are missing; choose a "
            "smaller model" + (" or ask for less" if extras.any else "")
        )


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
