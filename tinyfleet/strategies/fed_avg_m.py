"""FedAvgM: FedAvg whose server keeps moving where it went before.

Hsu, Qi and Brown, "Measuring the Effects of Non-Identical Data Distribution for Federated Visual
Classification", arXiv 1909.06335:

    the server keeps a velocity  v, which begins at zero
    each round, as FedAvg:  d <- weighted mean of (w' - w)
    v <- momentum * v + d
    w <- w + outer_rate * v

The paper's server has no rate of its own, which is outer_rate = 1. A steady d moves the model by
outer_rate / (1 - momentum) times d a round: the defaults make that d itself, as in FedAvg. With
outer_rate = 1 drawings end at chance (experiments/omniglot_family.toml, 500 rounds).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from tinyfleet.model.spec import Parameters
from tinyfleet.strategies.base import SCHEDULES, Memory, Update, option, scheduled
from tinyfleet.strategies.fed_avg import LocalSGD


@dataclass(frozen=True)
class FedAvgM(LocalSGD):
    """The strategy `fed_avg_m`; see the module for the algorithm. Defaults are our choice."""

    name = "fed_avg_m"
    memory_vectors: ClassVar[int] = 1

    momentum: float = option(0.9, "part of the velocity that stays", 0, 0.999999)
    outer_rate: float = option(0.1, "server's step along the velocity", 1e-9, 10)
    schedule: str = option("constant", "how outer_rate goes over the run", choices=SCHEDULES)

    def step(
        self, model: Parameters, memory: Memory, updates: Sequence[Update], round: int
    ) -> tuple[Parameters, Memory]:
        (velocity,) = memory
        moved = self.momentum * velocity.astype(np.float64) + self.change(updates)
        velocity = moved.astype(np.float32)
        rate = scheduled(self.schedule, self.outer_rate, round, self.rounds)
        return model + rate * velocity, (velocity,)
