"""Online SGD in plain NumPy float32, as one writes it by hand for speed: the rival, not the oracle.

Matrix products go to BLAS, convolutions through im2col with indices made once, memory is reused
where NumPy lets one. Covers what the built-in models use: dense, conv2d, ReLU, flatten.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tinyfleet.learner.protocol import Floats, Samples
from tinyfleet.model import ModelSpec, Parameters, PlacedLayer
from tinyfleet.model.layers import Conv2D, Dense, Flatten, ReLU


class PlainNumpy:
    """Trains on samples one by one."""

    def __init__(self, spec: ModelSpec, rate: float) -> None:
        self.rate = np.float32(rate)
        self.is_classifier = spec.loss == "softmax_cross_entropy"
        self.steps = [_KINDS[type(placed.layer)](placed) for placed in spec.placed]
        self.shape = spec.input_shape

    def train(self, parameters: Parameters, samples: Samples) -> Parameters:
        """The parameters after one pass over the samples."""
        trained = parameters.copy()
        for step in self.steps:
            step.view(trained)
        for x, t in zip(samples.inputs, samples.targets, strict=True):
            self._one(x, t)
        return trained

    def _one(self, x: Floats, t: Floats) -> None:
        for step in self.steps:
            x = step.forward(x)
        if self.is_classifier:
            z = np.exp(x - x.max())
            dy = z / z.sum() - t
        else:
            dy = (np.float32(2.0) / np.float32(x.size)) * (x - t)
        for step in self.steps[:0:-1]:
            dy = step.backward(dy, self.rate)
        self.steps[0].learn(dy, self.rate)


class _Dense:
    def __init__(self, placed: PlacedLayer) -> None:
        self.placed = placed

    def view(self, parameters: Parameters) -> None:
        middle = self.placed.start + self.placed.weights
        weights = parameters[self.placed.start : middle]
        self.weights = weights.reshape(-1, self.placed.output_shape[2])
        self.biases = parameters[middle : self.placed.stop]

    def forward(self, x: Floats) -> Floats:
        self.x = x
        y: Floats = x @ self.weights
        y += self.biases
        return y

    def backward(self, dy: Floats, rate: np.float32) -> Floats:
        dx: Floats = self.weights @ dy
        self.learn(dy, rate)
        return dx

    def learn(self, dy: Floats, rate: np.float32) -> None:
        step = rate * dy
        self.weights -= self.x[:, None] * step
        self.biases -= step


class _Conv2D(_Dense):
    """A matrix product of the patches, `(pixels, taps * channels)`, with the weights."""

    def __init__(self, placed: PlacedLayer) -> None:
        super().__init__(placed)
        layer: Any = placed.layer
        height, width, self.channels = placed.input_shape
        oy, ox, ky, kx = np.indices((*placed.output_shape[:2], layer.kernel, layer.kernel))
        iy, ix = oy * layer.stride + ky, ox * layer.stride + kx
        padded_width = width + 2 * layer.padding
        self.pixels = (iy * padded_width + ix).reshape(-1, layer.kernel**2)
        self.padded = np.zeros(
            (height + 2 * layer.padding, padded_width, self.channels), np.float32
        )
        inside = slice(layer.padding, layer.padding + height)
        self.inside = (inside, slice(layer.padding, layer.padding + width))
        self.slots = (self.pixels[..., None] * self.channels + np.arange(self.channels)).ravel()

    def forward(self, x: Floats) -> Floats:
        self.padded[self.inside] = x.reshape(self.placed.input_shape)
        flat = self.padded.reshape(-1, self.channels)
        self.patches = flat.take(self.pixels, axis=0).reshape(len(self.pixels), -1)
        y: Floats = self.patches @ self.weights
        y += self.biases
        return y

    def backward(self, dy: Floats, rate: np.float32) -> Floats:
        dy = dy.reshape(len(self.pixels), -1)
        dpatches = dy @ self.weights.T
        # Faster here than a sum of nine slices, although it counts in float64.
        total = np.bincount(self.slots, dpatches.ravel(), self.padded.size)
        self.learn(dy, rate)
        return total.reshape(self.padded.shape)[self.inside].astype(np.float32)

    def learn(self, dy: Floats, rate: np.float32) -> None:
        dy = dy.reshape(len(self.pixels), -1)
        self.weights -= rate * (self.patches.T @ dy)
        self.biases -= rate * dy.sum(axis=0)


class _ReLU:
    def __init__(self, placed: PlacedLayer) -> None:
        pass

    def view(self, parameters: Parameters) -> None:
        pass

    def forward(self, x: Floats) -> Floats:
        self.y = np.maximum(x, 0, out=x)
        return self.y

    def backward(self, dy: Floats, rate: np.float32) -> Floats:
        return dy.reshape(self.y.shape) * (self.y > 0)

    def learn(self, dy: Floats, rate: np.float32) -> None:
        pass


class _Flatten(_ReLU):
    def forward(self, x: Floats) -> Floats:
        return x.reshape(-1)

    def backward(self, dy: Floats, rate: np.float32) -> Floats:
        return dy


_KINDS: dict[type, Any] = {Dense: _Dense, Conv2D: _Conv2D, ReLU: _ReLU, Flatten: _Flatten}
