"""Per-FedAvg, first-order: the server steps by the gradients that devices have once adapted.

Fallah, Mokhtari and Ozdaglar, "Personalized Federated Learning: A Meta-Learning Approach", arXiv
2002.07948, with the first-order approximation of MAML (FO-MAML) and one local step a round:

    each round, a few devices:
        a <- w - adapt_rate * gradient at w over the first samples       (`adapt_passes` times)
        sends back  - inner_rate * gradient at a over the samples after those
    the server:  w <- w + outer_rate * mean of what came back

The way from w to a does not count, only the step at a does: so the server moves to where adapting
works best, not to where it leads. Second derivatives are left out: the learner has none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tinyfleet.model.spec import Parameters
from tinyfleet.strategies.base import (
    MAX_AGENTS_PER_ROUND,
    SCHEDULES,
    Update,
    option,
    rounds_option,
    scheduled,
)
from tinyfleet.strategies.combining import (
    byzantine_option,
    check_combining,
    combine_option,
    combined,
)
from tinyfleet.strategies.plan import Phase, TrainingPlan


@dataclass(frozen=True)
class PerFedAvg:
    """The strategy `per_fed_avg`; see the module for the algorithm. Defaults are our choice."""

    name = "per_fed_avg"

    rounds: int = rounds_option()
    agents_per_round: int = option(5, "devices in a round", 1, MAX_AGENTS_PER_ROUND)
    adapt_samples: int = option(25, "first samples: the device adapts", 1, 1_000_000)
    adapt_rate: float = option(0.01, "rate of the steps that adapt", 1e-9, 10)
    adapt_passes: int = option(1, "steps that adapt, each over all of those", 1, 10_000)
    samples: int = option(25, "samples after those, of the step that counts", 1, 1_000_000)
    inner_rate: float = option(0.05, "rate of the step that counts", 1e-9, 10)
    outer_rate: float = option(1.0, "server's step along the mean", 1e-9, 10)
    schedule: str = option("constant", "how outer_rate goes over the run", choices=SCHEDULES)
    combine: str = combine_option()
    byzantine: int = byzantine_option()

    def __post_init__(self) -> None:
        check_combining(self.combine, self.byzantine, self.agents_per_round)

    def plan(self, round: int) -> TrainingPlan:
        first, then = self.adapt_samples, self.samples
        adapt = Phase(first, self.adapt_rate, batch_size=first, passes=self.adapt_passes)
        step = Phase(then, self.inner_rate, batch_size=then)
        return TrainingPlan((adapt, step), counted_from=1)

    def apply(self, model: Parameters, updates: Sequence[Update], round: int) -> Parameters:
        change = combined(self.combine, self.byzantine, updates, [1.0] * len(updates))
        return model + scheduled(self.schedule, self.outer_rate, round, self.rounds) * change
