"""The training signatures of a `.tflite` file: what they must be, and how they are called.

    train(x, y, rate) -> loss     one step of plain SGD on a batch, in place; the loss before it
    infer(x) -> logits            changes nothing
    get_weights() -> tensors      all that `train` changes
    set_weights(tensors)          the same names, shapes and types

This arrangement is our choice, after that of on-device training with LiteRT, which has `save` and
`restore` of checkpoint files for the last two. All of it may have other names (`SignatureNames`).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from tinyfleet.errors import InvalidInput, one_line
from tinyfleet.learner.protocol import Floats
from tinyfleet.model.layers import Shape, Tensor
from tinyfleet.model.spec import MAX_ACTIVATIONS, MAX_LAYERS, MAX_PARAMETERS, ModelSpec, Parameters
from tinyfleet.model.trainable import SignatureNames

MAX_BATCH = 1024  # our choice
_SIGNATURES = ("train", "infer", "get_weights", "set_weights")

Details = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class WeightTensor:
    """A tensor that training changes, and its range `[start, stop)` of the parameter vector."""

    name: str
    shape: tuple[int, ...]
    start: int

    @property
    def stop(self) -> int:
        return self.start + prod(self.shape)


@dataclass(frozen=True)
class Layout:
    """What the signatures take and give.

    batch: samples of one call. inputs: `(batch, ...)`, the shape of x; targets: of y. loss, logits:
    the names of these outputs. weights: in the order of their names.
    """

    batch: int
    inputs: tuple[int, ...]
    targets: tuple[int, ...]
    loss: str
    logits: str
    weights: tuple[WeightTensor, ...]

    @property
    def outputs(self) -> int:
        """Values that one sample's prediction has."""
        return prod(self.targets[1:])

    @property
    def parameter_count(self) -> int:
        return self.weights[-1].stop

    def model(self, name: str, shape: Shape, loss: str) -> ModelSpec:
        """The model that the file is, on samples of `shape` `(height, width, channels)`.

        Raises InvalidInput when x is not of that shape: sides of 1 apart, or flat.
        """
        own, wanted = ([side for side in sides if side > 1] for sides in (self.inputs[1:], shape))
        if prod(own) != prod(shape) or (len(own) > 1 and own != wanted):
            raise InvalidInput(
                f"the .tflite file's x is {_sides(self.inputs)}, a batch of samples; the task has "
                f"samples of {_sides(shape)}"
            )
        layers = tuple(Tensor(one.stop - one.start, self.outputs) for one in self.weights)
        return ModelSpec(name, shape, layers, loss)

    def check_model(self, spec: ModelSpec) -> None:
        """Raise InvalidInput unless `spec` is what `model` makes of this file for its shape."""
        if self.model(spec.name, spec.input_shape, spec.loss) != spec:
            raise InvalidInput(f"the weights in the .tflite file are not those of '{spec.name}'")


class Signatures:
    """The signatures of an interpreter, checked. Not thread-safe.

    Raises InvalidInput, in one line, for a file that does not have them all.
    """

    def __init__(self, interpreter: Any, names: SignatureNames) -> None:
        runners = _runners(interpreter, names)
        self.layout = _layout(runners, names)
        self._names = names
        self._train, self._infer = runners["train"], runners["infer"]
        self._get, self._set = runners["get_weights"], runners["set_weights"]
        self._infer_input: str = next(iter(self._infer.get_input_details()))

    def train(self, x: Floats, y: Floats, rate: np.float32) -> np.float32:
        """One step on a batch, shaped as the layout says; its loss before that, by the file."""
        names = self._names
        given = {names.x: x, names.y: y}
        if not names.own_rate:
            given[names.rate] = np.asarray(rate)
        return np.float32(np.asarray(self._train(**given)[self.layout.loss]).reshape(()))

    def infer(self, x: Floats) -> Floats:
        """`(batch, outputs)` of a batch, shaped as the layout says."""
        layout = self.layout
        logits = self._infer(**{self._infer_input: x})[layout.logits]
        return _of_shape(logits, layout.targets).reshape(layout.batch, layout.outputs)

    def read(self, into: Parameters) -> None:
        """Write the weights as they are now into `(parameter_count,) float32`."""
        found = self._get()
        for one in self.layout.weights:
            into[one.start : one.stop] = _of_shape(found[one.name], one.shape).reshape(-1)

    def write(self, parameters: Parameters) -> None:
        """Make the weights those of `(parameter_count,) float32`."""
        self._set(
            **{
                one.name: parameters[one.start : one.stop].reshape(one.shape)
                for one in self.layout.weights
            }
        )

    def weights(self) -> Parameters:
        """The weights as they are now, `(parameter_count,) float32`."""
        parameters = np.empty(self.layout.parameter_count, np.float32)
        self.read(parameters)
        return parameters


def check_behaviour(signatures: Signatures) -> None:
    """Raise InvalidInput unless the signatures do what the names say, on one batch.

    `set_weights` and `get_weights` are about the same bits, `infer` changes none, and `train` gives
    the same again from the same weights. So an optimizer with a memory of its own is found out: its
    runs could not be repeated, nor could anybody else's device go on from the weights alone.
    """
    layout, begin = signatures.layout, signatures.weights()
    given = begin + np.linspace(-0.01, 0.01, len(begin), dtype=np.float32)
    x = np.linspace(-1, 1, prod(layout.inputs), dtype=np.float32).reshape(layout.inputs)
    y = np.zeros(layout.targets, np.float32)
    y.reshape(layout.batch, -1)[:, 0] = 1
    signatures.write(given)
    signatures.infer(x)
    if signatures.weights().tobytes() != given.tobytes():
        raise InvalidInput("get_weights does not give back, to the bit, what set_weights was given")
    trained = [_one_step(signatures, given, x, y) for _ in range(2)]
    if trained[0].tobytes() != trained[1].tobytes():
        raise InvalidInput(
            "train depends on more than weights and samples: use plain SGD, without momentum "
            "or dropout"
        )
    if trained[0].tobytes() == given.tobytes():
        raise InvalidInput("train does not change the weights that get_weights gives")


def _of_shape(tensor: Any, shape: tuple[int, ...]) -> Floats:
    """A tensor that a signature gave, which may be of another shape than the file says."""
    if tensor.dtype != np.float32 or tensor.shape != shape:
        raise InvalidInput(
            f"the .tflite file says that it gives {_sides(shape)}, it gives {_sides(tensor.shape)}"
        )
    values: Floats = tensor
    return values


def _one_step(signatures: Signatures, given: Parameters, x: Floats, y: Floats) -> Parameters:
    signatures.write(given)
    signatures.train(x, y, np.float32(0.01))
    return signatures.weights()


def _runners(interpreter: Any, names: SignatureNames) -> dict[str, Any]:
    offered = interpreter.get_signature_list()
    runners = {}
    for what in _SIGNATURES:
        name = getattr(names, what)
        if name not in offered:
            have = ", ".join(sorted(one_line(one) for one in offered)) or "none"
            raise InvalidInput(f"the .tflite file has no signature '{name}', it has: {have[:200]}")
        runners[what] = interpreter.get_signature_runner(name)
    return runners


def _layout(runners: dict[str, Any], names: SignatureNames) -> Layout:
    given = runners["train"].get_input_details()
    wanted = [names.x, names.y] + ([] if names.own_rate else [names.rate])
    _check_inputs("train", given, wanted)
    if not names.own_rate:
        _check_tensor("train", names.rate, given[names.rate], ())
    inputs, targets = (_batch(name, given[name]) for name in (names.x, names.y))
    if inputs[0] != targets[0]:
        raise InvalidInput(f"train takes {inputs[0]} samples in x, but {targets[0]} targets in y")
    infer = runners["infer"]
    taken, gives = infer.get_input_details(), infer.get_output_details()
    if len(taken) != 1:
        raise InvalidInput(f"infer must take one tensor, it takes {len(taken)}: {_names(taken)}")
    for name, detail in taken.items():
        _check_tensor("infer", name, detail, inputs)
    logits = _output("infer", gives, names.logits)
    _check_tensor("infer", logits, gives[logits], targets)
    losses = runners["train"].get_output_details()
    loss = _output("train", losses, names.loss)
    if losses[loss]["dtype"] is not np.float32 or prod(_shape(losses[loss])) != 1:
        raise InvalidInput(f"train's '{one_line(loss)}' must be one float32 number")
    return Layout(inputs[0], inputs, targets, loss, logits, _weights(runners))


def _weights(runners: dict[str, Any]) -> tuple[WeightTensor, ...]:
    gives = runners["get_weights"].get_output_details()
    takes = runners["set_weights"].get_input_details()
    _check_inputs("get_weights", runners["get_weights"].get_input_details(), [])
    if gives.keys() != takes.keys():
        odd = ", ".join(sorted(one_line(name) for name in gives.keys() ^ takes.keys()))
        raise InvalidInput(
            f"set_weights must take what get_weights gives; in one only: {odd[:200]}"
        )
    if not 1 <= len(gives) <= MAX_LAYERS:
        raise InvalidInput(f"get_weights must give 1 to {MAX_LAYERS} tensors, not {len(gives)}")
    weights, start = [], 0
    for name in sorted(gives):
        shape = _shape(gives[name])
        _check_tensor("get_weights", name, gives[name], shape)
        _check_tensor("set_weights", name, takes[name], shape)
        weights.append(WeightTensor(name, shape, start))
        start = weights[-1].stop
        if not prod(shape) or start > MAX_PARAMETERS:
            raise InvalidInput(f"weights must be 1 to {MAX_PARAMETERS} values, no tensor empty")
    return tuple(weights)


def _check_inputs(signature: str, given: Details, wanted: list[str]) -> None:
    if given.keys() != set(wanted):
        what = ", ".join(wanted) or "nothing"
        raise InvalidInput(f"{signature} must take {what}; it takes {_names(given) or 'nothing'}")


def _output(signature: str, gives: Details, name: str) -> str:
    """The output that is meant: the only one, or that of the name."""
    if len(gives) == 1:
        return next(iter(gives))
    if name not in gives:
        raise InvalidInput(f"{signature} must give '{name}', it gives {_names(gives) or 'nothing'}")
    return name


def _batch(name: str, detail: dict[str, Any]) -> tuple[int, ...]:
    shape = _shape(detail)
    _check_tensor("train", name, detail, shape)
    values = prod(shape[1:])
    if len(shape) < 2 or not (1 <= shape[0] <= MAX_BATCH and 1 <= values <= MAX_ACTIVATIONS):
        raise InvalidInput(
            f"train's '{name}' must be a batch of 1 to {MAX_BATCH} samples, as [1, ...], "
            f"got {_sides(shape)}"
        )
    return shape


def _check_tensor(
    signature: str, name: str, detail: dict[str, Any], shape: tuple[int, ...]
) -> None:
    """Raise InvalidInput unless the tensor is float32, of a known shape, and that is `shape`."""
    where = f"{signature}'s '{one_line(name)}'"
    if detail["dtype"] is not np.float32:
        raise InvalidInput(f"{where} must be float32, it is {np.dtype(detail['dtype']).name}")
    if any(side < 0 for side in detail["shape_signature"]):
        raise InvalidInput(f"{where} has a side without a size: convert it with fixed shapes")
    if _shape(detail) != shape:
        raise InvalidInput(f"{where} must be {_sides(shape)}, it is {_sides(_shape(detail))}")


def _shape(detail: dict[str, Any]) -> tuple[int, ...]:
    return tuple(int(side) for side in detail["shape"])


def _sides(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "a scalar"


def _names(details: Details) -> str:
    return ", ".join(sorted(one_line(name) for name in details))[:200]
