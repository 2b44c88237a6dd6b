"""The learner in NumPy float32: the operations of the C learner in their order, so its bits.

docs/numerics.md is the contract of both. It runs where there is no C compiler, and it is what the
native learner's bits are checked against. NumPy's own reductions (`sum`, `@`) add in an order of
their own, so every sum here is either spelled out or `np.add.accumulate`, which adds from left to
right.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinyfleet.learner.elementary import exp32, log32, tanh32
from tinyfleet.learner.protocol import (
    Floats,
    Samples,
    Trained,
    check_inputs,
    check_phase,
    check_samples,
)
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
from tinyfleet.model.spec import ModelSpec, Parameters, PlacedLayer
from tinyfleet.strategies.plan import Phase

Ints = np.ndarray[tuple[int, ...], np.dtype[np.intp]]

_ZERO, _ONE, _TWO = np.float32(0.0), np.float32(1.0), np.float32(2.0)
_LANES = 8
_TERMS = 1 << 20  # floats of one table of terms: our choice, 4 MB


class ReferenceLearner:
    """The Learner in NumPy float32."""

    def __init__(self, spec: ModelSpec) -> None:
        self._spec = spec
        self._layers = [_KINDS[type(placed.layer)](placed) for placed in spec.placed]

    @property
    def spec(self) -> ModelSpec:
        return self._spec

    def predict(self, parameters: Parameters, inputs: Floats) -> Floats:
        self._spec.check_parameters(parameters)
        rows = check_inputs(self._spec, inputs)
        outputs = np.empty((len(rows), self._spec.outputs), np.float32)
        with _quiet():
            for row, output in zip(rows, outputs, strict=True):
                output[:] = self._forward(parameters, row)[-1].ravel()
        return outputs

    def losses(self, parameters: Parameters, samples: Samples) -> Floats:
        check_samples(self._spec, samples)
        predicted = self.predict(parameters, samples.inputs)
        losses = np.empty(len(samples), np.float32)
        with _quiet():
            for index, (y, t) in enumerate(zip(predicted, samples.targets, strict=True)):
                losses[index] = _LOSSES[self._spec.loss](y, t)[0]
        return losses

    def train(
        self,
        parameters: Parameters,
        samples: Samples,
        phase: Phase,
        start: Parameters | None = None,
    ) -> Trained:
        check_phase(self._spec, parameters, samples, phase, start)
        run = _Run(self, parameters, phase, start)
        with _quiet():
            finite = run.all_passes(samples) and bool(np.isfinite(parameters).all())
        loss = run.loss_sum / run.losses if finite else float("nan")
        return Trained(loss, run.updates, finite)

    def step(
        self, parameters: Parameters, x: Floats, t: Floats, mask: int, learn: _Learn
    ) -> np.float32:
        """One sample forward and back; `learn` uses up each gradient. Returns the loss.

        A loss or an input that is not finite ends the step before anything learns.
        """
        values = self._forward(parameters, x)
        loss, dy = _LOSSES[self._spec.loss](values[-1].ravel(), t)
        learning = [i for i, layer in enumerate(self._layers) if layer.weights and mask >> i & 1]
        if not _usable(loss, x) or not learning:
            return loss
        for index in range(len(self._layers) - 1, learning[0] - 1, -1):
            layer, y = self._layers[index], dy.reshape(self._layers[index].output_shape)
            if index > learning[0]:
                dy = layer.input_gradient(parameters, values[index], values[index + 1], y)
            if index in learning:
                learn(layer, values[index], y)
        return loss

    def _forward(self, parameters: Parameters, x: Floats) -> list[Floats]:
        """The input of every layer, then the output of the last."""
        values = [x.reshape(self._spec.input_shape)]
        for layer in self._layers:
            values.append(layer.forward(parameters, values[-1]).reshape(layer.output_shape))
        return values


_Learn = Callable[["_Layer", Floats, Floats], None]


@dataclass
class _Run:
    """One phase in progress."""

    learner: ReferenceLearner
    parameters: Parameters
    phase: Phase
    start: Parameters | None
    loss_sum: float = 0.0
    losses: int = 0
    updates: int = 0

    def __post_init__(self) -> None:
        self.rate = np.float32(self.phase.rate)
        self.mask = self.learner.spec.layer_mask(self.phase.trainable)
        self.gradient = np.zeros_like(self.parameters)

    def all_passes(self, samples: Samples) -> bool:
        """Train; False when a loss is not finite."""
        size = self.phase.batch_size
        one = self._online if size == 1 else self._batch
        starts = range(0, self.phase.samples, size)
        return all(
            one(samples[start : start + size]) for _ in range(self.phase.passes) for start in starts
        )

    def _online(self, samples: Samples) -> bool:
        def learn(layer: _Layer, x: Floats, dy: Floats) -> None:
            layer.update(self.parameters, x, dy, self.rate)

        if not self._sample(samples, 0, learn):
            return False
        self._end_update()
        return True

    def _batch(self, samples: Samples) -> bool:
        def learn(layer: _Layer, x: Floats, dy: Floats) -> None:
            layer.accumulate(self.gradient, x, dy)

        self.gradient[:] = _ZERO
        if not all(self._sample(samples, index, learn) for index in range(len(samples))):
            return False
        step = self.rate * (_ONE / np.float32(len(samples)))
        for index, placed in enumerate(self.learner.spec.placed):
            if self.mask >> index & 1:
                here = slice(placed.start, placed.stop)
                self.parameters[here] -= step * self.gradient[here]
        self._end_update()
        return True

    def _end_update(self) -> None:
        """Count an update; a proximal one is pulled back to the start."""
        self.updates += 1
        if not self.phase.proximal or self.start is None:
            return
        step = self.rate * np.float32(self.phase.proximal)
        for index, placed in enumerate(self.learner.spec.placed):
            if self.mask >> index & 1:
                here = slice(placed.start, placed.stop)
                self.parameters[here] -= step * (self.parameters[here] - self.start[here])

    def _sample(self, samples: Samples, index: int, learn: _Learn) -> bool:
        x, t = samples.inputs[index], samples.targets[index]
        loss = self.learner.step(self.parameters, x, t, self.mask, learn)
        self.loss_sum += float(loss)
        self.losses += 1
        return _usable(loss, x)


def _usable(loss: np.float32, x: Floats) -> bool:
    return bool(np.isfinite(loss) and np.isfinite(x).all())


# ---- sums in a stated order ----


def _quiet() -> Any:
    """Overflow and NaN are results here, reported as `finite`, not warnings."""
    return np.errstate(over="ignore", invalid="ignore", under="ignore", divide="ignore")


def _sum(terms: Floats) -> Floats:
    """Sum over the first axis, in order, from +0."""
    if len(terms) == 0:
        return np.zeros(terms.shape[1:], np.float32)
    total: Floats = np.add.accumulate(terms, axis=0)[-1]
    return total + _ZERO  # as if from +0: that differs only where all terms are -0


def _sum_of_products(count: int, width: int, products: Callable[[slice], Floats]) -> Floats:
    """`_sum` of `count` terms of `width` floats, made in tables of bounded size."""
    total: Floats | None = None
    rows = max(1, _TERMS // max(1, width))
    for start in range(0, count, rows):
        terms = products(slice(start, min(count, start + rows)))
        if total is not None:
            terms = np.concatenate([total[None], terms])
        total = _sum(terms)
    assert total is not None  # noqa: S101 - every layer has at least one term
    return total


def _lanes(terms: Floats) -> Floats:
    """LANES8 over the first axis; the sum of term j goes to lane j mod 8."""
    lanes = [_sum(terms[lane::_LANES]) for lane in range(_LANES)]
    return _combine(lanes)


def _combine(s: list[Floats]) -> Floats:
    return ((s[0] + s[4]) + (s[2] + s[6])) + ((s[1] + s[5]) + (s[3] + s[7]))


# ---- losses: (y, t) -> (loss, gradient by y) ----


def _mean_squared_error(y: Floats, t: Floats) -> tuple[np.float32, Floats]:
    error = y - t
    share, slope = _ONE / np.float32(y.size), _TWO / np.float32(y.size)
    return np.float32(_sum(error * error) * share), slope * error


def _softmax_cross_entropy(y: Floats, t: Floats) -> tuple[np.float32, Floats]:
    shifted = y - _first_largest_value(y)
    z = exp32(shifted)
    total = _sum(z)
    log_total = log32(total.reshape(1))[0]
    return np.float32(_sum(t * (log_total - shifted))), z / total - t


def _first_largest_value(y: Floats) -> np.float32:
    largest = y[0]
    for value in y[1:]:
        largest = value if value > largest else largest  # NaN never wins, as in C
    return np.float32(largest)


_LOSSES = {
    "mean_squared_error": _mean_squared_error,
    "softmax_cross_entropy": _softmax_cross_entropy,
}


def sample_loss(name: str, outputs: Floats, targets: Floats) -> np.float32:
    """The loss `name`, one of LOSSES, of one sample; both are `(outputs,) float32`."""
    with _quiet():
        return _LOSSES[name](outputs, targets)[0]


# ---- layers ----


class _Layer:
    """A layer in its place; x, y and gradients are `(height, width, channels)`."""

    def __init__(self, placed: PlacedLayer) -> None:
        self.input_shape, self.output_shape = placed.input_shape, placed.output_shape
        self.weights = placed.weights
        self.weight_range = slice(placed.start, placed.start + placed.weights)
        self.bias_range = slice(placed.start + placed.weights, placed.stop)
        self.prepare(placed.layer)

    def prepare(self, layer: Any) -> None:
        """Work out what does not depend on the numbers."""

    def forward(self, parameters: Parameters, x: Floats) -> Floats:
        raise NotImplementedError

    def input_gradient(self, parameters: Parameters, x: Floats, y: Floats, dy: Floats) -> Floats:
        raise NotImplementedError

    def gradient(self, x: Floats, dy: Floats) -> Floats:
        """The weights' gradient of one sample, flat."""
        raise NotImplementedError

    def update(self, parameters: Parameters, x: Floats, dy: Floats, rate: np.float32) -> None:
        parameters[self.weight_range] -= rate * self.gradient(x, dy)
        parameters[self.bias_range] -= rate * _bias_gradient(dy)

    def accumulate(self, total: Parameters, x: Floats, dy: Floats) -> None:
        total[self.weight_range] += self.gradient(x, dy)
        total[self.bias_range] += _bias_gradient(dy)


def _bias_gradient(dy: Floats) -> Floats:
    return _sum(dy.reshape(-1, dy.shape[-1]))


class _Dense(_Layer):
    def matrix(self, parameters: Parameters) -> Floats:
        return parameters[self.weight_range].reshape(-1, self.output_shape[2])

    def forward(self, parameters: Parameters, x: Floats) -> Floats:
        matrix, column = self.matrix(parameters), x.reshape(-1, 1)
        inputs, outputs = matrix.shape
        total = _sum_of_products(inputs, outputs, lambda rows: column[rows] * matrix[rows])
        return total + parameters[self.bias_range]

    def input_gradient(self, parameters: Parameters, x: Floats, y: Floats, dy: Floats) -> Floats:
        products = self.matrix(parameters) * dy.reshape(-1)
        return _lanes(products.T)

    def update(self, parameters: Parameters, x: Floats, dy: Floats, rate: np.float32) -> None:
        flat, slope, matrix = x.reshape(-1), dy.reshape(-1), self.matrix(parameters)
        used = flat != 0  # a zero input leaves its weights as they are, even -0
        matrix[used] -= (rate * flat[used])[:, None] * slope
        parameters[self.bias_range] -= rate * slope

    def accumulate(self, total: Parameters, x: Floats, dy: Floats) -> None:
        slope, matrix = dy.reshape(-1), self.matrix(total)
        matrix += x.reshape(-1, 1) * slope
        total[self.bias_range] += slope


class _Windowed(_Layer):
    """What convolutions and pools share: which input lies under which tap of which output pixel.

    Images are lists of pixels here, `(pixels, channels)`. `under[pixel, tap]` is the input pixel,
    or the one past the end, a pixel of zeros, for a tap in the padding. `over_pixel[pixel, i]` and
    `over_tap[pixel, i]` list the output pixels and taps that see an input pixel, in order of taps;
    past the end, again, is nothing.
    """

    def prepare(self, layer: Any) -> None:
        self.kernel = layer.kernel
        self.taps = layer.kernel**2
        self.under = _input_pixels(layer, self.input_shape, self.output_shape)
        self.inputs = self.input_shape[0] * self.input_shape[1]
        self.outputs = self.output_shape[0] * self.output_shape[1]
        self.over_pixel, self.over_tap = _readers(self.under, self.inputs)

    def pixels(self, x: Floats) -> Floats:
        """`(pixels + 1, channels)`, the last one zeros."""
        flat = x.reshape(-1, x.shape[-1])
        return np.concatenate([flat, np.zeros((1, x.shape[-1]), np.float32)])


def _input_pixels(layer: Any, input_shape: Any, output_shape: Any) -> Ints:
    height, width = input_shape[:2]
    padding = getattr(layer, "padding", 0)
    oy, ox, ky, kx = np.indices((*output_shape[:2], layer.kernel, layer.kernel))
    iy, ix = oy * layer.stride + ky - padding, ox * layer.stride + kx - padding
    inside = (iy >= 0) & (iy < height) & (ix >= 0) & (ix < width)
    under: Ints = np.where(inside, iy * width + ix, height * width)
    return under.reshape(-1, layer.kernel**2)


def _readers(under: Ints, inputs: int) -> tuple[Ints, Ints]:
    """`(input pixels, most readers)` output pixels and taps, in order of taps.

    Shorter rows are filled up with one past the end.
    """
    outputs, taps = under.shape
    pixel = under.T.ravel()  # in order of taps; within a tap an input has at most one reader
    order = np.argsort(pixel, kind="stable")
    order = order[pixel[order] < inputs]
    counts = np.bincount(pixel[order], minlength=inputs)
    column = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
    shape = (inputs, max(1, int(counts.max(initial=1))))
    readers, tap = np.full(shape, outputs), np.full(shape, taps)
    readers[pixel[order], column] = order % outputs
    tap[pixel[order], column] = order // outputs
    return readers, tap


class _Conv2D(_Windowed):
    def matrix(self, parameters: Parameters) -> Floats:
        """`(taps * channels, filters)`: the order of the terms of an output."""
        return parameters[self.weight_range].reshape(-1, self.output_shape[2])

    def patches(self, x: Floats) -> Floats:
        """`(output pixels, taps * channels)`."""
        return self.pixels(x)[self.under].reshape(self.outputs, -1)

    def forward(self, parameters: Parameters, x: Floats) -> Floats:
        columns, matrix = np.ascontiguousarray(self.patches(x).T), self.matrix(parameters)
        total = _sum_of_products(
            len(matrix),
            self.outputs * matrix.shape[1],
            lambda rows: columns[rows, :, None] * matrix[rows, None, :],
        )
        return total + parameters[self.bias_range]

    def input_gradient(self, parameters: Parameters, x: Floats, y: Floats, dy: Floats) -> Floats:
        channels, filters = self.input_shape[2], self.output_shape[2]
        weights = self.matrix(parameters).reshape(self.taps, channels, filters)
        weights = np.concatenate([weights, np.zeros((1, channels, filters), np.float32)])
        slopes = self.pixels(dy)
        lanes = [np.zeros((self.inputs, channels), np.float32) for _ in range(_LANES)]
        for reader, tap in zip(self.over_pixel.T, self.over_tap.T, strict=True):
            for f in range(filters):
                lanes[f % _LANES] += weights[tap, :, f] * slopes[reader, f, None]
        return _combine(lanes).reshape(self.input_shape)

    def gradient(self, x: Floats, dy: Floats) -> Floats:
        patches, slopes = self.patches(x), dy.reshape(self.outputs, -1)
        total = _sum_of_products(
            self.outputs,
            self.weights,
            lambda pixels: patches[pixels, :, None] * slopes[pixels, None, :],
        )
        return total.reshape(-1)


class _DepthwiseConv2D(_Windowed):
    def matrix(self, parameters: Parameters) -> Floats:
        return parameters[self.weight_range].reshape(self.taps, -1)

    def patches(self, x: Floats) -> Floats:
        """`(output pixels, taps, channels)`."""
        return self.pixels(x)[self.under]

    def forward(self, parameters: Parameters, x: Floats) -> Floats:
        products = self.patches(x) * self.matrix(parameters)
        return _sum(products.transpose(1, 0, 2)) + parameters[self.bias_range]

    def input_gradient(self, parameters: Parameters, x: Floats, y: Floats, dy: Floats) -> Floats:
        weights = self.pixels(self.matrix(parameters))  # a tap of zeros past the end
        products = weights[self.over_tap] * self.pixels(dy)[self.over_pixel]
        return _sum(products.transpose(1, 0, 2)).reshape(self.input_shape)

    def gradient(self, x: Floats, dy: Floats) -> Floats:
        products = self.patches(x) * dy.reshape(self.outputs, 1, -1)
        return _sum(products).reshape(-1)


class _MaxPool2D(_Windowed):
    def first_largest(self, x: Floats) -> Ints:
        """`(output pixels, channels)`: the tap of the first largest value; NaN never wins."""
        values = self.pixels(x)[self.under]
        best, tap = values[:, 0], np.zeros((self.outputs, x.shape[-1]), np.intp)
        for index in range(1, self.taps):
            larger = values[:, index] > best
            best = np.where(larger, values[:, index], best)
            tap = np.where(larger, index, tap)
        return tap

    def forward(self, parameters: Parameters, x: Floats) -> Floats:
        tap = self.first_largest(x)
        return np.take_along_axis(self.pixels(x)[self.under], tap[:, None, :], axis=1)[:, 0]

    def input_gradient(self, parameters: Parameters, x: Floats, y: Floats, dy: Floats) -> Floats:
        tap = self.first_largest(x)
        source = np.take_along_axis(self.under, tap, axis=1)
        dx = np.zeros((self.inputs, x.shape[-1]), np.float32)
        np.add.at(dx, (source, np.arange(x.shape[-1])), dy.reshape(self.outputs, -1))
        return dx.reshape(self.input_shape)


class _AveragePool2D(_Windowed):
    def forward(self, parameters: Parameters, x: Floats) -> Floats:
        share = _ONE / np.float32(self.taps)
        return _sum(self.pixels(x)[self.under].transpose(1, 0, 2)) * share

    def input_gradient(self, parameters: Parameters, x: Floats, y: Floats, dy: Floats) -> Floats:
        share = (dy * (_ONE / np.float32(self.taps))).reshape(self.outputs, 1, -1)
        dx = np.zeros((self.inputs, x.shape[-1]), np.float32)
        np.add.at(dx, self.under, np.broadcast_to(share, (*self.under.shape, x.shape[-1])))
        return dx.reshape(self.input_shape)


class _GlobalAveragePool2D(_Layer):
    def prepare(self, layer: Any) -> None:
        self.share = _ONE / np.float32(self.input_shape[0] * self.input_shape[1])

    def forward(self, parameters: Parameters, x: Floats) -> Floats:
        return _sum(x.reshape(-1, x.shape[-1])) * self.share

    def input_gradient(self, parameters: Parameters, x: Floats, y: Floats, dy: Floats) -> Floats:
        return np.broadcast_to(dy * self.share, self.input_shape)


class _Flatten(_Layer):
    def forward(self, parameters: Parameters, x: Floats) -> Floats:
        return x

    def input_gradient(self, parameters: Parameters, x: Floats, y: Floats, dy: Floats) -> Floats:
        return dy


class _ReLU(_Layer):
    def forward(self, parameters: Parameters, x: Floats) -> Floats:
        return np.where(x > 0, x, _ZERO)

    def input_gradient(self, parameters: Parameters, x: Floats, y: Floats, dy: Floats) -> Floats:
        return np.where(y > 0, dy, _ZERO)


class _Tanh(_Layer):
    def forward(self, parameters: Parameters, x: Floats) -> Floats:
        return tanh32(x)

    def input_gradient(self, parameters: Parameters, x: Floats, y: Floats, dy: Floats) -> Floats:
        return dy * (_ONE - y * y)


_KINDS: dict[type[Layer], type[_Layer]] = {
    Dense: _Dense,
    Conv2D: _Conv2D,
    DepthwiseConv2D: _DepthwiseConv2D,
    MaxPool2D: _MaxPool2D,
    AveragePool2D: _AveragePool2D,
    GlobalAveragePool2D: _GlobalAveragePool2D,
    Flatten: _Flatten,
    ReLU: _ReLU,
    Tanh: _Tanh,
}
