"""The learner in NumPy float64, written to be right by inspection; tests measure the others by it.

Each layer kind is a pair of functions on one sample: `forward(weights, biases, x) -> y` and
`backward(weights, x, dy) -> (dx, dweights, dbiases)`. Nothing is shared with the other learners.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

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
class Kind:
    """The mathematics of one layer kind, for one sample."""

    forward: Callable[[Layer, Array, Array, Array], Array]
    backward: Callable[[Layer, Array, Array, Array], Gradients]


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
            weights, _ = weights_and_biases(placed, parameters)
            backward = KINDS[type(placed.layer)].backward
            dy, dw, db = backward(placed.layer, weights, x_in, dy.reshape(placed.output_shape))
            gradient[placed.start : placed.stop] = np.concatenate([dw.ravel(), db])
        return loss, gradient

    def train(self, parameters: Array, samples: Samples, phase: Phase) -> Trained:
        """Run `phase`; changes the float64 `parameters` in place."""
        learning = self._learning(phase)
        losses: list[float] = []
        for batch in _batches(samples, phase):
            pairs = zip(batch.inputs.astype(float), batch.targets.astype(float), strict=True)
            results = [self.gradient(parameters, x, t) for x, t in pairs]
            losses += [loss for loss, _ in results]
            mean = np.mean([gradient for _, gradient in results], axis=0)
            parameters -= phase.rate * learning * mean
            if not np.isfinite(losses).all():
                break
        finite = bool(np.isfinite(losses).all() and np.isfinite(parameters).all())
        return Trained(float(np.mean(losses)), phase.updates, finite)

    def _forward(self, parameters: Array, x: Array) -> list[Array]:
        """The input of every layer, then the output of the last."""
        values = [x.reshape(self.spec.input_shape)]
        for placed in self.spec.placed:
            weights, biases = weights_and_biases(placed, parameters)
            forward = KINDS[type(placed.layer)].forward
            y = forward(placed.layer, weights, biases, values[-1])
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
    # For targets that sum to 1; written as the learner computes it, dy = p - t, it holds for those only.
    return float(-np.sum(t * log_p)), np.exp(log_p) - t


def _batches(samples: Samples, phase: Phase) -> Iterator[Samples]:
    for _ in range(phase.passes):
        for first in range(0, phase.samples, phase.batch_size):
            yield samples[first : first + phase.batch_size]


# ---- dense ----


def _dense(layer: Layer, weights: Array, biases: Array, x: Array) -> Array:
    return x @ weights + biases


def _dense_back(layer: Layer, weights: Array, x: Array, dy: Array) -> Gradients:
    return dy @ weights.T, np.outer(x, dy), dy.ravel()


# ---- windows: every kind that slides over an image ----


def _padded(x: Array, padding: int) -> Array:
    return np.pad(x, ((padding, padding), (padding, padding), (0, 0)))


def _windows(layer: Layer, x: Array) -> Array:
    """`(out height, out width, channels, kernel, kernel)`: what each output pixel sees; a view."""
    kernel, stride = _side(layer), layer.stride  # type: ignore[attr-defined]
    views = np.lib.stride_tricks.sliding_window_view(x, (kernel, kernel), axis=(0, 1))
    return views[::stride, ::stride]


def _windows_back(layer: Layer, shape: tuple[int, ...], dwindows: Array) -> Array:
    """The gradient of the (padded) image from the gradient of its windows."""
    kernel, stride = _side(layer), layer.stride  # type: ignore[attr-defined]
    dx = np.zeros(shape)
    for oy, ox in np.ndindex(*dwindows.shape[:2]):
        top, left = oy * stride, ox * stride
        part = dwindows[oy, ox].transpose(1, 2, 0)
        dx[top : top + kernel, left : left + kernel] += part
    return dx


def _side(layer: Layer) -> int:
    kernel: int = layer.kernel  # type: ignore[attr-defined]
    return kernel


def _cropped(x: Array, padding: int) -> Array:
    return x[padding : x.shape[0] - padding, padding : x.shape[1] - padding]


def _conv(layer: Layer, weights: Array, biases: Array, x: Array) -> Array:
    assert isinstance(layer, Conv2D)  # noqa: S101 - for the type checker
    return (
        np.einsum("yxckl,klcf->yxf", _windows(layer, _padded(x, layer.padding)), weights) + biases
    )


def _conv_back(layer: Layer, weights: Array, x: Array, dy: Array) -> Gradients:
    assert isinstance(layer, Conv2D)  # noqa: S101
    padded = _padded(x, layer.padding)
    dw = np.einsum("yxckl,yxf->klcf", _windows(layer, padded), dy)
    dwindows = np.einsum("yxf,klcf->yxckl", dy, weights)
    dx = _cropped(_windows_back(layer, padded.shape, dwindows), layer.padding)
    return dx, dw, dy.sum(axis=(0, 1))


def _depthwise(layer: Layer, weights: Array, biases: Array, x: Array) -> Array:
    assert isinstance(layer, DepthwiseConv2D)  # noqa: S101
    return np.einsum("yxckl,klc->yxc", _windows(layer, _padded(x, layer.padding)), weights) + biases


def _depthwise_back(layer: Layer, weights: Array, x: Array, dy: Array) -> Gradients:
    assert isinstance(layer, DepthwiseConv2D)  # noqa: S101
    padded = _padded(x, layer.padding)
    dw = np.einsum("yxckl,yxc->klc", _windows(layer, padded), dy)
    dwindows = np.einsum("yxc,klc->yxckl", dy, weights)
    dx = _cropped(_windows_back(layer, padded.shape, dwindows), layer.padding)
    return dx, dw, dy.sum(axis=(0, 1))


def _max_pool(layer: Layer, weights: Array, biases: Array, x: Array) -> Array:
    return _windows(layer, x).max(axis=(3, 4))


def _max_pool_back(layer: Layer, weights: Array, x: Array, dy: Array) -> Gradients:
    windows = _windows(layer, x)
    flat = windows.reshape(*windows.shape[:3], -1)
    first = flat.argmax(axis=-1)  # the first one among equals
    chosen = first[..., None] == np.arange(flat.shape[-1])
    dwindows = (chosen * dy[..., None]).reshape(windows.shape)
    return _windows_back(layer, x.shape, dwindows), _NONE, _NONE


def _average_pool(layer: Layer, weights: Array, biases: Array, x: Array) -> Array:
    return _windows(layer, x).mean(axis=(3, 4))


def _average_pool_back(layer: Layer, weights: Array, x: Array, dy: Array) -> Gradients:
    share = np.broadcast_to(dy[..., None, None] / _side(layer) ** 2, _windows(layer, x).shape)
    return _windows_back(layer, x.shape, share), _NONE, _NONE


# ---- kinds without windows ----


def _global_average(layer: Layer, weights: Array, biases: Array, x: Array) -> Array:
    return x.mean(axis=(0, 1))


def _global_average_back(layer: Layer, weights: Array, x: Array, dy: Array) -> Gradients:
    return np.broadcast_to(dy / (x.shape[0] * x.shape[1]), x.shape), _NONE, _NONE


def _flatten(layer: Layer, weights: Array, biases: Array, x: Array) -> Array:
    return x.ravel()


def _flatten_back(layer: Layer, weights: Array, x: Array, dy: Array) -> Gradients:
    return dy.reshape(x.shape), _NONE, _NONE


def _relu(layer: Layer, weights: Array, biases: Array, x: Array) -> Array:
    return np.maximum(x, 0.0)


def _relu_back(layer: Layer, weights: Array, x: Array, dy: Array) -> Gradients:
    return np.where(x > 0.0, dy, 0.0), _NONE, _NONE


def _tanh(layer: Layer, weights: Array, biases: Array, x: Array) -> Array:
    return np.tanh(x)


def _tanh_back(layer: Layer, weights: Array, x: Array, dy: Array) -> Gradients:
    return dy * (1.0 - np.tanh(x) ** 2), _NONE, _NONE


KINDS: dict[type[Layer], Kind] = {
    Dense: Kind(_dense, _dense_back),
    Conv2D: Kind(_conv, _conv_back),
    DepthwiseConv2D: Kind(_depthwise, _depthwise_back),
    MaxPool2D: Kind(_max_pool, _max_pool_back),
    AveragePool2D: Kind(_average_pool, _average_pool_back),
    GlobalAveragePool2D: Kind(_global_average, _global_average_back),
    Flatten: Kind(_flatten, _flatten_back),
    ReLU: Kind(_relu, _relu_back),
    Tanh: Kind(_tanh, _tanh_back),
}
