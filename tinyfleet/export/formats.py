"""The formats that a model is exported in, each checked against the learner before it counts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from tinyfleet.errors import InvalidInput, unknown_name
from tinyfleet.export.c_check import run_header
from tinyfleet.export.c_header import c_header, identifier
from tinyfleet.export.check import check_same, softmax
from tinyfleet.export.front import Front
from tinyfleet.export.npz import check_archive, npz_archive
from tinyfleet.export.quality import MAX_DROP, MAX_ERROR, Quality, measure
from tinyfleet.export.rehearsal import Rehearsal
from tinyfleet.learner.protocol import Floats, Learner
from tinyfleet.litert.graph import Graph
from tinyfleet.model.spec import ModelSpec, Parameters


@dataclass(frozen=True)
class Order:
    """What to export and what to hold it to.

    inputs: `(count, values) float32` to compare outputs on, as they come to the front; targets:
    their right answers, where they are known. calibration: like inputs, what sets the ranges of
    int8 values. rehearsal: what int8 is judged by, rather than by `inputs` and their targets.
    front: what turns samples into those of the model; a header and an archive are of the model
    alone. name: what the names of a C header begin with, the model's where it is None. max_drop:
    points of accuracy, max_error: percent, as in `Quality`.
    """

    learner: Learner
    parameters: Parameters
    inputs: Floats
    targets: Floats | None = None
    calibration: Floats | None = None
    rehearsal: Rehearsal | None = None
    front: Front = field(default_factory=Front)
    probabilities: bool = False
    float_io: bool = False
    name: str | None = None
    max_drop: float = MAX_DROP
    max_error: float = MAX_ERROR

    @property
    def spec(self) -> ModelSpec:
        return self.learner.spec

    def expected(self) -> Floats:
        """What the learner says of the inputs."""
        said = self.learner.predict(self.parameters, self.front.features(self.inputs))
        return softmax(said) if self.probabilities else said


@dataclass(frozen=True)
class Exported:
    """A file's content, and what it was found to be.

    difference: the largest one from the learner's outputs. quality: what int8 loses, by the
    rehearsal where there was one.
    """

    content: bytes
    difference: float
    quality: Quality | None = None


def export(order: Order, format: str) -> Exported:
    """The model in one of FORMATS.

    Raises Disagrees when it does not say what the learner says, InvalidInput or DoesNotFit when it
    cannot be exported so.
    """
    if format not in FORMATS:
        raise unknown_name("format", format, FORMATS)
    return FORMATS[format](order)


def _tflite(order: Order) -> Exported:
    file = order.front.with_float(order.spec, order.parameters, order.probabilities)
    said = Graph(file)(order.inputs)
    return Exported(file.content, check_same(said, order.expected()))


def _tflite_int8(order: Order) -> Exported:
    if order.calibration is None:
        raise InvalidInput(
            "int8 needs samples to calibrate on: give --calibration FILE.npz, --support or --data"
        )
    model, ends = (order.spec, order.parameters), (order.probabilities, order.float_io)
    file = order.front.with_int8(*model, order.calibration, *ends)
    said, expected = Graph(file)(order.inputs), order.expected()
    if order.rehearsal is not None:
        seen = order.front.features(order.calibration)
        quality = order.rehearsal.quality(order.learner, seen)
    else:
        quality = measure(order.spec, said, expected, order.targets)
    quality.check(order.max_drop, order.max_error)
    return Exported(file.content, _largest(said, expected), quality)


def _c_header(order: Order) -> Exported:
    name = order.name or identifier(order.spec.name)
    header = c_header(order.spec, order.parameters, name, order.probabilities)
    said = run_header(header, name, order.front.features(order.inputs), order.spec.outputs)
    return Exported(header.encode("ascii"), check_same(said, order.expected()))


def _npz(order: Order) -> Exported:
    content = npz_archive(order.spec, order.parameters)
    check_archive(content, order.spec, order.parameters)
    return Exported(content, 0.0)


def _largest(said: Floats, expected: Floats) -> float:
    return float(np.abs(said - expected).max())


FORMATS: dict[str, Callable[[Order], Exported]] = {
    "tflite": _tflite,
    "tflite-int8": _tflite_int8,
    "c-header": _c_header,
    "npz": _npz,
}
