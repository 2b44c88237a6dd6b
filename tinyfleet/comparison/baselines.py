"""What a fleet is measured against: models trained in one place, on everybody's samples.

`transfer` and `tiny_ol` train the body of the run's model by online SGD. Where problems are made of
classes, under one head for all training classes, which is what such a body is usually trained
with; a device then gets the body with the run's initial head for the classes of its problem. Where
outputs mean the same in every problem, samples of all problems mixed train the model as it is. The
device adapts all layers (`transfer`) or the last one alone (`tiny_ol`, after TinyOL: Ren, Anicic
and Runkler, arXiv 2103.08295, whose frozen network comes from elsewhere, too).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from tinyfleet.errors import Diverged, InvalidInput
from tinyfleet.learner.protocol import Learner, Samples
from tinyfleet.model.layers import MAX_CHANNELS, Conv2D, Dense, Layer
from tinyfleet.model.spec import ModelSpec, Parameters, PlacedLayer
from tinyfleet.randomness import Purpose, RandomStream
from tinyfleet.run import RunSpec, training_samples
from tinyfleet.simulation import RoundReport
from tinyfleet.simulation.federation import MAX_DIVERGED_ROUNDS
from tinyfleet.strategies.base import delta_of
from tinyfleet.strategies.plan import Phase
from tinyfleet.tasks import Task

PRETRAINED = ("transfer", "tiny_ol")


def pretraining_run(run: RunSpec, task: Task) -> RunSpec:
    """`run` with the model that is trained for it: one output for each training class.

    Raises InvalidInput when the model's last layer with parameters cannot be made so wide.
    """
    classes = task.training_classes
    if classes is None:
        return run
    return replace(run, model=_with_outputs(run.model, classes.count))


def given_to_devices(run: RunSpec, trained: ModelSpec, parameters: Parameters) -> Parameters:
    """The trained body with the run's initial head; `parameters` themselves if nothing was wider.

    Layers up to the head are the same in both models, and come first in the parameter vector.
    """
    if trained == run.model:
        return parameters
    given = run.initial_parameters()
    body = _head(run.model).start
    given[:body] = parameters[:body]
    return given


def pretrain(
    run: RunSpec,
    task: Task,
    learner: Learner,
    on_round: Callable[[RoundReport], None],
    parameters: Parameters,
    version: int,
) -> Parameters:
    """Online SGD in one place, from `version` on; returns what `given_to_devices` takes.

    learner: of the model of `pretraining_run`. A round has as many samples as a device of
    TinyReptile has in its own (the options of `run`), so that rounds compare, and sends no bytes.
    Raises Diverged after 20 rounds in a row that do not stay finite.
    """
    options = run.strategy_options
    count, rate = int(options["samples"]), float(options["inner_rate"])
    model, lost = parameters.copy(), 0
    for index in range(version, run.rounds):
        trained = model.copy()
        done = learner.train(trained, _samples(task, run.seed, index, count), Phase(count, rate))
        delta = delta_of(trained, model, done.finite)
        lost = 0 if delta is not None else lost + 1
        model = model if delta is None else model + delta
        on_round(RoundReport(index, done.loss, int(delta is None), model, count, 0, 0))
        if lost >= MAX_DIVERGED_ROUNDS:
            raise Diverged(f"training diverged in {lost} rounds in a row: lower inner_rate")
    return model


def _samples(task: Task, seed: int, round: int, count: int) -> Samples:
    """Of all training classes; else one sample of each of `count` problems."""
    classes = task.training_classes
    if classes is not None:
        return classes.draw(RandomStream(seed, Purpose.TRAINING_TASK, round, 0), count)
    parts = [training_samples(task, seed, round, slot, 1) for slot in range(count)]
    inputs, targets = ([getattr(part, name) for part in parts] for name in ("inputs", "targets"))
    return Samples(np.concatenate(inputs), np.concatenate(targets))


def _with_outputs(spec: ModelSpec, outputs: int) -> ModelSpec:
    """`spec` with another head: its last layer with parameters has a unit for each output."""
    head = _head(spec)
    wide: Layer | None = None
    if isinstance(head.layer, Dense):
        wide = replace(head.layer, units=outputs)
    elif isinstance(head.layer, Conv2D):
        wide = replace(head.layer, filters=outputs)
    if wide is None or outputs > MAX_CHANNELS:
        raise InvalidInput(
            f"model '{spec.name}' cannot have a head for {outputs} training classes: baselines "
            f"that are trained before need a last dense or conv2d layer and {MAX_CHANNELS} classes "
            "at most; leave them out"
        )
    layers = tuple(wide if placed is head else placed.layer for placed in spec.placed)
    made = ModelSpec(f"{spec.name[:48]}-{outputs}", spec.input_shape, layers, spec.loss)
    if made.outputs != outputs:
        raise InvalidInput(f"model '{spec.name}' has no last layer with one unit for each class")
    return made


def _head(spec: ModelSpec) -> PlacedLayer:
    return [placed for placed in spec.placed if placed.trainable][-1]
