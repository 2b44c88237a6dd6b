"""FedSGD: every device computes one gradient over all its samples, the server steps once.

McMahan et al., arXiv 1602.05629, section 2: FedAvg with a single full-batch step. A device's delta
is then `-inner_rate` times its gradient, and the mean of the deltas is the server's step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tinyfleet.model.spec import Parameters
from tinyfleet.strategies.base import MAX_AGENTS_PER_ROUND, Update, option, rounds_option
from tinyfleet.strategies.combining import (
    byzantine_option,
    check_combining,
    combine_option,
    combined,
)
from tinyfleet.strategies.plan import Phase, TrainingPlan


@dataclass(frozen=True)
class FedSGD:
    """The strategy `fed_sgd`; see the module for the algorithm. Defaults are our choice."""

    name = "fed_sgd"

    rounds: int = rounds_option()
    agents_per_round: int = option(8, "devices in a round", 1, MAX_AGENTS_PER_ROUND)
    samples: int = option(50, "samples a device stores", 1, 1_000_000)
    inner_rate: float = option(0.01, "rate of the server's step", 1e-9, 10)
    combine: str = combine_option()
    byzantine: int = byzantine_option()

    def __post_init__(self) -> None:
        check_combining(self.combine, self.byzantine, self.agents_per_round)

    def plan(self, round: int) -> TrainingPlan:
        return TrainingPlan((Phase(self.samples, self.inner_rate, batch_size=self.samples),))

    def apply(self, model: Parameters, updates: Sequence[Update], round: int) -> Parameters:
        weights = [float(update.samples) for update in updates]
        return model + combined(self.combine, self.byzantine, updates, weights)
