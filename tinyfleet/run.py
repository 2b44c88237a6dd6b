"""A run as data: what is learned, by which strategy, from which seed.

A `RunSpec` is complete: every option is explicit, so that the same spec gives the same parameters
wherever it runs. `training_samples` is the one place that says which samples a slot of a round
learns from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tinyfleet.errors import InvalidInput
from tinyfleet.learner.protocol import Samples
from tinyfleet.model.builtin import builtin_model
from tinyfleet.model.initialization import initial_parameters
from tinyfleet.model.layers import Shape
from tinyfleet.model.spec import ModelSpec, Parameters
from tinyfleet.randomness import Purpose, RandomStream
from tinyfleet.strategies import Strategy, find_strategy, make_strategy
from tinyfleet.strategies.base import MAX_ROUNDS, options_of
from tinyfleet.tasks.base import Task, TaskOutline

MAX_SEED = 2**63 - 1


@dataclass(frozen=True)
class RunSpec:
    """Everything that determines a run's result, apart from data that agents bring themselves.

    task and its options name the distribution of problems; strategy and its options the
    algorithm. rounds: 1 to 100,000,000. seed: 0 to 2**63 - 1.
    """

    model: ModelSpec
    task: str
    strategy: str
    rounds: int
    seed: int
    task_options: Mapping[str, Any] = field(default_factory=dict)
    strategy_options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 1 <= self.rounds <= MAX_ROUNDS:
            raise InvalidInput(f"rounds must be 1 to {MAX_ROUNDS}, got {self.rounds}")
        if not 0 <= self.seed <= MAX_SEED:
            raise InvalidInput(f"seed must be 0 to {MAX_SEED}, got {self.seed}")
        self.make_strategy()

    def make_strategy(self) -> Strategy:
        """The strategy object this run asks for."""
        layers = self.model.trainable_layers
        return make_strategy(self.strategy, self.rounds, self.strategy_options, layers)

    def initial_parameters(self) -> Parameters:
        """Version 0 of the model."""
        return initial_parameters(self.model, self.seed)


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
) -> RunSpec:
    """A complete run: the task's recommended options where the caller sets none.

    model: a spec, the name of a built-in model, or None for the task's default.
    """
    known = options_of(find_strategy(strategy))
    options = {name: entry.default for name, entry in known.items()}
    options |= task.recommended.get(strategy, {})
    options |= strategy_options or {}
    spec = model if isinstance(model, ModelSpec) else fitting_model(task, model)
    check_fits(task, spec)
    return RunSpec(spec, task.name, strategy, rounds, seed, dict(task.options), options)


def fitting_model(task: TaskOutline, name: str | None = None) -> ModelSpec:
    """The built-in model `name`, or the task's default one, in the shape the task needs."""
    return builtin_model(name or task.default_model, task.input_shape, task.outputs, task.loss)


def check_fits(task: TaskOutline, spec: ModelSpec) -> None:
    """Raise InvalidInput unless the model has the task's shapes and loss."""
    have = (spec.input_shape, spec.outputs, spec.loss)
    need = (task.input_shape, task.outputs, task.loss)
    if have != need:
        raise InvalidInput(
            f"model '{spec.name}' has {_shapes(*have)}; task '{task.name}' needs {_shapes(*need)}"
        )


def _shapes(inputs: Shape, outputs: int, loss: str) -> str:
    return f"input {'x'.join(map(str, inputs))}, {outputs} outputs, loss {loss}"
