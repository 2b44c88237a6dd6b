"""A model as data: input shape, layers, loss; and where each parameter lies.

All parameters of a model are one flat float32 vector. Layer by layer, in order: the weights in
C order, then the biases. A layer is a range of that vector, so "train the last layer only" or
"send these layers" is a choice of ranges, the same on a Pi, a microcontroller and the server.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from tinyfleet.errors import InvalidInput, unknown_name
from tinyfleet.model.layers import LAYER_KINDS, MAX_CHANNELS, MAX_SIDE, Layer, Shape, Tensor

Parameters = npt.NDArray[np.float32]

LOSSES = ("mean_squared_error", "softmax_cross_entropy")
MAX_LAYERS = 64  # our choice: the trainable mask of a plan is one 64-bit word
MAX_PARAMETERS = 16_000_000  # our choice: 64 MB of float32, far above what a Pi trains online
MAX_ACTIVATIONS = 4_000_000  # our choice: values of one layer's output, 16 MB
_FIELD_RANGES = {"units": (1, MAX_CHANNELS), "filters": (1, MAX_CHANNELS)} | {
    "kernel": (1, 255),
    "stride": (1, 255),
    "padding": (0, 254),
    "values": (1, MAX_PARAMETERS),
    "outputs": (1, MAX_ACTIVATIONS),
}


@dataclass(frozen=True)
class PlacedLayer:
    """A layer in its model: its name, shapes and range `[start, stop)` of the parameter vector.

    Names are the kind and a count among the layers of that kind: `conv2d_1`, `dense_2`.
    The weights are `[start, start + weights)`, the biases the rest of the range.
    """

    name: str
    layer: Layer
    input_shape: Shape
    output_shape: Shape
    start: int
    weights: int
    biases: int

    @property
    def stop(self) -> int:
        return self.start + self.weights + self.biases

    @property
    def trainable(self) -> bool:
        return self.weights > 0


@dataclass(frozen=True)
class ModelSpec:
    """A network as data. Raises InvalidInput when it cannot exist or is beyond the bounds.

    input_shape: `(height, width, channels)`, `(1, 1, n)` for a vector of n values.
    loss: `mean_squared_error` (mean over the outputs of the squared error) or
    `softmax_cross_entropy` (targets are one-hot or a distribution, natural logarithm).
    """

    name: str
    input_shape: Shape
    layers: tuple[Layer, ...]
    loss: str

    def __post_init__(self) -> None:
        _check(self)
        _ = self.placed  # shapes are checked at construction, not at first use

    @cached_property
    def placed(self) -> tuple[PlacedLayer, ...]:
        """The layers with their names, shapes and parameter ranges."""
        placed: list[PlacedLayer] = []
        shape, start, counts = self.input_shape, 0, dict[str, int]()
        for layer in self.layers:
            counts[layer.kind] = counts.get(layer.kind, 0) + 1
            here = _place(layer, f"{layer.kind}_{counts[layer.kind]}", shape, start)
            placed.append(here)
            shape, start = here.output_shape, here.stop
        if start > MAX_PARAMETERS:
            raise InvalidInput(
                f"model has {start} parameters, at most {MAX_PARAMETERS} are allowed"
            )
        return tuple(placed)

    @property
    def computes_by_itself(self) -> bool:
        """Whether its layers are only the weight tensors of a network that a file holds."""
        return isinstance(self.layers[0], Tensor)

    @property
    def trainable_layers(self) -> tuple[str, ...]:
        """Names of the layers with parameters, first to last."""
        return tuple(placed.name for placed in self.placed if placed.trainable)

    @property
    def inputs(self) -> int:
        """Number of values of one input sample."""
        height, width, channels = self.input_shape
        return height * width * channels

    @property
    def outputs(self) -> int:
        """Number of values the model predicts."""
        height, width, channels = self.placed[-1].output_shape
        return height * width * channels

    @property
    def parameter_count(self) -> int:
        return self.placed[-1].stop

    @property
    def parameter_bytes(self) -> int:
        """Size of the parameter vector: 4 bytes each."""
        return 4 * self.parameter_count

    def layer_mask(self, names: tuple[str, ...]) -> int:
        """Bit i is set when layer i is among `names`; no names at all means every layer."""
        if not names:
            return (1 << len(self.layers)) - 1
        known = {placed.name: index for index, placed in enumerate(self.placed)}
        for name in names:
            if name not in known:
                raise unknown_name("layer", name, known)
        return sum(1 << known[name] for name in set(names))

    def check_parameters(self, parameters: Parameters) -> Parameters:
        """`parameters` if they are `(parameter_count,) float32`; raises InvalidInput if not."""
        if parameters.dtype != np.float32 or parameters.shape != (self.parameter_count,):
            raise InvalidInput(
                f"model '{self.name}' takes {self.parameter_count} float32 parameters, "
                f"got {parameters.dtype} {parameters.shape}"
            )
        return parameters


def parameters_sha256(parameters: Parameters) -> str:
    """SHA-256, in hex, of the parameters as little-endian float32: the identity of a result."""
    return hashlib.sha256(parameters.astype("<f4", copy=False).tobytes()).hexdigest()


def make_layer(kind: str, options: dict[str, Any]) -> Layer:
    """A layer from its kind and its named options; unknown names and bad values are refused."""
    if kind not in LAYER_KINDS:
        raise unknown_name("layer kind", kind, LAYER_KINDS)
    known = {field.name for field in fields(LAYER_KINDS[kind])}
    for name, value in options.items():
        if name not in known:
            raise unknown_name(f"option of {kind}", name, known)
        if isinstance(value, bool) or not isinstance(value, int):
            raise InvalidInput(f"{kind}: {name} must be a whole number, got {value!r}")
    try:
        return LAYER_KINDS[kind](**options)
    except TypeError:
        raise InvalidInput(f"{kind}: missing option, it takes {', '.join(sorted(known))}") from None


def _place(layer: Layer, name: str, shape: Shape, start: int) -> PlacedLayer:
    output = layer.output_shape(shape)
    if output[0] * output[1] * output[2] > MAX_ACTIVATIONS:
        raise InvalidInput(f"{name}: output {output} is over {MAX_ACTIVATIONS} values")
    weight_shape = layer.weight_shape(shape)
    weights = 1
    for side in weight_shape:
        weights *= side
    weights = weights if weight_shape else 0
    return PlacedLayer(name, layer, shape, output, start, weights, layer.biases(shape))


def _check(spec: ModelSpec) -> None:
    if not spec.name or len(spec.name) > 64 or not spec.name.isprintable():
        raise InvalidInput("a model's name has 1 to 64 printable characters")
    if spec.loss not in LOSSES:
        raise unknown_name("loss", spec.loss, LOSSES)
    if not 1 <= len(spec.layers) <= MAX_LAYERS:
        raise InvalidInput(f"a model has 1 to {MAX_LAYERS} layers, got {len(spec.layers)}")
    height, width, channels = spec.input_shape
    if not (1 <= height <= MAX_SIDE and 1 <= width <= MAX_SIDE and 1 <= channels <= 65535):
        raise InvalidInput(f"input shape {spec.input_shape} is out of range")
    for layer in spec.layers:
        for field in fields(layer):
            low, high = _FIELD_RANGES[field.name]
            if not low <= getattr(layer, field.name) <= high:
                raise InvalidInput(f"{layer.kind}: {field.name} must be {low} to {high}")
    if len({layer.outputs if isinstance(layer, Tensor) else 0 for layer in spec.layers}) > 1:
        raise InvalidInput("all layers of a model are tensors with the same outputs, or none is")
    if not any(layer.weight_shape((1, 1, 1)) for layer in spec.layers):
        raise InvalidInput("a model needs at least one layer with parameters")
