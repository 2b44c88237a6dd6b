"""FedAvg: the devices train the shared model itself, the server averages what they return.

McMahan et al., "Communication-Efficient Learning of Deep Networks from Decentralized Data", arXiv
1602.05629. Each device's weight is its number of samples. The result is one model for all, not
an initialization to adapt: the baseline that shows what meta-learning adds.
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
class LocalSGD:
    """The device's half of FedAvg and of all that differ from it in the server's rule."""

    rounds: int = rounds_option()
    agents_per_round: int = option(8, "devices in a round", 1, MAX_AGENTS_PER_ROUND)
    samples: int = option(50, "samples a device stores", 1, 1_000_000)
    batch_size: int = option(10, "samples in a step", 1, 1_000_000)
    passes: int = option(1, "times a device goes over its samples", 1, 10_000)
    inner_rate: float = option(0.01, "rate of the device's steps", 1e-9, 10)
    combine: str = combine_option()
    byzantine: int = byzantine_option()

    def __post_init__(self) -> None:
        check_combining(self.combine, self.byzantine, self.agents_per_round)

    def plan(self, round: int) -> TrainingPlan:
        batch_size = min(self.batch_size, self.samples)
        return TrainingPlan((Phase(self.samples, self.inner_rate, batch_size, self.passes),))

    def change(self, updates: Sequence[Update]) -> Parameters:
        """What the devices agree on; a mean is weighed by their samples."""
        weights = [float(update.samples) for update in updates]
        return combined(self.combine, self.byzantine, updates, weights)


@dataclass(frozen=True)
class FedAvg(LocalSGD):
    """The strategy `fed_avg`; see the module for the algorithm. Defaults are our choice."""

    name = "fed_avg"

    def apply(self, model: Parameters, updates: Sequence[Update], round: int) -> Parameters:
        return model + self.change(updates)
