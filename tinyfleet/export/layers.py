"""The layers of a model as LiteRT operators.

Layer by layer: a convolution is one operator, with a PAD before it where our padding, zeros on all
sides alike, is not what LiteRT's SAME does (with a stride of 2 it is not, SAME pads less at the
start). A ReLU right after a layer is part of that layer's operator. What the tensors are, float32
or int8, is the business of the `Values` that come with the call.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np

from tinyfleet.export.writer import GraphWriter, Quantization, Tensor, renamed, value, values_of
from tinyfleet.learner.protocol import Floats
from tinyfleet.model.layers import (
    AveragePool2D,
    Conv2D,
    Dense,
    DepthwiseConv2D,
    Flatten,
    GlobalAveragePool2D,
    MaxPool2D,
    ReLU,
    Tanh,
)
from tinyfleet.model.spec import ModelSpec, Parameters, PlacedLayer

TANH_SCALE = Quantization((1 / 128,))  # what LiteRT's int8 kernels ask for, both of them
SOFTMAX_SCALE = Quantization((1 / 256,), -128)
_FUSING = (Dense, Conv2D, DepthwiseConv2D, MaxPool2D, AveragePool2D)


class Values(Protocol):
    """What the tensors of a graph are."""

    def enter(self, writer: GraphWriter, x: Tensor) -> Tensor:
        """What comes in, in this type."""
        ...

    def activation(self, name: str, shape: tuple[int, ...], x: Tensor, *weights: Tensor) -> Tensor:
        """What a layer makes of `x` with its weights, by the name of the tensor."""
        ...

    def fixed(self, name: str, shape: tuple[int, ...], scale: Quantization) -> Tensor:
        """What an operator puts out that leaves no choice of an int8 scale."""
        ...

    def parameters(
        self, writer: GraphWriter, placed: PlacedLayer, weights: Floats, biases: Floats, x: Tensor
    ) -> tuple[Tensor, Tensor]:
        """A layer's weights, in LiteRT's order, and biases. x: what they are applied to."""
        ...


class FloatValues:
    """All tensors are float32."""

    def enter(self, writer: GraphWriter, x: Tensor) -> Tensor:
        if x.dtype == "float32":
            return x
        return writer.operator("DEQUANTIZE", [x], value(f"{x.name}/float", x.shape))

    def activation(self, name: str, shape: tuple[int, ...], x: Tensor, *weights: Tensor) -> Tensor:
        return value(name, shape)

    def fixed(self, name: str, shape: tuple[int, ...], scale: Quantization) -> Tensor:
        return value(name, shape)

    def parameters(
        self, writer: GraphWriter, placed: PlacedLayer, weights: Floats, biases: Floats, x: Tensor
    ) -> tuple[Tensor, Tensor]:
        return (
            writer.constant(f"{placed.name}/weights", weights),
            writer.constant(f"{placed.name}/biases", biases),
        )


def input_tensor_shape(spec: ModelSpec) -> tuple[int, ...]:
    """`(1, n)` for a vector, `(1, height, width, channels)` for an image."""
    height, width, channels = spec.input_shape
    return (1, channels) if (height, width) == (1, 1) else (1, height, width, channels)


def write_layers(
    writer: GraphWriter, spec: ModelSpec, parameters: Parameters, x: Tensor, values: Values
) -> Tensor:
    """Let the graph go on from `x` with the layers of `spec`. Returns `(1, outputs)`."""
    layers = _LayerWriter(writer, values, spec.check_parameters(parameters))
    x = values.enter(writer, x)
    for placed, name, relu in _steps(spec):
        x = _KINDS[type(placed.layer)](layers, placed, x, name, relu)
    return layers.vector(x)


def write_softmax(writer: GraphWriter, x: Tensor, values: Values) -> Tensor:
    """Probabilities of logits."""
    output = values.fixed("probabilities", x.shape, SOFTMAX_SCALE)
    return writer.operator("SOFTMAX", [x], output, beta=1.0)


def parts_of(placed: PlacedLayer, parameters: Parameters) -> tuple[Floats, Floats]:
    """A layer's weights, in the shape it gives them, and its biases."""
    end = placed.start + placed.weights
    shape = placed.layer.weight_shape(placed.input_shape)
    return parameters[placed.start : end].reshape(shape), parameters[end : placed.stop]


def _steps(spec: ModelSpec) -> Iterator[tuple[PlacedLayer, str, bool]]:
    """Each layer that becomes an operator, its output's name, and whether a ReLU is part of it."""
    fused = False
    for placed, after in zip(spec.placed, (*spec.placed[1:], None), strict=True):
        if not fused:
            here = placed.layer
            takes = isinstance(here, _FUSING) and after and isinstance(after.layer, ReLU)
            yield placed, after.name if takes and after else placed.name, bool(takes)
            fused = bool(takes)
        else:
            fused = False


class _LayerWriter:
    """Writes one layer after the other."""

    def __init__(self, writer: GraphWriter, values: Values, parameters: Parameters) -> None:
        self._writer = writer
        self._values = values
        self._parameters = parameters

    def dense(self, placed: PlacedLayer, x: Tensor, name: str, relu: bool) -> Tensor:
        weights, biases = parts_of(placed, self._parameters)
        x = self.vector(x)
        inputs = [x, *self._constants(placed, weights.T, biases, x)]
        output = self._values.activation(name, (1, len(biases)), x, inputs[1])
        return self._writer.operator("FULLY_CONNECTED", inputs, output, **self._fused(relu))

    def conv2d(self, placed: PlacedLayer, x: Tensor, name: str, relu: bool) -> Tensor:
        weights, biases = parts_of(placed, self._parameters)
        return self._convolution(
            "CONV_2D", placed, weights.transpose(3, 0, 1, 2), biases, x, name, self._fused(relu)
        )

    def depthwise(self, placed: PlacedLayer, x: Tensor, name: str, relu: bool) -> Tensor:
        weights, biases = parts_of(placed, self._parameters)
        options = {**self._fused(relu), "depthMultiplier": 1}
        return self._convolution(
            "DEPTHWISE_CONV_2D", placed, weights[None], biases, x, name, options
        )

    def pool(self, placed: PlacedLayer, x: Tensor, name: str, relu: bool) -> Tensor:
        kinds = {MaxPool2D: "MAX_POOL_2D", AveragePool2D: "AVERAGE_POOL_2D"}
        layer: Any = placed.layer
        window = {"filterWidth": layer.kernel, "filterHeight": layer.kernel}
        output = renamed(x, name, (1, *placed.output_shape))
        options = {**window, **self._strides(layer.stride, "VALID"), **self._fused(relu)}
        kind = kinds[type(placed.layer)]
        return self._writer.operator(kind, [self._image(x, placed)], output, **options)

    def mean(self, placed: PlacedLayer, x: Tensor, name: str, relu: bool) -> Tensor:
        axes = self._writer.constant(f"{name}/axes", np.array([1, 2], np.int32))
        output = self._values.activation(name, (1, placed.output_shape[2]), x)
        return self._writer.operator("MEAN", [self._image(x, placed), axes], output, keepDims=False)

    def flatten(self, placed: PlacedLayer, x: Tensor, name: str, relu: bool) -> Tensor:
        return self.vector(x)

    def relu(self, placed: PlacedLayer, x: Tensor, name: str, relu: bool) -> Tensor:
        return self._writer.operator("RELU", [x], self._values.activation(name, x.shape, x))

    def tanh(self, placed: PlacedLayer, x: Tensor, name: str, relu: bool) -> Tensor:
        return self._writer.operator("TANH", [x], self._values.fixed(name, x.shape, TANH_SCALE))

    def vector(self, x: Tensor) -> Tensor:
        """The same as `(1, n)`."""
        return self._reshaped(x, (1, values_of(x)))

    def _image(self, x: Tensor, placed: PlacedLayer) -> Tensor:
        return self._reshaped(x, (1, *placed.input_shape))

    def _reshaped(self, x: Tensor, shape: tuple[int, ...]) -> Tensor:
        if x.shape == shape:
            return x
        name = f"{x.name}/{'vector' if len(shape) == 2 else 'image'}"
        sides = self._writer.constant(f"{name}/shape", np.array(shape, np.int32))
        output = renamed(x, name, shape)
        return self._writer.operator("RESHAPE", [x, sides], output, newShape=list(shape))

    def _convolution(
        self,
        kind: str,
        placed: PlacedLayer,
        weights: Floats,
        biases: Floats,
        x: Tensor,
        name: str,
        options: dict[str, Any],
    ) -> Tensor:
        layer: Any = placed.layer
        x, padding = self._padded(placed, self._image(x, placed))
        inputs = [x, *self._constants(placed, weights, biases, x)]
        output = self._values.activation(name, (1, *placed.output_shape), x, inputs[1])
        options = {**options, **self._strides(layer.stride, padding)}
        return self._writer.operator(kind, inputs, output, **options)

    def _padded(self, placed: PlacedLayer, x: Tensor) -> tuple[Tensor, str]:
        """What has the layer's padding around it, and LiteRT's name for what is left to do."""
        layer: Any = placed.layer
        if layer.padding == 0:
            return x, "VALID"
        sides = list(zip(placed.input_shape[:2], placed.output_shape[:2], strict=True))
        if all(same_is_ours(layer, *side) for side in sides):
            return x, "SAME"
        (top, bottom), (left, right) = (needed_padding(layer, *side) for side in sides)
        amounts = np.array([[0, 0], [top, bottom], [left, right], [0, 0]], np.int32)
        height, width, channels = placed.input_shape
        shape = (1, top + height + bottom, left + width + right, channels)
        constant = self._writer.constant(f"{placed.name}/padding", amounts)
        output = renamed(x, f"{placed.name}/padded", shape)
        return self._writer.operator("PAD", [x, constant], output), "VALID"

    def _constants(
        self, placed: PlacedLayer, weights: Floats, biases: Floats, x: Tensor
    ) -> tuple[Tensor, Tensor]:
        ordered = np.ascontiguousarray(weights)
        return self._values.parameters(self._writer, placed, ordered, biases, x)

    def _fused(self, relu: bool) -> dict[str, int]:
        name = "RELU" if relu else "NONE"
        return {"fusedActivationFunction": self._writer.named("ActivationFunctionType", name)}

    def _strides(self, stride: int, padding: str) -> dict[str, int]:
        padded = self._writer.named("Padding", padding)
        return {"strideW": stride, "strideH": stride, "padding": padded}


def same_is_ours(layer: Any, side: int, outputs: int) -> bool:
    """Whether LiteRT's SAME means what the layer does along one side of its input.

    SAME gives ceil(side / stride) outputs, and of the zeros that they need the smaller half before
    the first value. With the same outputs and the same zeros before, all taps are the same.
    """
    if outputs != -(-side // layer.stride):
        return False
    total = max((outputs - 1) * layer.stride + layer.kernel - side, 0)
    return bool(total // 2 == layer.padding)


def needed_padding(layer: Any, side: int, outputs: int) -> tuple[int, int]:
    """Zeros before and after along one side; those after the last output's taps are left out."""
    reach = (outputs - 1) * layer.stride + layer.kernel - layer.padding
    return layer.padding, max(0, reach - side)


_KINDS: dict[type, Any] = {
    Dense: _LayerWriter.dense,
    Conv2D: _LayerWriter.conv2d,
    DepthwiseConv2D: _LayerWriter.depthwise,
    MaxPool2D: _LayerWriter.pool,
    AveragePool2D: _LayerWriter.pool,
    GlobalAveragePool2D: _LayerWriter.mean,
    Flatten: _LayerWriter.flatten,
    ReLU: _LayerWriter.relu,
    Tanh: _LayerWriter.tanh,
}
