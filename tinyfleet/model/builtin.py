"""The models that come with TinyFleet, by name.

Sizes are our choice, made so that each fits a microcontroller with 256 KB of RAM. Classifier
sizes are quoted for 5 classes.
"""

from __future__ import annotations

from collections.abc import Callable

from tinyfleet.errors import unknown_name
from tinyfleet.model.layers import (
    Conv2D,
    Dense,
    DepthwiseConv2D,
    Flatten,
    GlobalAveragePool2D,
    Layer,
    ReLU,
    Shape,
)
from tinyfleet.model.spec import ModelSpec


def linear(name: str, shape: Shape, outputs: int, loss: str) -> ModelSpec:
    """One dense layer on a vector, or on the values of an image: a head for given features."""
    flat: tuple[Layer, ...] = () if shape[:2] == (1, 1) else (Flatten(),)
    return ModelSpec(name, shape, (*flat, Dense(outputs)), loss)


def mlp(name: str, hidden: int, shape: Shape, outputs: int, loss: str) -> ModelSpec:
    """Two hidden ReLU layers of `hidden` units on a vector, or on the values of an image."""
    flat: tuple[Layer, ...] = () if shape[:2] == (1, 1) else (Flatten(),)
    layers = (Dense(hidden), ReLU(), Dense(hidden), ReLU(), Dense(outputs))
    return ModelSpec(name, shape, (*flat, *layers), loss)


def cnn(name: str, filters: tuple[int, ...], shape: Shape, outputs: int, loss: str) -> ModelSpec:
    """3x3 convolutions of stride 2 with ReLU, one per entry of `filters`, then a dense layer."""
    body: list[Layer] = []
    for count in filters:
        body += [Conv2D(count, kernel=3, stride=2, padding=1), ReLU()]
    return ModelSpec(name, shape, (*body, Flatten(), Dense(outputs)), loss)


def ds_cnn(
    name: str, filters: int, strides: tuple[int, ...], shape: Shape, outputs: int, loss: str
) -> ModelSpec:
    """Depthwise-separable blocks, `filters` wide, then the mean over the image and a dense layer.

    A 3x3 convolution of stride 2 comes first; `strides` has one entry a block. The design is that
    of Zhang et al., "Hello Edge", arXiv 1711.07128, without batch normalization, which learning one
    sample at a time does not allow. A block has one ReLU, after its 1x1 convolution: our choice,
    with another one in between it learned far more slowly.
    """
    body: list[Layer] = [Conv2D(filters, kernel=3, stride=2, padding=1), ReLU()]
    for stride in strides:
        body += [DepthwiseConv2D(3, stride, padding=1), Conv2D(filters, kernel=1), ReLU()]
    return ModelSpec(name, shape, (*body, GlobalAveragePool2D(), Dense(outputs)), loss)


def _linear(name: str) -> Callable[[Shape, int, str], ModelSpec]:
    return lambda shape, outputs, loss: linear(name, shape, outputs, loss)


def _mlp(name: str, hidden: int) -> Callable[[Shape, int, str], ModelSpec]:
    return lambda shape, outputs, loss: mlp(name, hidden, shape, outputs, loss)


def _cnn(name: str, *filters: int) -> Callable[[Shape, int, str], ModelSpec]:
    return lambda shape, outputs, loss: cnn(name, filters, shape, outputs, loss)


def _ds_cnn(name: str, filters: int, *strides: int) -> Callable[[Shape, int, str], ModelSpec]:
    return lambda shape, outputs, loss: ds_cnn(name, filters, strides, shape, outputs, loss)


BUILTIN_MODELS: dict[str, Callable[[Shape, int, str], ModelSpec]] = {
    "mlp_32": _mlp("mlp_32", 32),  # 1-32-32-1: 1,153 parameters
    "mlp_64": _mlp("mlp_64", 64),  # 1-64-64-1: 4,353
    "cnn_s": _cnn("cnn_s", 8, 16, 32),  # 28x28x1 to 5 classes: 8,453
    "cnn_m": _cnn("cnn_m", 32, 32, 32, 32),  # 28x28x1 to 5 classes: 28,709
    "cnn_l": _cnn("cnn_l", 24, 40, 48, 48),  # 28x28x1 to 5 classes: 47,997, nearly all of 256 KB
    "linear": _linear("linear"),  # 64 features to 4 classes: 260
    "ds_cnn_s": _ds_cnn("ds_cnn_s", 64, 2, 1),  # 49x10x1 to 4 classes: 10,500
}


def builtin_model(name: str, input_shape: Shape, outputs: int, loss: str) -> ModelSpec:
    """The built-in model `name`, made for a task's input shape, number of outputs and loss."""
    if name not in BUILTIN_MODELS:
        raise unknown_name("model", name, BUILTIN_MODELS)
    return BUILTIN_MODELS[name](input_shape, outputs, loss)
