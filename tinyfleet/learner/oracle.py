"""The learner in NumPy float64, written to be right by inspection; tests measure the others by it.

Each layer kind is a pair of functions on one sample: `forward(at) -> y` and
`backward(at, dy) -> (dx, dweights, dbiases)`. Nothing is shared with the other learners.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tinyfleet.learner.protocol import Samples, Trained
from tinyfleet.model.layers import (
    AveragePool2D,
    Conv2D,
    Dense,
    DepthwiseConv2D,
    Flatten,
    GlobalAveragePool2D,
    Layer,
    MaxPool2D,
    ReLU,
    Tanh,
)
from tinyfleet.model.spec import ModelSpec, PlacedLayer
from tinyfleet.strategies.plan import Phase

Array = npt.NDArray[np.float64]
Gradients = tuple[Array, Array, Array]
_NONE = np.zeros(0)


@dataclass(frozen=True)
class At:
    """A layer at work on one sample: itself, its weights and biases, its input."""

    layer: Any
    weights: Array
    biases: Array
    x: Array


@dataclass(frozen=True)
class Kind:
    """The mathematics of one layer kind, for one sample."""

    forward: Callable[[At], Array]
    backward: Callable[[At, Array], Gradients]


class OracleLearner:
    """A Learner in float64: parameters, inputs and results are float64 arrays."""

    def __init__(self, spec: ModelSpec) -> None:
        self.spec = spec

    def predict(self, parameters: Array, inputs: Array) -> Array:
        """`(count, outputs) float64`."""
        return np.array([self._forward(parameters, row)[-1].ravel() for row in inputs])

    def losses(self, parameters: Array, samples: Samples) -> Array:
        """`(count,) float64`."""
        predicted = self.predict(parameters, samples.inputs.astype(np.float64))
        pairs = zip(predicted, samples.targets.astype(np.float64), strict=True)
        return np.array([loss_and_gradient(self.spec.loss, y, t)[0] for y, t in pairs])

    def gradient(self, parameters: Array, x: Array, t: Array) -> tuple[float, Array]:
        """The loss of one sample and its gradient by all parameters."""
        values = self._forward(parameters, x)
        loss, dy = loss_and_gradient(self.spec.loss, values[-1].ravel(), t)
        gradient = np.zeros(self.spec.parameter_count)
        for placed, x_in in zip(self.spec.placed[::-1], values[-2::-1], strict=True):
            at = At(placed.layer, *weights_and_biases(placed, parameters), x_in)
            backward = KINDS[type(placed.layer)].backward
            dy, dw, db = backward(at, dy.reshape(placed.output_shape))
            gradient[placed.start : placed.stop] = np.concatenate([dw.ravel(), db])
        return loss, gradient

    def train(
        self, parameters: Array, samples: Samples, phase: Phase, start: Array | None = None
    ) -> Trained:
        """Run `phase`; changes the float64 `parameters` in place. start: of a proximal phase."""
        learning = self._learning(phase)
        losses: list[float] = []
        for batch in _batches(samples, phase):
            pairs = zip(batch.inputs.astype(float), batch.targets.astype(float), strict=True)
            results = [self.gradient(parameters, x, t) for x, t in pairs]
            losses += [loss for loss, _ in results]
            mean = np.mean([gradient for _, gradient in results], axis=0)
            parameters -= phase.rate * learning * mean
            if phase.proximal and start is not None:
                parameters -= phase.rate * phase.proximal * learning * (parameters - start)
            if not np.isfinite(losses).all():
                break
        finite = bool(np.isfinite(losses).all() and np.isfinite(parameters).all())
        return Trained(float(np.mean(losses)), phase.updates, finite)

    def _forward(self, parameters: Array, x: Array) -> list[Array]:
        """The input of every layer, then the output of the last."""
        values = [x.reshape(self.spec.input_shape)]
        for placed in self.spec.placed:
            at = At(placed.layer, *weights_and_biases(placed, parameters), values[-1])
            y = KINDS[type(placed.layer)].forward(at)
            values.append(y.reshape(placed.output_shape))
        return values

    def _learning(self, phase: Phase) -> Array:
        """1 for each parameter that learns in the phase, 0 for the others."""
        learning = np.zeros(self.spec.parameter_count)
        for placed in self.spec.placed:
            if not phase.trainable or placed.name in phase.trainable:
                learning[placed.start : placed.stop] = 1.0
        return learning


def weights_and_biases(placed: PlacedLayer, parameters: Array) -> tuple[Array, Array]:
    """Views of a layer's weights, in their shape, and its biases; empty without parameters."""
    if not placed.trainable:
        return _NONE, _NONE
    middle = placed.start + placed.weights
    shape = placed.layer.weight_shape(placed.input_shape)
    return parameters[placed.start : middle].reshape(shape), parameters[middle : placed.stop]


def loss_and_gradient(loss: str, y: Array, t: Array) -> tuple[float, Array]:
    """The loss of outputs `y` against target `t`, and its gradient by `y`."""
    if loss == "mean_squared_error":
        return float(np.mean((y - t) ** 2)), 2.0 * (y - t) / y.size
    log_p = y - y.max() - np.log(np.sum(np.exp(y - y.max())))
    # dy = p - t holds for targets that sum to 1, and only those are distributions.
    return float(-np.sum(t * log_p)), np.exp(log_p) - t


def _batches(samples: Samples, phase: Phase) -> Iterator[Samples]:
    for _ in range(phase.passes):
        for first in range(0, phase.samples, phase.batch_size):
            yield samples[first : first + phase.batch_size]


# ---- dense ----


def _dense(at: At) -> Array:
    y: Array = at.x @ at.weights + at.biases
    return y


def _dense_back(at: At, dy: Array) -> Gradients:
    return dy @ at.weights.T, np.outer(at.x, dy), dy.ravel()


# ---- windows: every kind that slides over an image ----


def _padded(at: At) -> Array:
    padding = at.layer.padding
    return np.pad(at.x, ((padding, padding), (padding, padding), (0, 0)))


def _cropped(at: At, dx: Array) -> Array:
    padding = at.layer.padding
    return dx[padding : dx.shape[0] - padding, padding : dx.shape[1] - padding]


def _windows(layer: Any, x: Array) -> Array:
    """`(out height, out width, channels, kernel, kernel)`: what each output pixel sees; a view."""
    window = (layer.kernel, layer.kernel)
    views: Array = np.lib.stride_tricks.sliding_window_view(x, window, axis=(0, 1))
    return views[:: layer.stride, :: layer.stride]


def _windows_back(layer: Any, shape: tuple[int, ...], dwindows: Array) -> Array:
    """The gradient of the (padded) image from the gradient of its windows."""
    kernel, stride = layer.kernel, layer.stride
    dx = np.zeros(shape)
    for oy, ox in np.ndindex(*dwindows.shape[:2]):
        top, left = oy * stride, ox * stride
        part = dwindows[oy, ox].transpose(1, 2, 0)
        dx[top : top + kernel, left : left + kernel] += part
    return dx


def _convolution(products: str, products_dw: str, products_dx: str) -> Kind:
    """A convolution from the einsums of its output, weights' gradient and windows' gradient."""

    def forward(at: At) -> Array:
        y: Array = np.einsum(products, _windows(at.layer, _padded(at)), at.weights) + at.biases
        return y

    def backward(at: At, dy: Array) -> Gradients:
        padded = _padded(at)
        dw = np.einsum(products_dw, _windows(at.layer, padded), dy)
        dwindows = np.einsum(products_dx, dy, at.weights)
        dx = _cropped(at, _windows_back(at.layer, padded.shape, dwindows))
        return dx, dw, dy.sum(axis=(0, 1))

    return Kind(forward, backward)


def _max_pool(at: At) -> Array:
    largest: Array = _windows(at.layer, at.x).max(axis=(3, 4))
    return largest


def _max_pool_back(at: At, dy: Array) -> Gradients:
    windows = _windows(at.layer, at.x)
    flat = windows.reshape(*windows.shape[:3], -1)
    first = flat.argmax(axis=-1)  # the first one among equals
    chosen = first[..., None] == np.arange(flat.shape[-1])
    dwindows = (chosen * dy[..., None]).reshape(windows.shape)
    return _windows_back(at.layer, at.x.shape, dwindows), _NONE, _NONE


def _average_pool(at: At) -> Array:
    mean: Array = _windows(at.layer, at.x).mean(axis=(3, 4))
    return mean


def _average_pool_back(at: At, dy: Array) -> Gradients:
    shape = _windows(at.layer, at.x).shape
    share = np.broadcast_to(dy[..., None, None] / at.layer.kernel**2, shape)
    return _windows_back(at.layer, at.x.shape, share), _NONE, _NONE


# ---- kinds without windows ----


def _global_average(at: At) -> Array:
    mean: Array = at.x.mean(axis=(0, 1))
    return mean


def _global_average_back(at: At, dy: Array) -> Gradients:
    pixels = at.x.shape[0] * at.x.shape[1]
    return np.broadcast_to(dy / pixels, at.x.shape), _NONE, _NONE


def _flatten(at: At) -> Array:
    return at.x.ravel()


def _flatten_back(at: At, dy: Array) -> Gradients:
    return dy.reshape(at.x.shape), _NONE, _NONE


def _relu(at: At) -> Array:
    return np.maximum(at.x, 0.0)


def _relu_back(at: At, dy: Array) -> Gradients:
    return np.where(at.x > 0.0, dy, 0.0), _NONE, _NONE


def _tanh(at: At) -> Array:
    return np.tanh(at.x)


def _tanh_back(at: At, dy: Array) -> Gradients:
    return dy * (1.0 - np.tanh(at.x) ** 2), _NONE, _NONE


KINDS: dict[type[Layer], Kind] = {
    Dense: Kind(_dense, _dense_back),
    Conv2D: _convolution("yxckl,klcf->yxf", "yxckl,yxf->klcf", "yxf,klcf->yxckl"),
    DepthwiseConv2D: _convolution("yxckl,klc->yxc", "yxckl,yxc->klc", "yxc,klc->yxckl"),
    MaxPool2D: Kind(_max_pool, _max_pool_back),
    AveragePool2D: Kind(_average_pool, _average_pool_back),
    GlobalAveragePool2D: Kind(_global_average, _global_average_back),
    Flatten: Kind(_flatten, _flatten_back),
    ReLU: Kind(_relu, _relu_back),
    Tanh: Kind(_tanh, _tanh_back),
}
