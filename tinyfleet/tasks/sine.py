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

from tinyfleet.learner.protocol import Floats, Samples
from tinyfleet.model.layers import Shape
from tinyfleet.portable import portable_sine
from tinyfleet.randomness import RandomStream
from tinyfleet.tasks.base import FewShotProblem, TrainingClasses, check_shots

AMPLITUDES = (0.1, 5.0)
INPUTS = (-5.0, 5.0)


class Sine:
    """The task `sine`: one input, one output, mean squared error."""

    name: ClassVar[str] = "sine"
    default_model: ClassVar[str] = "mlp_64"
    recommended: ClassVar[Mapping[str, Mapping[str, Any]]] = MappingProxyType(
        {
            "tiny_reptile": {"samples": 128, "inner_rate": 0.005, "outer_rate": 0.5},
            "fed_buff": {"samples": 128, "inner_rate": 0.005, "outer_rate": 0.5},
            # No local layers: a head that begins anew diverges at rates at which the body learns.
            "tiny_meta_fed": {
                "samples": 128,
                "inner_rate": 0.005,
                "local_layers": 0,
                "local_rate": 0.001,
            },
            "reptile": {"inner_rate": 0.02},
            "fed_avg": {"inner_rate": 0.005},
            # Both diverge at the rates at which a whole network learns online.
            "fed_tiny_ol": {"samples": 128, "inner_rate": 0.0003},
            "per_fed_avg": {"adapt_rate": 0.005, "inner_rate": 0.005, "schedule": "linear"},
        }
    )
    recommended_evaluation: ClassVar[Mapping[str, Any]] = MappingProxyType(
        {"shots": 10, "queries": 50, "passes": 5, "rate": 0.005}
    )

    options: Mapping[str, Any] = MappingProxyType({})
    input_shape: Shape = (1, 1, 1)
    outputs = 1
    loss = "mean_squared_error"
    training_classes: TrainingClasses | None = None
    test_samples: int | None = None

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
