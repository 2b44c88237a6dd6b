"""Reptile: several devices a round, each with a stored support set and mini-batches.

Nichol, Achiam and Schulman, "On First-Order Meta-Learning Algorithms", arXiv 1803.02999. The
baseline TinyReptile is measured against: a device keeps its whole support set in memory and
goes over it several times.

    each round, a few devices:
        w' <- w after `passes` passes of mini-batch SGD over `samples` stored samples
        send back w' - w
    the server:  w <- w + outer_rate * mean of (w' - w)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tinyfleet.model.spec import Parameters
from tinyfleet.strategies.base import (
    MAX_AGENTS_PER_ROUND,
    Update,
    annealed,
    option,
    rounds_option,
)
from tinyfleet.strategies.combining import (
    byzantine_option,
    check_combining,
    combine_option,
    combined,
)
from tinyfleet.strategies.plan import Phase, TrainingPlan


@dataclass(frozen=True)
class Reptile:
    """The strategy `reptile`; see the module for the algorithm. Defaults are our choice."""

    name = "reptile"

    rounds: int = rounds_option()
    agents_per_round: int = option(5, "devices in a round", 1, MAX_AGENTS_PER_ROUND)
    samples: int = option(50, "samples a device stores", 1, 1_000_000)
    batch_size: int = option(10, "samples in a step", 1, 1_000_000)
    passes: int = option(5, "times a device goes over its samples", 1, 10_000)
    inner_rate: float = option(0.01, "rate of the device's steps", 1e-9, 10)
    outer_rate: float = option(1.0, "server's step towards the mean, falling to 0", 1e-9, 10)
    combine: str = combine_option()
    byzantine: int = byzantine_option()

    def __post_init__(self) -> None:
        check_combining(self.combine, self.byzantine, self.agents_per_round)

    def plan(self, round: int) -> TrainingPlan:
        batch_size = min(self.batch_size, self.samples)
        return TrainingPlan((Phase(self.samples, self.inner_rate, batch_size, self.passes),))

    def apply(self, model: Parameters, updates: Sequence[Update], round: int) -> Parameters:
        change = combined(self.combine, self.byzantine, updates, [1.0] * len(updates))
        return model + annealed(self.outer_rate, round, self.rounds) * change
