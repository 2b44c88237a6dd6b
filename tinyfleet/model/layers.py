"""The layer kinds a model is built from, and the arithmetic of their shapes.

A shape is `(height, width, channels)`; a plain vector of n values is `(1, 1, n)`. Images are
stored row by row, channels last. Each layer knows its output shape and the shapes of its own
parameters; nothing here computes with parameters.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from tinyfleet.errors import InvalidInput

Shape = tuple[int, int, int]

MAX_SIDE = 1024  # our choice: bounds what a hostile layer table can ask for
MAX_CHANNELS = 4096


@dataclass(frozen=True)
class Layer:
    """What every layer has in common: a kind, an output shape and possibly parameters."""

    kind: ClassVar[str]

    def output_shape(self, shape: Shape) -> Shape:
        """The shape this layer makes of `shape`; raises InvalidInput if it cannot."""
        return shape

    def weight_shape(self, shape: Shape) -> tuple[int, ...]:
        """Shape of the weights, `()` for a layer without any; the last axis is the output."""
        return ()

    def biases(self, shape: Shape) -> int:
        """How many biases come after the weights: one for each output, where there are weights."""
        weights = self.weight_shape(shape)
        return weights[-1] if weights else 0

    def fan_in(self, shape: Shape) -> int:
        """How many inputs feed one output value; 0 for a layer without parameters."""
        weights = self.weight_shape(shape)
        return _product(weights[:-1]) if weights else 0


@dataclass(frozen=True)
class Dense(Layer):
    """`y = x W + b` on a vector; W is `(inputs, units)`, stored input-major."""

    kind = "dense"
    units: int

    def output_shape(self, shape: Shape) -> Shape:
        if shape[:2] != (1, 1):
            raise InvalidInput(f"dense needs a vector, got {shape}: put a flatten layer before it")
        return (1, 1, self.units)

    def weight_shape(self, shape: Shape) -> tuple[int, ...]:
        return (shape[2], self.units)


@dataclass(frozen=True)
class Conv2D(Layer):
    """2-D convolution, square kernel, zero padding on all sides; W is `(k, k, in, filters)`."""

    kind = "conv2d"
    filters: int
    kernel: int = 3
    stride: int = 1
    padding: int = 0

    def output_shape(self, shape: Shape) -> Shape:
        return (*_windows(self, shape, self.kernel, self.stride, self.padding), self.filters)

    def weight_shape(self, shape: Shape) -> tuple[int, ...]:
        return (self.kernel, self.kernel, shape[2], self.filters)


@dataclass(frozen=True)
class DepthwiseConv2D(Layer):
    """One k x k filter per channel, multiplier 1, zero padding; W is `(k, k, channels)`."""

    kind = "depthwise_conv2d"
    kernel: int = 3
    stride: int = 1
    padding: int = 0

    def output_shape(self, shape: Shape) -> Shape:
        return (*_windows(self, shape, self.kernel, self.stride, self.padding), shape[2])

    def weight_shape(self, shape: Shape) -> tuple[int, ...]:
        return (self.kernel, self.kernel, shape[2])


@dataclass(frozen=True)
class MaxPool2D(Layer):
    """Largest value of each k x k window and channel; the first one wins a tie."""

    kind = "max_pool2d"
    kernel: int = 2
    stride: int = 2

    def output_shape(self, shape: Shape) -> Shape:
        return (*_windows(self, shape, self.kernel, self.stride, 0), shape[2])


@dataclass(frozen=True)
class AveragePool2D(Layer):
    """Mean of each k x k window and channel."""

    kind = "average_pool2d"
    kernel: int = 2
    stride: int = 2

    def output_shape(self, shape: Shape) -> Shape:
        return (*_windows(self, shape, self.kernel, self.stride, 0), shape[2])


@dataclass(frozen=True)
class GlobalAveragePool2D(Layer):
    """Mean of each channel over the whole image: `(h, w, c)` to `(1, 1, c)`."""

    kind = "global_average_pool2d"

    def output_shape(self, shape: Shape) -> Shape:
        return (1, 1, shape[2])


@dataclass(frozen=True)
class Flatten(Layer):
    """`(h, w, c)` to a vector of `h*w*c` values in storage order."""

    kind = "flatten"

    def output_shape(self, shape: Shape) -> Shape:
        return (1, 1, _product(shape))


@dataclass(frozen=True)
class ReLU(Layer):
    """`max(x, 0)`; the derivative at 0 is 0."""

    kind = "relu"


@dataclass(frozen=True)
class Tanh(Layer):
    """Hyperbolic tangent."""

    kind = "tanh"


@dataclass(frozen=True)
class Tensor(Layer):
    """A weight tensor of a network that computes by itself, of which only this is known.

    values: how many there are. outputs: of the whole network, the same for each of its tensors. All
    layers of a model are tensors, or none is; `tinyfleet.model.trainable` says what computes.
    """

    kind = "tensor"
    values: int
    outputs: int

    def output_shape(self, shape: Shape) -> Shape:
        return (1, 1, self.outputs)

    def weight_shape(self, shape: Shape) -> tuple[int, ...]:
        return (self.values,)

    def biases(self, shape: Shape) -> int:
        return 0


LAYER_KINDS: dict[str, type[Layer]] = {
    layer.kind: layer
    for layer in (
        Dense,
        Conv2D,
        DepthwiseConv2D,
        MaxPool2D,
        AveragePool2D,
        GlobalAveragePool2D,
        Flatten,
        ReLU,
        Tanh,
        Tensor,
    )
}


def _windows(layer: Layer, shape: Shape, kernel: int, stride: int, padding: int) -> tuple[int, int]:
    height, width = (side + 2 * padding - kernel for side in shape[:2])
    if height < 0 or width < 0:
        raise InvalidInput(f"{layer.kind}: kernel {kernel} is larger than its input {shape}")
    if padding >= kernel:
        raise InvalidInput(f"{layer.kind}: padding {padding} must be below the kernel {kernel}")
    return height // stride + 1, width // stride + 1


def _product(sides: tuple[int, ...]) -> int:
    product = 1
    for side in sides:
        product *= side
    return product
