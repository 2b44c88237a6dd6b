"""FedTinyOL: only the last layers learn, online; the body below them is frozen, never travels.

Ren, Anicic and Runkler, "TinyOL: TinyML with Online-Learning on Microcontrollers", arXiv
2103.08295, made federated by us: the head is shared and moves as in TinyReptile.

    the server keeps a head  w; the body is the run's seeded initialization, alike on every device
    each round, one device or several:
        takes w
        for each of its samples, seen once and forgotten:  w' <- w' - inner_rate * gradient
        sends back w' - w
    the server:  w <- w + outer_rate * mean of (w' - w)

In the paper the body was trained before, elsewhere, as it is in a comparison's baseline `tiny_ol`.
Here nobody trained it: the head learns on random features. That is the least traffic and time of
all strategies, and the floor for what a trained body is worth; do not expect the accuracy of one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tinyfleet.errors import InvalidInput
from tinyfleet.model.spec import MAX_LAYERS, Parameters
from tinyfleet.strategies.base import (
    MAX_AGENTS_PER_ROUND,
    Update,
    annealed,
    layers_option,
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
class FedTinyOL:
    """The strategy `fed_tiny_ol`; see the module for the algorithm. Defaults are our choice."""

    name = "fed_tiny_ol"

    rounds: int = rounds_option()
    layers: tuple[str, ...] = layers_option()
    agents_per_round: int = option(1, "devices in a round", 1, MAX_AGENTS_PER_ROUND)
    head_layers: int = option(1, "last layers that learn and travel", 1, MAX_LAYERS)
    samples: int = option(50, "samples a device learns from in its round", 1, 1_000_000)
    inner_rate: float = option(0.01, "rate of the device's online steps", 1e-9, 10)
    outer_rate: float = option(0.5, "server's step towards the mean, falling to 0", 1e-9, 10)
    combine: str = combine_option()
    byzantine: int = byzantine_option()

    def __post_init__(self) -> None:
        check_combining(self.combine, self.byzantine, self.agents_per_round)
        if self.head_layers > len(self.layers):
            raise InvalidInput(
                f"head_layers must be at most {len(self.layers)}, the model's layers with "
                f"parameters, got {self.head_layers}"
            )

    def plan(self, round: int) -> TrainingPlan:
        first = len(self.layers) - self.head_layers
        body, head = self.layers[:first], self.layers[first:]
        learn = Phase(self.samples, self.inner_rate, trainable=head)
        return TrainingPlan((learn,), local=body)

    def apply(self, model: Parameters, updates: Sequence[Update], round: int) -> Parameters:
        change = combined(self.combine, self.byzantine, updates, [1.0] * len(updates))
        return model + annealed(self.outer_rate, round, self.rounds) * change
