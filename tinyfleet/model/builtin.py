"""The models that come with TinyFleet, by name.

Sizes are our choice, made so that each fits a microcontroller with 256 KB of RAM. Classifier
sizes are quoted for 5 classes.
"""

from __future__ import annotations

from collections.abc import Callable

from tinyfleet.errors import unknown_name
from tinyfleet.model.layers import Conv2D, Dense, Flatten, Layer, ReLU, Shape
from tinyfleet.model.spec import ModelSpec


def mlp(name: str, hidden: int, inputs: int, outputs: int, loss: str) -> ModelSpec:
    """Two hidden ReLU layers of `hidden` units on a vector."""
    layers = (Dense(hidden), ReLU(), Dense(hidden), ReLU(), Dense(outputs))
    return ModelSpec(name, (1, 1, inputs), layers, loss)


def cnn(name: str, filters: tuple[int, ...], shape: Shape, outputs: int, loss: str) -> ModelSpec:
    """3x3 convolutions of stride 2 with ReLU, one per entry of `filters`, then a dense layer."""
    body: list[Layer] = []
    for count in filters:
        body += [Conv2D(count, kernel=3, stride=2, padding=1), ReLU()]
    return ModelSpec(name, shape, (*body, Flatten(), Dense(outputs)), loss)


def _mlp(name: str, hidden: int) -> Callable[[Shape, int, str], ModelSpec]:
    return lambda shape, outputs, loss: mlp(
        name, hidden, shape[0] * shape[1] * shape[2], outputs, loss
    )


def _cnn(name: str, *filters: int) -> Callable[[Shape, int, str], ModelSpec]:
    return lambda shape, outputs, loss: cnn(name, filters, shape, outputs, loss)


BUILTIN_MODELS: dict[str, Callable[[Shape, int, str], ModelSpec]] = {
    "mlp_32": _mlp("mlp_32", 32),  # 1-32-32-1: 1,153 parameters
    "mlp_64": _mlp("mlp_64", 64),  # 1-64-64-1: 4,353
    "cnn_s": _cnn("cnn_s", 8, 16, 32),  # 28x28x1 to 5 classes: 8,453
    "cnn_m": _cnn("cnn_m", 32, 32, 32, 32),  # 28x28x1 to 5 classes: 28,709
}


def builtin_model(name: str, input_shape: Shape, outputs: int, loss: str) -> ModelSpec:
    """The built-in model `name`, made for a task's input shape, number of outputs and loss."""
    if name not in BUILTIN_MODELS:
        raise unknown_name("model", name, BUILTIN_MODELS)
    return BUILTIN_MODELS[name](input_shape, outputs, loss)
