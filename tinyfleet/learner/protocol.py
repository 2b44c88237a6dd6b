"""What every learner does, whatever it computes with.

Three implementations: `native` (the C learner, what runs in production and on the Cortex-M4),
`reference` (NumPy float32, the same operations in the same order, the same bits) and `oracle`
(NumPy float64, written for clarity, the one that is right by inspection).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from tinyfleet.errors import InvalidInput
from tinyfleet.model.spec import ModelSpec, Parameters
from tinyfleet.strategies.plan import Phase, TrainingPlan

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Samples:
    """Samples in the order in which a device sees them.

    inputs: `(count, inputs) float32`. targets: `(count, outputs) float32`; for a classifier one-hot
    rows, or a distribution over the classes.
    """

    inputs: Floats
    targets: Floats

    def __post_init__(self) -> None:
        for array in (self.inputs, self.targets):
            if array.dtype != np.float32 or array.ndim != 2:
                raise InvalidInput(f"samples must be 2-D float32, got {array.dtype} {array.shape}")
        if len(self.inputs) != len(self.targets):
            raise InvalidInput(f"{len(self.inputs)} inputs but {len(self.targets)} targets")

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, part: slice) -> Samples:
        return Samples(self.inputs[part], self.targets[part])


@dataclass(frozen=True)
class Trained:
    """What a phase or a plan did.

    loss: mean over all updates' samples of the loss just before each update (for online
        learning: the honest, progressive loss). updates: SGD updates made.
    finite: False when a loss or a parameter stopped being a finite number. The parameters are then
        of no use, and the training stopped there.
    """

    loss: float
    updates: int
    finite: bool


class Learner(Protocol):
    """A model that can be run and trained. Not thread-safe: one learner per thread."""

    @property
    def spec(self) -> ModelSpec: ...

    def predict(self, parameters: Parameters, inputs: Floats) -> Floats:
        """`(count, outputs) float32` for `(count, inputs) float32`; logits for a classifier."""
        ...

    def losses(self, parameters: Parameters, samples: Samples) -> Floats:
        """`(count,) float32`, the loss of each sample."""
        ...

    def train(self, parameters: Parameters, samples: Samples, phase: Phase) -> Trained:
        """Run `phase` on exactly `phase.samples` samples; changes `parameters` in place."""
        ...


def run_plan(
    learner: Learner, parameters: Parameters, samples: Samples, plan: TrainingPlan
) -> Trained:
    """Run the phases of `plan` on consecutive parts of `samples`; changes `parameters` in place.

    Raises InvalidInput when there are not exactly `plan.samples` samples.
    """
    if len(samples) != plan.samples:
        raise InvalidInput(f"the plan takes {plan.samples} samples, got {len(samples)}")
    start, loss, updates = 0, 0.0, 0
    for phase in plan.phases:
        done = learner.train(parameters, samples[start : start + phase.samples], phase)
        start += phase.samples
        loss += done.loss * done.updates
        updates += done.updates
        if not done.finite:
            return Trained(float("nan"), updates, finite=False)
    return Trained(loss / updates, updates, finite=True)
