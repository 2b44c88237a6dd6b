"""TinyMetaFed: TinyReptile that keeps the last layers at home and sends only what changed most.

Ren, Li, Anicic and Runkler, "TinyMetaFed: Efficient Federated Meta-Learning for TinyML", arXiv
2307.06822.

    the server keeps an initialization  w  of the shared layers; the local ones never leave a device
    each round, one device or several:
        takes w, or what changed of it since; its local layers begin as the run's initialization
        for each of the first samples of its stream, seen once and forgotten:
            the local layers learn, the shared ones stay           (partial local reconstruction)
        for each of the samples that follow:
            the shared layers learn, the local ones learn on       (or stay: `joint`)
        sends back the entries of w' - w that changed most         (top-P % communication)
    the server moves towards the mean of what came back:  w <- w + outer step * mean of (w' - w)

Of the paper only the abstract was read, so every number and every option here is our choice; the
two phases are those of Federated Reconstruction (Singhal et al., arXiv 2102.03448).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tinyfleet.codec.values import PRECISIONS
from tinyfleet.errors import InvalidInput
from tinyfleet.model.spec import MAX_LAYERS, Parameters
from tinyfleet.strategies.base import (
    MAX_AGENTS_PER_ROUND,
    SCHEDULES,
    Update,
    layers_option,
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
from tinyfleet.strategies.plan import Download, Phase, TrainingPlan, Upload


@dataclass(frozen=True)
class TinyMetaFed:
    """The strategy `tiny_meta_fed`; see the module for the algorithm."""

    name = "tiny_meta_fed"

    rounds: int = rounds_option()
    layers: tuple[str, ...] = layers_option()
    agents_per_round: int = option(1, "devices in a round", 1, MAX_AGENTS_PER_ROUND)
    local_layers: int = option(1, "last layers that stay on the device", 0, MAX_LAYERS - 1)
    local_samples: int = option(10, "first samples: the local layers learn", 1, 1_000_000)
    samples: int = option(50, "samples after those: the shared layers learn", 1, 1_000_000)
    local_rate: float = option(0.01, "rate of the local layers' online steps", 1e-9, 10)
    inner_rate: float = option(0.01, "rate of the steps after those", 1e-9, 10)
    joint: bool = option(True, "whether the local layers learn on with the shared ones")
    fraction: float = option(0.25, "P, the part of the shared entries that is sent", 1e-9, 1)
    precision: str = option("float32", "of the values that are sent", choices=PRECISIONS)
    error_feedback: bool = option(False, "whether a device sends later what it left out")
    down_precision: str = option("float32", "of what a device starts from", choices=PRECISIONS)
    changes_only: bool = option(True, "whether a device is sent only what it does not have yet")
    outer_rate: float = option(0.5, "server's step towards the mean", 1e-9, 10)
    schedule: str = option("linear", "how outer_rate goes over the run", choices=SCHEDULES)
    combine: str = combine_option()
    byzantine: int = byzantine_option()

    def __post_init__(self) -> None:
        _ = self.upload  # refuses what contradicts itself
        check_combining(self.combine, self.byzantine, self.agents_per_round)
        if self.local_layers >= max(len(self.layers), 1):
            raise InvalidInput(
                f"local_layers must be below {max(len(self.layers), 1)}, the model's layers with "
                f"parameters: one at least is shared, got {self.local_layers}"
            )

    @property
    def upload(self) -> Upload:
        """What of the change goes back; raises InvalidInput where that contradicts itself."""
        return Upload(self.fraction, self.precision, self.error_feedback)

    def plan(self, round: int) -> TrainingPlan:
        first_local = len(self.layers) - self.local_layers
        shared, local = self.layers[:first_local], self.layers[first_local:]
        learn = Phase(self.samples, self.inner_rate, trainable=() if self.joint else shared)
        rebuild = Phase(self.local_samples, self.local_rate, trainable=local)
        phases = (rebuild, learn) if local else (learn,)
        download = Download(self.down_precision, self.changes_only)
        return TrainingPlan(phases, local, self.upload, download)

    def apply(self, model: Parameters, updates: Sequence[Update], round: int) -> Parameters:
        step = scheduled(self.schedule, self.outer_rate, round, self.rounds)
        weights = [1.0] * len(updates)
        return model + step * combined(self.combine, self.byzantine, updates, weights)
