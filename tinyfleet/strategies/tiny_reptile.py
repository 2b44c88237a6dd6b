"""TinyReptile: one device a round, learning online, from a stream it never stores.

Ren, Anicic and Runkler, "TinyReptile: TinyML with Federated Meta-Learning", arXiv 2304.05201.

    the server keeps an initialization  w
    each round, one device:
        takes w
        for each of k samples of its own stream, one at a time, seen once and forgotten:
            w' <- w' - inner_rate * gradient of the loss on that sample
        sends back w' - w
    the server moves towards what came back:  w <- w + outer_rate * (w' - w)

What comes out is no model of anybody's data: it is an initialization from which a new device
learns its own task in a few samples. Of the paper only the abstract was read, so every number
here is our choice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tinyfleet.model.spec import Parameters
from tinyfleet.strategies.base import Update, annealed, option, rounds_option
from tinyfleet.strategies.plan import Phase, TrainingPlan


@dataclass(frozen=True)
class TinyReptile:
    """The strategy `tiny_reptile`; see the module for the algorithm."""

    name = "tiny_reptile"
    agents_per_round = 1

    rounds: int = rounds_option()
    samples: int = option(50, "samples a device learns from in its round", 1, 1_000_000)
    inner_rate: float = option(0.01, "rate of the device's online steps", 1e-9, 10)
    outer_rate: float = option(0.5, "server's step towards the device, falling to 0", 1e-9, 10)

    def plan(self, round: int) -> TrainingPlan:
        return TrainingPlan((Phase(samples=self.samples, rate=self.inner_rate),))

    def apply(self, model: Parameters, updates: Sequence[Update], round: int) -> Parameters:
        (update,) = updates
        return model + annealed(self.outer_rate, round, self.rounds) * update.delta
