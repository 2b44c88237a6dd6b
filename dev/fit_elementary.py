"""Fits the polynomials of exp, log and tanh in the learner (docs/numerics.md) and prints them.

Lawson's iteration: weighted least squares whose weights grow where the error is large, which tends
to the polynomial of least largest error. Coefficients are rounded to float32 at the end.

    python dev/fit_elementary.py
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
POINTS = 4000
ROUNDS = 400


def fit(
    function: Callable[[Array], Array],
    low: float,
    high: float,
    degree: int,
    weight: Callable[[Array], Array],
) -> tuple[Array, float]:
    """The polynomial of `degree` that is nearest to `function` on [low, high], and its error."""
    nodes = np.cos(np.pi * (np.arange(POINTS) + 0.5) / POINTS)
    x = 0.5 * (low + high) + 0.5 * (high - low) * nodes
    powers, wanted, scale = np.vander(x, degree + 1, increasing=True), function(x), weight(x)
    share = np.ones(POINTS) / POINTS
    coefficients, largest = np.zeros(degree + 1), math.inf
    for _ in range(ROUNDS):
        root = np.sqrt(share) * scale
        coefficients = np.linalg.lstsq(powers * root[:, None], wanted * root, rcond=None)[0]
        error = np.abs((powers @ coefficients - wanted) * scale)
        share *= error
        share /= share.sum()
        largest = float(error.max())
    return coefficients, largest


def exp_remainder(r: Array) -> Array:
    """P with e^r = 1 + r + r^2 P(r), as its Taylor series."""
    return np.sum([r**k / math.factorial(k + 2) for k in range(20)], axis=0)


def log_remainder(z: Array) -> Array:
    """Q with ln(1 + f) = f - s (f - z Q(z)), s = f / (2 + f), z = s^2."""
    return np.sum([2.0 / (2 * k + 3) * z**k for k in range(25)], axis=0)


def tanh_remainder(z: Array) -> Array:
    """P with tanh x = x + x z P(z), z = x^2; the fit keeps away from 0, where this cancels."""
    x = np.sqrt(z.astype(np.longdouble))
    return ((np.tanh(x) - x) / (x * z)).astype(np.float64)


def main() -> None:
    half_ln2 = 0.5 * math.log(2.0) * 1.0001
    root = math.sqrt(2.0)
    largest_z = ((root - 1.0) / (root + 1.0)) ** 2 * 1.001
    fits = {
        "exp": fit(exp_remainder, -half_ln2, half_ln2, 4, lambda r: r * r * np.exp(-r)),
        "log": fit(log_remainder, 0.0, largest_z, 2, lambda z: z),
        "tanh": fit(tanh_remainder, 1e-6, 0.625**2 * 1.001, 4, lambda z: z),
    }
    for name, (coefficients, error) in fits.items():
        rounded = [float(np.float32(value)).hex() for value in coefficients]
        print(f"{name}: {' '.join(rounded)} (relative error {error:.1e} before rounding)")


if __name__ == "__main__":
    main()
