"""A run as data: what is learned, by which strategy, from which seed.

A `RunSpec` is complete: every option is explicit, so that the same spec gives the same parameters
wherever it runs. `training_samples` is the one place that says which samples a slot of a round
learns from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any, NamedTuple

from tinyfleet.errors import InvalidInput
from tinyfleet.learner.protocol import Samples
from tinyfleet.model.builtin import builtin_model
from tinyfleet.model.extractor import Extractor
from tinyfleet.model.initialization import initial_parameters
from tinyfleet.model.layers import Shape
from tinyfleet.model.spec import ModelSpec, Parameters
from tinyfleet.model.trainable import TrainableGraph
from tinyfleet.randomness import Purpose, RandomStream
from tinyfleet.run_files import RunFile
from tinyfleet.strategies import Strategy, find_strategy, make_strategy
from tinyfleet.strategies.base import MAX_ROUNDS, options_of
from tinyfleet.tasks.base import Task, TaskOutline

MAX_SEED = 2**63 - 1
HEAD = "linear"
"""Our choice: the model behind an extractor where none is named."""


class SampleShape(NamedTuple):
    """What samples are: `(height, width, channels)` in, `outputs` values out; for which loss."""

    input_shape: Shape
    outputs: int
    loss: str

    @property
    def inputs(self) -> int:
        """Values of one input."""
        return prod(self.input_shape)

    def __str__(self) -> str:
        sides = "x".join(map(str, self.input_shape))
        return f"input {sides}, {self.outputs} outputs, loss {self.loss}"


@dataclass(frozen=True)
class RunSpec:
    """Everything that determines a run's result, apart from data that agents bring themselves.

    task and its options name the distribution of problems; strategy and its options the
    algorithm. rounds: 1 to 100,000,000. seed: 0 to 2**63 - 1. extractor: what turns the task's
    samples into those of the model, if anything does; it stays as it is. trainable: the `.tflite`
    file that computes a model of tensors; None for every other.
    """

    model: ModelSpec
    task: str
    strategy: str
    rounds: int
    seed: int
    task_options: Mapping[str, Any] = field(default_factory=dict)
    strategy_options: Mapping[str, Any] = field(default_factory=dict)
    extractor: Extractor | None = None
    trainable: TrainableGraph | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.rounds <= MAX_ROUNDS:
            raise InvalidInput(f"rounds must be 1 to {MAX_ROUNDS}, got {self.rounds}")
        if not 0 <= self.seed <= MAX_SEED:
            raise InvalidInput(f"seed must be 0 to {MAX_SEED}, got {self.seed}")
        if self.extractor is not None and self.extractor.output_shape != self.model.input_shape:
            features = self.extractor.features
            raise InvalidInput(
                f"model '{self.model.name}' does not take the extractor's {features} features: "
                f"its input must be 1x1x{features}"
            )
        if self.trainable is not None:
            self.trainable.check_model(self.model)
        elif self.model.computes_by_itself:
            raise InvalidInput(
                f"a run of model '{self.model.name}' needs the file that computes it"
            )
        self.make_strategy()

    @property
    def sample_shape(self) -> SampleShape:
        """What the task's samples must be: the model's, or those in front of the extractor."""
        model, extractor = self.model, self.extractor
        shape = model.input_shape if extractor is None else extractor.input_shape
        return SampleShape(shape, model.outputs, model.loss)

    @property
    def files(self) -> tuple[RunFile, ...]:
        """The files that whoever trains needs beside the spec."""
        given = (self.extractor, self.trainable)
        return tuple(one.file for one in given if one is not None)

    @property
    def initial_file(self) -> RunFile | None:
        """The file that version 0 is, where the seed does not make it: float32, little-endian."""
        return None if self.trainable is None else self.trainable.initial_file(self.model)

    def make_strategy(self) -> Strategy:
        """The strategy object this run asks for."""
        layers = self.model.trainable_layers
        return make_strategy(self.strategy, self.rounds, self.strategy_options, layers)

    def initial_parameters(self, own: Parameters | None = None) -> Parameters:
        """Version 0 of the model.

        own: the weights that the run's file begins with, `(parameter_count,) float32`, where the
        model is one; raises InvalidInput without them, and for others.
        """
        if self.trainable is None:
            return initial_parameters(self.model, self.seed)
        if own is None:
            raise InvalidInput(f"model '{self.model.name}' begins with the weights in its file")
        return self.trainable.check_initial(self.model.check_parameters(own)).copy()


def training_samples(task: Task, seed: int, round: int, slot: int, count: int) -> Samples:
    """The samples that `slot` of `round` learns from, whoever serves it."""
    return task.training_samples(RandomStream(seed, Purpose.TRAINING_TASK, round, slot), count)


def make_run(
    task: TaskOutline,
    strategy: str,
    rounds: int,
    seed: int,
    model: ModelSpec | str | None = None,
    strategy_options: Mapping[str, Any] | None = None,
    extractor: Extractor | None = None,
    trainable: TrainableGraph | None = None,
) -> RunSpec:
    """A complete run: the task's recommended options where the caller sets none.

    model: a spec, the name of a built-in model, or None for the task's default; behind an
    extractor the default is one dense layer. trainable: the file that computes a model of tensors.
    """
    known = options_of(find_strategy(strategy))
    options = {name: entry.default for name, entry in known.items()}
    options |= task.recommended.get(strategy, {})
    options |= strategy_options or {}
    spec = model if isinstance(model, ModelSpec) else fitting_model(task, model, extractor)
    about = (strategy, rounds, seed, dict(task.options), options, extractor, trainable)
    run = RunSpec(spec, task.name, *about)
    check_fits(task, run)
    return run


def fitting_model(
    task: TaskOutline, name: str | None = None, extractor: Extractor | None = None
) -> ModelSpec:
    """The built-in model `name`, or the task's default one, in the shape the task needs.

    With an extractor, in the shape that its features need.
    """
    if extractor is None:
        return builtin_model(name or task.default_model, task.input_shape, task.outputs, task.loss)
    return builtin_model(name or HEAD, extractor.output_shape, task.outputs, task.loss)


def check_fits(task: TaskOutline, run: RunSpec) -> None:
    """Raise InvalidInput unless the run takes samples of the task's shapes and loss."""
    have, need = run.sample_shape, SampleShape(task.input_shape, task.outputs, task.loss)
    if have != need:
        behind = "" if run.extractor is None else " behind its extractor"
        raise InvalidInput(
            f"model '{run.model.name}'{behind} has {have}; task '{task.name}' needs {need}"
        )
