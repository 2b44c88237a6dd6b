"""The flags that commands share, and what they make of them.

`run_options` gives a command the flags that describe a run and hands them over as one `RunOptions`:
`simulate` and `up` take the same flags and build the same run from them. `evaluation_options` does
the same for adapt-then-test.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from tinyfleet.cli.extractors import ExtractorFile, extractor_option
from tinyfleet.cli.trainable import (
    TrainableFile,
    learner_of,
    signature_option,
    trainable_option,
)
from tinyfleet.client import Fleet
from tinyfleet.config import check_address
from tinyfleet.errors import InvalidInput, unknown_name
from tinyfleet.evaluation import EvaluationSettings
from tinyfleet.learner import Learner
from tinyfleet.model import BUILTIN_MODELS, ModelSpec, load_model
from tinyfleet.run import MAX_SEED, RunSpec, make_run
from tinyfleet.strategies import STRATEGIES
from tinyfleet.tasks import TASKS, Task, TaskOutline, make_task, outline_task

Command = Callable[..., Any]
Pairs = tuple[tuple[str, Any], ...]


@dataclass(frozen=True)
class RunOptions:
    """What a command line says about a run."""

    task: str
    strategy: str
    model: str | None
    rounds: int
    seed: int
    settings: dict[str, Any]
    task_options: dict[str, Any]
    data: Path | None
    extractor: ExtractorFile | None = None
    trainable: TrainableFile | None = None

    def make_task(self) -> Task:
        """The task, with its data where it needs any."""
        return make_task(self.task, self.task_options, self.data)

    def seen_by_the_model(self, task: Task) -> Task:
        """The task as the run's model sees it: behind the extractor, if there is one."""
        return task if self.extractor is None else self.extractor.in_front_of(task)

    def outline_task(self) -> TaskOutline:
        """The task for a run that others train: without data, unless the user gives some."""
        if self.data is not None:
            return self.make_task()
        return outline_task(self.task, self.task_options)

    def make_run(self, task: TaskOutline) -> RunSpec:
        """The complete run: every option explicit."""
        if self.trainable is not None:
            return self._make_trainable_run(task, self.trainable)
        model = find_model(self.model) if self.model else None
        extractor = None if self.extractor is None else self.extractor.extractor_for(task)
        about = (self.strategy, self.rounds, self.seed, model, self.settings, extractor)
        return make_run(task, *about)

    def make_learner(self, run: RunSpec, engine: str) -> Learner:
        """What computes the run's model here."""
        return learner_of(run, engine, self.trainable)

    def put_files(self, fleet: Fleet) -> None:
        """Store the files that the run needs with the fleet's aggregator."""
        for file in (self.extractor, self.trainable):
            if file is not None:
                file.put_into(fleet)

    def _make_trainable_run(self, task: TaskOutline, file: TrainableFile) -> RunSpec:
        if self.model:
            raise InvalidInput("a run has one model: give either --model or --trainable")
        if self.extractor is not None:
            raise InvalidInput("a file of --trainable takes samples as they are: no --extractor")
        model, graph = file.model_for(task)
        run = make_run(
            task, self.strategy, self.rounds, self.seed, model, self.settings, trainable=graph
        )
        file.check_plan(run)
        return run


@dataclass(frozen=True)
class EvaluationOptions:
    """What a command line says about adapt-then-test; None means what the task recommends."""

    tasks: int
    shots: int | None
    queries: int | None
    passes: int | None
    rate: float | None
    seed: int
    last_layers: int

    def settings(self, task: Task) -> EvaluationSettings:
        return EvaluationSettings.for_task(task, **vars(self))


def find_model(name: str) -> ModelSpec | str:
    """A model from a TOML file, or the name of a built-in one, checked."""
    if name.endswith(".toml"):
        return load_model(Path(name))
    if name not in BUILTIN_MODELS:
        raise unknown_name("model", name, [*BUILTIN_MODELS, "or a FILE.toml"])
    return name


def run_options(command: Command) -> Command:
    """Add the flags of a run; the command gets them as `run: RunOptions`."""

    @functools.wraps(command)
    def wrapper(**flags: Any) -> Any:
        task_options = dict(flags.pop("task_options"))
        ways = flags.pop("ways")
        if ways is not None:
            task_options["ways"] = ways
        extractor = flags.pop("extractor")
        names = ("task", "strategy", "model", "rounds", "seed", "data")
        file, signatures = flags.pop("trainable"), dict(flags.pop("signatures"))
        if signatures and file is None:
            raise InvalidInput("--signature is about a file: give it with --trainable")
        run = RunOptions(
            **{name: flags.pop(name) for name in names},
            settings=dict(flags.pop("settings")),
            task_options=task_options,
            extractor=None if extractor is None else ExtractorFile(extractor),
            trainable=TrainableFile(file, signatures) if file else None,
        )
        return command(run=run, **flags)

    return _with(
        wrapper,
        click.option(
            "--task", default="sine", metavar="NAME", help=f"Problems to learn: {', '.join(TASKS)}."
        ),
        click.option(
            "--strategy",
            default="tiny_reptile",
            metavar="NAME",
            help=f"Algorithm: {', '.join(STRATEGIES)}.",
        ),
        click.option(
            "--model",
            metavar="NAME|FILE.toml",
            help="Built-in model or file. [default: the task's; behind an extractor: linear]",
        ),
        extractor_option,
        trainable_option,
        signature_option(_pairs),
        click.option("--rounds", type=int, default=10_000, metavar="N", help="Rounds of training."),
        seed_option("Seed of every random draw of the run."),
        click.option(
            "--set",
            "settings",
            multiple=True,
            callback=_pairs,
            metavar="NAME=VALUE",
            help="An option of the strategy, such as inner_rate=0.01; may be repeated.",
        ),
        *task_flags(),
    )


ways_option = click.option(
    "--ways", type=int, metavar="N", help="Classes of a problem; short for --task-option ways=N."
)


data_option = click.option(
    "--data",
    type=click.Path(path_type=Path),
    envvar="TINYFLEET_DATA",
    show_envvar=True,
    help="File or folder with the task's data.",
)
energy_option = click.option(
    "--energy",
    type=click.Path(path_type=Path),
    metavar="FILE.toml",
    help="Energy and link models. [default: those of docs/energy.md]",
)


def task_flags() -> tuple[Callable[[Command], Command], ...]:
    """--task-option, --ways and --data, for every command that makes a task."""
    return (
        click.option(
            "--task-option",
            "task_options",
            multiple=True,
            callback=_pairs,
            metavar="NAME=VALUE",
            help="An option of the task, such as rotations=false; may be repeated.",
        ),
        ways_option,
        data_option,
    )


def engine_option(command: Command) -> Command:
    """Add --engine: what computes. All engines give the same bits."""
    return click.option(
        "--engine",
        default="auto",
        metavar="NAME",
        help="What trains: auto, native (C) or reference (NumPy).",
    )(command)


test_every_option = click.option(
    "--test-every",
    type=click.IntRange(0),
    default=0,
    metavar="N",
    help="Also test every N rounds; 0: never.",
)


def seed_option(help: str, default: int = 1) -> Callable[[Command], Command]:
    """--seed with the range all seeds share."""
    return click.option("--seed", default=default, help=help, **_SEED)


def checked_address(_context: click.Context, parameter: click.Parameter, text: str) -> str:
    """Callback of an option that holds host:port."""
    check_address(parameter.opts[0], text)
    return text


def _checked_seed(_context: click.Context, parameter: click.Parameter, seed: int) -> int:
    if not 0 <= seed <= MAX_SEED:
        raise InvalidInput(f"{parameter.opts[0]} must be 0 to {MAX_SEED}, got {seed}")
    return seed


_WHOLE: dict[str, Any] = {"type": int, "metavar": "N"}
_REAL: dict[str, Any] = {"type": float, "metavar": "NUMBER"}
_SEED: dict[str, Any] = {"type": int, "metavar": "N", "callback": _checked_seed}


def evaluation_options(prefix: str = "") -> Callable[[Command], Command]:
    """Add the flags of adapt-then-test; the command gets them as `test: EvaluationOptions`.

    prefix: put before each flag, where a command has others of the same names.
    """
    names = ("tasks", "shots", "queries", "passes", "rate", "seed", "last_layers")

    def decorate(command: Command) -> Command:
        @functools.wraps(command)
        def wrapper(**flags: Any) -> Any:
            test = EvaluationOptions(**{name: flags.pop(f"test_{name}") for name in names})
            return command(test=test, **flags)

        def flag(name: str, about: dict[str, Any], help: str, default: Any = None) -> Any:
            shown = help if default is not None else f"{help} [default: the task's]"
            flag = f"--{prefix}{name.replace('_', '-')}"
            return click.option(flag, f"test_{name}", default=default, help=shown, **about)

        return _with(
            wrapper,
            flag("tasks", _WHOLE, "Unseen problems to test on.", 1000),
            flag("shots", _WHOLE, "Samples to adapt on, per class for a classifier."),
            flag("queries", _WHOLE, "Samples to test on, likewise, or what the shots leave."),
            flag("passes", _WHOLE, "Passes over the samples to adapt on."),
            flag("rate", _REAL, "Rate of the online steps of the adaptation."),
            flag("seed", _SEED, "Seed of the unseen problems.", 0),
            flag("last_layers", _WHOLE, "Last layers that adapt; 0: all of them.", 0),
        )

    return decorate


def _with(command: Command, *flags: Callable[[Command], Command]) -> Command:
    for flag in reversed(flags):
        command = flag(command)
    return command


def _pairs(_context: click.Context, _parameter: click.Parameter, texts: tuple[str, ...]) -> Pairs:
    return tuple(_pair(text) for text in texts)


def _pair(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise InvalidInput(f"'{text[:80]}' is not NAME=VALUE")
    return name, _value(value)


def _value(text: str) -> Any:
    """A whole number, a number, true, false, or the text itself."""
    if text in ("true", "false"):
        return text == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
