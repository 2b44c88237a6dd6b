"""How far float32 may lie from the oracle: a bound that follows the computation, derived here.

Let u = 2^-24 be the unit of rounding. A sum of n products, in any order, differs from the exact one
by at most g(n) * sum |term|, with g(n) = (n + 1) u / (1 - (n + 1) u) (Higham, Accuracy and
Stability of Numerical Algorithms, section 3.1). So for a layer that is linear in x, fed with an x
that is off by at most e (elementwise):

    |y32 - y| <= |W| e + g(n + 1) (|W| (|x| + e) + |b|)

where |W| e is the layer itself with absolute weights applied to e: the oracle's own forward and
backward functions compute every term of the bound when given absolute values. Gradients go back
through the same weights, and a weight's gradient is a sum of products of an input and an output
gradient that are both off:

    |dW32 - dW| <= |X| E + e |D| + e E + g(n) (|X| + e)(|D| + E)

ReLU and max pooling hand the error on, as long as no error can change which branch is taken:
`certain` is False where one could, and the test then has nothing to say. tanh' <= 1; our tanh is
off by 2e-7 and exact at 0. Our exp is off by 2e-7 relatively, and so is log.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tinyfleet.learner.oracle import KINDS, At, _windows, loss_and_gradient, weights_and_biases
from tinyfleet.model.layers import MaxPool2D, ReLU, Tanh

U = 2.0**-24
ELEMENTARY = 2e-7


def g(terms):
    return (terms + 1) * U / (1 - (terms + 1) * U)


@dataclass
class Bound:
    """The errors of one sample's outputs, loss and gradient; whether every branch is certain."""

    certain: bool = True
    outputs: np.ndarray | None = None
    loss: float = 0.0
    gradient: np.ndarray | None = None


def bound_of(spec, parameters, x, t):
    """The Bound for float32 arithmetic on float32 `parameters`, `x` and `t` (given as float64)."""
    bound = Bound(gradient=np.zeros(spec.parameter_count))
    values, errors = _forward(spec, parameters, x, bound)
    y, e = values[-1].ravel(), errors[-1].ravel()
    bound.outputs = e
    dy = loss_and_gradient(spec.loss, y, t)[1]
    bound.loss, error = _LOSS_BOUNDS[spec.loss](y, e, t)
    layers = zip(spec.placed[::-1], values[-2::-1], errors[-2::-1], strict=True)
    for placed, here, e_here in layers:
        dy, error = dy.reshape(placed.output_shape), error.reshape(placed.output_shape)
        dy, error = _back(placed, parameters, here, e_here, dy, error, bound)
    return bound


def _absolute(placed, parameters, x):
    weights, biases = weights_and_biases(placed, parameters)
    return At(placed.layer, np.abs(weights), np.abs(biases), x)


def _terms(placed):
    """The most terms in any sum of the layer, forward or back."""
    rows, columns, channels = placed.input_shape
    window = getattr(placed.layer, "kernel", 1) ** 2
    into_weight = placed.output_shape[0] * placed.output_shape[1]
    pooled = rows * columns
    into_input = window * placed.output_shape[2]
    return max(window * channels, into_weight, into_input, pooled) + 1


def _forward(spec, parameters, x, bound):
    values, errors = [x.reshape(spec.input_shape)], [np.zeros(spec.input_shape)]
    for placed in spec.placed:
        here, e = values[-1], errors[-1]
        kind = KINDS[type(placed.layer)]
        at = At(placed.layer, *weights_and_biases(placed, parameters), here)
        y = kind.forward(at).reshape(placed.output_shape)
        if isinstance(placed.layer, ReLU):
            bound.certain &= bool((np.abs(here) > e)[here != 0].all())
            bound.certain &= bool((e[here == 0] == 0).all())
            error = np.where(here > 0, e, 0.0)
        elif isinstance(placed.layer, Tanh):
            error = np.where((here == 0) & (e == 0), 0.0, e + ELEMENTARY)
        elif isinstance(placed.layer, MaxPool2D):
            error = _max_pool(placed.layer, here, e, bound)
        else:  # linear
            absolute = _absolute(placed, parameters, np.abs(here) + e)
            spread = At(placed.layer, absolute.weights, np.zeros_like(absolute.biases), e)
            error = kind.forward(spread) + g(_terms(placed)) * kind.forward(absolute)
        values.append(y)
        errors.append(error.reshape(placed.output_shape))
    return values, errors


def _max_pool(layer, x, e, bound):
    windows = _windows(layer, x)
    flat = windows.reshape(*windows.shape[:3], -1)
    errors = _windows(layer, e).reshape(flat.shape)
    if flat.shape[-1] > 1:
        first, second = -np.sort(-flat, axis=-1)[..., :2].transpose(3, 0, 1, 2)
        tied = (first == second) & (errors.max(axis=-1) == 0)  # exact: the first wins in both
        bound.certain &= bool(((first - second > 2 * errors.max(axis=-1)) | tied).all())
    return errors.max(axis=-1)


def _mean_squared_error(y, e, t):
    # (y - t) is off by e + U |y - t|; squared, summed, scaled; 2/n and the product round once each.
    off = e + U * (np.abs(y - t) + e)
    size = np.abs(y - t) + off
    loss = np.mean(2 * np.abs(y - t) * off + off**2) + g(y.size + 2) * np.mean(size**2)
    return float(loss), (2 / y.size) * (off + 3 * U * size)


def _softmax_cross_entropy(y, e, t):
    # Each y - max is off by 2 e + U |y - max|; exp turns that into a relative error r, the sum and
    # the quotient add theirs. log(sum) is off by the sum's relative error and the error of log.
    shifted = np.abs(y - y.max())
    off = 2 * e.max() + U * (shifted + 2 * e.max())
    r = np.expm1(off) + ELEMENTARY * np.exp(off)
    r_sum = r.max() + g(y.size) * (1 + r.max())
    p = np.exp(y - y.max()) / np.exp(y - y.max()).sum()
    gradient = p * ((1 + r) / (1 - r_sum) * (1 + U) - 1) + U * (np.abs(p - t) + 1)
    log_sum = np.log(np.exp(y - y.max()).sum())
    off_log = -np.log1p(-r_sum) + ELEMENTARY * (log_sum + r_sum) + U
    each = off_log + off + U * (log_sum + shifted + off_log + off)
    loss = np.sum(t * (each + g(y.size) * (log_sum + shifted + each)))
    return float(loss), gradient


_LOSS_BOUNDS = {
    "mean_squared_error": _mean_squared_error,
    "softmax_cross_entropy": _softmax_cross_entropy,
}


def _back(placed, parameters, x, e, dy, error, bound):
    """The gradient of the layer's input and its error; notes those of the weights' gradients."""
    kind = KINDS[type(placed.layer)]
    at = At(placed.layer, *weights_and_biases(placed, parameters), x)
    dx = kind.backward(at, dy)[0].reshape(placed.input_shape)
    if isinstance(placed.layer, Tanh):
        y, e_y = np.tanh(x), e.reshape(x.shape) + ELEMENTARY
        factor = 2 * np.abs(y) * e_y + e_y**2 + 2 * U  # of 1 - y^2
        return dx, error + (np.abs(dy) + error) * (factor + 2 * U)
    if isinstance(placed.layer, ReLU | MaxPool2D):
        rounded = kind.backward(at, error)[0] + g(_terms(placed)) * np.abs(
            kind.backward(at, np.abs(dy) + error)[0]
        )
        return dx, rounded.reshape(placed.input_shape)
    rounding = g(_terms(placed))
    wide = _absolute(placed, parameters, np.abs(x) + e)
    all_dx, all_dw, all_db = kind.backward(wide, np.abs(dy) + error)
    error_dx = kind.backward(_absolute(placed, parameters, np.abs(x)), error)[0] + rounding * all_dx
    if placed.trainable:
        dw = kind.backward(_absolute(placed, parameters, np.abs(x)), np.abs(dy))[1]
        db = kind.backward(at, error)[2] + rounding * all_db
        off = (all_dw - dw) + rounding * all_dw  # (|X|+e)(|D|+E) - |X||D|
        bound.gradient[placed.start : placed.stop] = np.concatenate([off.ravel(), db])
    return dx, error_dx.reshape(placed.input_shape)
