"""FedProx: FedAvg whose devices are pulled back to where they started.

Li et al., "Federated Optimization in Heterogeneous Networks", arXiv 1812.06127. A device minimises
its loss and  mu / 2 * |w' - w|^2 , so that one with unusual data, or with many steps, does not run
away with the model:

    each round, a few devices, each for every batch of its samples:
        w' <- w' - inner_rate * gradient of the batch's loss
        w' <- w' - inner_rate * mu * (w' - w)
    the server averages what comes back, as in FedAvg

The pull is taken where the gradient's step has led: an online learner changes its weights on the
way back through the network, so there is no gradient to add it to. Against a step along the
gradient of the sum it makes a difference of inner_rate^2 * mu times the gradient. With mu = 0 it is
FedAvg, bit for bit. Every device does its whole plan: of what the paper does with stragglers that
do only a part, there is nothing here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from tinyfleet.model.spec import Parameters
from tinyfleet.strategies.base import Update, option
from tinyfleet.strategies.fed_avg import LocalSGD
from tinyfleet.strategies.plan import MAX_PROXIMAL, TrainingPlan


@dataclass(frozen=True)
class FedProx(LocalSGD):
    """The strategy `fed_prox`; see the module for the algorithm. Defaults are our choice."""

    name = "fed_prox"

    mu: float = option(0.1, "how hard a device is pulled back to its start", 0, MAX_PROXIMAL)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.plan(0)  # refuses a pull beyond the start

    def plan(self, round: int) -> TrainingPlan:
        (phase,) = super().plan(round).phases
        return TrainingPlan((replace(phase, proximal=self.mu),))

    def apply(self, model: Parameters, updates: Sequence[Update], round: int) -> Parameters:
        return model + self.change(updates)
