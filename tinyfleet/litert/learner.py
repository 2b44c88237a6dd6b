"""The learner that a `.tflite` file with training signatures is."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from tinyfleet.errors import InvalidInput
from tinyfleet.learner.protocol import (
    Floats,
    Samples,
    Trained,
    check_inputs,
    check_phase,
    check_samples,
)
from tinyfleet.learner.reference import sample_loss
from tinyfleet.litert.file import TfliteFile
from tinyfleet.litert.probe import check_trainable
from tinyfleet.litert.runtime import make_interpreter
from tinyfleet.litert.signatures import Layout, Signatures
from tinyfleet.model.spec import ModelSpec, Parameters, parameters_sha256
from tinyfleet.model.trainable import SignatureNames, TrainableGraph
from tinyfleet.strategies.plan import Phase, TrainingPlan


def open_trainable(file: TfliteFile, names: SignatureNames) -> Signatures:
    """The signatures of a file, tried in a process of its own first, which may die of them.

    Raises InvalidInput, in one line, for a file that is of no use.
    """
    check_trainable(file, names)
    return Signatures(make_interpreter(file), names)


@dataclass(frozen=True, eq=False)
class Described:
    """What a file is. initial: the weights it begins with, `(parameter_count,) float32`, finite."""

    layout: Layout
    graph: TrainableGraph
    initial: Parameters

    def check_plan(self, plan: TrainingPlan) -> None:
        """Raise InvalidInput when the file cannot train as `plan` asks."""
        for phase in plan.phases:
            check_phase_fits(self.layout, self.graph.names.own_rate, phase)


def describe_trainable(file: TfliteFile, names: SignatureNames) -> Described:
    """What a run says of a file; raises InvalidInput, in one line, for one that is of no use."""
    signatures = open_trainable(file, names)
    layout, initial = signatures.layout, signatures.weights()
    tensors = tuple(one.name for one in layout.weights)
    hashed = parameters_sha256(initial)
    graph = TrainableGraph(file.sha256, len(file.content), hashed, tensors, names)
    return Described(layout, graph, graph.check_initial(initial))


def check_phase_fits(layout: Layout, own_rate: float, phase: Phase) -> None:
    """Raise InvalidInput when a file cannot train as `phase` asks.

    own_rate: the rate that is built into it; 0 where there is none.
    """
    batch = layout.batch
    if phase.batch_size != batch or phase.samples % batch:
        raise InvalidInput(
            f"this .tflite file trains on {batch} samples at a time, the plan asks for "
            f"{phase.batch_size} of {phase.samples}: convert it for that batch"
        )
    if own_rate and np.float32(own_rate) != np.float32(phase.rate):
        raise InvalidInput(
            f"this .tflite file trains at its own rate of {own_rate:g}, the plan asks "
            f"for {phase.rate:g}: set inner_rate={own_rate:g}"
        )


class LiteRtLearner:
    """The Learner of a run whose model is a `.tflite` file.

    LiteRT's float32 kernels round as they like: the bits are the same on processors of one kind,
    and need not be on others. What a plan asks beyond the file's step of plain SGD is done to the
    weights after each step. Layers that do not learn are put back: plain SGD moves each weight by
    its own part of the gradient, which does not depend on whether others move, so what is left is
    exactly the step of the other layers alone. A proximal pull comes after the step, as in the
    other learners.
    """

    def __init__(self, spec: ModelSpec, graph: TrainableGraph, file: TfliteFile) -> None:
        """Raises InvalidInput unless `file` is that of `graph`, works, and has these weights."""
        graph.check_file(file.sha256)
        graph.check_model(spec)
        self._spec, self._own_rate = spec, graph.names.own_rate
        self._signatures = open_trainable(file, graph.names)
        self._layout.check_model(spec)
        if tuple(one.name for one in self._layout.weights) != graph.weights:
            raise InvalidInput("the weights in the .tflite file have other names than the run's")
        self.initial = graph.check_initial(self._signatures.weights())

    @property
    def spec(self) -> ModelSpec:
        return self._spec

    @property
    def _layout(self) -> Layout:
        return self._signatures.layout

    def predict(self, parameters: Parameters, inputs: Floats) -> Floats:
        self._spec.check_parameters(parameters)
        batches = _batches(check_inputs(self._spec, inputs), self._layout.inputs)
        self._signatures.write(parameters)
        outputs = np.empty((len(batches) * self._layout.batch, self._spec.outputs), np.float32)
        for batch, rows in zip(batches, _rows(outputs, self._layout.batch), strict=True):
            rows[:] = self._signatures.infer(batch)
        return outputs[: len(inputs)]

    def losses(self, parameters: Parameters, samples: Samples) -> Floats:
        check_samples(self._spec, samples)
        outputs = self.predict(parameters, samples.inputs)
        pairs = zip(outputs, samples.targets, strict=True)
        return np.array([sample_loss(self._spec.loss, y, t) for y, t in pairs], np.float32)

    def train(
        self,
        parameters: Parameters,
        samples: Samples,
        phase: Phase,
        start: Parameters | None = None,
    ) -> Trained:
        check_phase(self._spec, parameters, samples, phase, start)
        check_phase_fits(self._layout, self._own_rate, phase)
        self._signatures.write(parameters)
        losses = list(self._steps(parameters.copy(), samples, phase, start))
        self._signatures.read(parameters)
        finite = len(losses) == phase.updates and bool(np.isfinite(parameters).all())
        return Trained(sum(losses) / len(losses) if finite else math.nan, len(losses), finite)

    def _steps(
        self, begin: Parameters, samples: Samples, phase: Phase, start: Parameters | None
    ) -> Iterator[float]:
        """The loss of each step, up to the first that is not finite. begin: the weights now."""
        layout, rate = self._layout, np.float32(phase.rate)
        xs, ys = _batches(samples.inputs, layout.inputs), _batches(samples.targets, layout.targets)
        after = _AfterStep(self._spec, self._signatures, begin, phase, start)
        for _ in range(phase.passes):
            for x, y in zip(xs, ys, strict=True):
                loss = float(self._signatures.train(x, y, rate))
                if not (math.isfinite(loss) and np.isfinite(x).all()):
                    return
                after()
                yield loss


class _AfterStep:
    """What is done to the weights after each step of a phase; nothing for most phases."""

    def __init__(
        self,
        spec: ModelSpec,
        signatures: Signatures,
        begin: Parameters,
        phase: Phase,
        start: Parameters | None,
    ) -> None:
        self._signatures = signatures
        self._pull = np.float32(phase.rate) * np.float32(phase.proximal)
        self._start = start if phase.proximal else None
        mask = spec.layer_mask(phase.trainable)
        learns = [bool(mask >> index & 1) for index in range(len(spec.layers))]
        self._learning = [_range(spec, index) for index, one in enumerate(learns) if one]
        frozen = [_range(spec, index) for index, one in enumerate(learns) if not one]
        self._frozen = [(here, begin[here]) for here in frozen]
        self._weights = np.empty_like(begin)

    def __call__(self) -> None:
        if not self._frozen and self._start is None:
            return
        weights = self._weights
        self._signatures.read(weights)
        for here, values in self._frozen:
            weights[here] = values
        if self._start is not None:
            for here in self._learning:
                weights[here] -= self._pull * (weights[here] - self._start[here])
        self._signatures.write(weights)


def _range(spec: ModelSpec, index: int) -> slice:
    return slice(spec.placed[index].start, spec.placed[index].stop)


def _batches(rows: Floats, shape: tuple[int, ...]) -> Floats:
    """`(batches, *shape)`, the last one filled up with zeros."""
    batch = shape[0]
    lacking = -len(rows) % batch
    if lacking:
        rows = np.concatenate([rows, np.zeros((lacking, rows.shape[1]), np.float32)])
    return np.ascontiguousarray(rows).reshape(len(rows) // batch, batch, *shape[1:])


def _rows(outputs: Floats, batch: int) -> Floats:
    return outputs.reshape(len(outputs) // batch, batch, outputs.shape[1])
