"""Sine regression: each problem is one sine wave, known only through a few of its points.

Finn, Abbeel and Levine, "Model-Agnostic Meta-Learning", arXiv 1703.03400, section 5.1:
y = a sin(x + phase), a in [0.1, 5], x in [-5, 5]. The phase is in [0, 2 pi) here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from tinyfleet.learner.protocol import Floats, Samples
from tinyfleet.model.layers import Shape
from tinyfleet.randomness import RandomStream
from tinyfleet.tasks.base import FewShotProblem, check_shots

AMPLITUDES = (0.1, 5.0)
INPUTS = (-5.0, 5.0)

# pi in two parts (Cody and Waite): the first has 33 significant bits, so that a small whole number
# of them is exact in float64.
_PI_HIGH = float.fromhex("0x1.921fb544p+1")
_PI_LOW = float.fromhex("0x1.0b4611a626331p-33")
# Taylor series of sin(r)/r in r*r, highest power first: r**17/17! is the last term.
_TAYLOR = [(-1.0) ** k / math.factorial(2 * k + 1) for k in range(8, -1, -1)]


def portable_sine(angle: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """sin(angle), elementwise; the same bits on every processor and with every libm.

    Only exactly rounded float64 additions and multiplications are used. |angle| <= 1000: the
    absolute error is below 1e-13 (the first omitted term is (pi/2)**19/19! = 4.4e-14).
    """
    turns = np.rint(angle * (1.0 / math.pi))
    rest = (angle - turns * _PI_HIGH) - turns * _PI_LOW
    square = rest * rest
    series = square * _TAYLOR[0]
    for coefficient in _TAYLOR[1:-1]:
        series += coefficient
        series *= square
    series *= rest
    series += rest
    odd = turns - 2.0 * np.floor(turns * 0.5)
    return series * (1.0 - 2.0 * odd)


class Sine:
    """The task `sine`: one input, one output, mean squared error."""

    name: ClassVar[str] = "sine"
    default_model: ClassVar[str] = "mlp_64"
    recommended: ClassVar[Mapping[str, Mapping[str, Any]]] = MappingProxyType(
        {
            "tiny_reptile": {"samples": 128, "inner_rate": 0.005, "outer_rate": 0.5},
            "reptile": {"inner_rate": 0.02},
            "fed_avg": {"inner_rate": 0.005},
        }
    )
    recommended_evaluation: ClassVar[Mapping[str, Any]] = MappingProxyType(
        {"shots": 10, "queries": 50, "passes": 5, "rate": 0.005}
    )

    options: Mapping[str, Any] = MappingProxyType({})
    input_shape: Shape = (1, 1, 1)
    outputs = 1
    loss = "mean_squared_error"

    def training_samples(self, stream: RandomStream, count: int) -> Samples:
        return self._wave(stream, count)

    def evaluation_problem(self, stream: RandomStream, shots: int, queries: int) -> FewShotProblem:
        check_shots(shots, queries)
        wave = self._wave(stream, shots + queries)
        return FewShotProblem(wave[:shots], wave[shots:])

    def _wave(self, stream: RandomStream, count: int) -> Samples:
        draws = stream.uniform(count + 2)
        amplitude = _between(AMPLITUDES, draws[0])
        phase = 2.0 * math.pi * draws[1]
        inputs: Floats = _between(INPUTS, draws[2:]).astype(np.float32)
        # The sine of the rounded input: what the device sees lies exactly on the wave.
        angle = inputs.astype(np.float64) + phase
        targets = (amplitude * portable_sine(angle)).astype(np.float32)
        return Samples(inputs[:, np.newaxis], targets[:, np.newaxis])


def _between(ends: tuple[float, float], draws: Any) -> Any:
    """Draws of [0, 1) mapped to [low, high)."""
    low, high = ends
    return low + (high - low) * draws
