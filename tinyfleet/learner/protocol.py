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
from tinyfleet.strategies.base import delta_of
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

    loss: mean, over all samples in all passes, of the loss just before the sample's update (for
        online learning: the honest, progressive loss); NaN when not finite. updates: SGD
        updates made.
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

    def train(
        self,
        parameters: Parameters,
        samples: Samples,
        phase: Phase,
        start: Parameters | None = None,
    ) -> Trained:
        """Run `phase` on exactly `phase.samples` samples; changes `parameters` in place.

        start: what a proximal phase is pulled back to, other memory than `parameters`.
        """
        ...


def run_plan(
    learner: Learner, parameters: Parameters, samples: Samples, plan: TrainingPlan
) -> Trained:
    """Run the phases of `plan` on consecutive parts of `samples`; changes `parameters` in place.

    Raises InvalidInput when there are not exactly `plan.samples` samples.
    """
    done, start = PlanTotal(), parameters.copy() if plan.needs_start else None
    for phase, part in parts_of(plan, samples):
        if not done.add(phase, learner.train(parameters, part, phase, start)):
            break
    return done.trained()


def learn_by_plan(
    learner: Learner, start: Parameters, samples: Samples, plan: TrainingPlan
) -> tuple[Parameters | None, Trained]:
    """What counts of the change that `plan` makes to `start`, which stays as it is.

    `(parameter_count,) float32`; None when the training diverged, see `delta_of`. Raises
    InvalidInput when there are not exactly `plan.samples` samples.
    """
    trained, counted, done = train_by_plan(learner, start, samples, plan)
    return delta_of(trained, counted, done.finite), done


def train_by_plan(
    learner: Learner, start: Parameters, samples: Samples, plan: TrainingPlan
) -> tuple[Parameters, Parameters, Trained]:
    """What `plan` makes of `start`, which stays as it is, and what its change counts from.

    Both `(parameter_count,) float32`; the first is the caller's own. Of no use when it is not
    finite. Raises InvalidInput when there are not exactly `plan.samples` samples.
    """
    trained, done, counted = start.copy(), PlanTotal(), start
    for index, (phase, part) in enumerate(parts_of(plan, samples)):
        if index and index == plan.counted_from:
            counted = trained.copy()
        if not done.add(phase, learner.train(trained, part, phase, start)):
            break
    return trained, counted, done.trained()


def parts_of(plan: TrainingPlan, samples: Samples) -> list[tuple[Phase, Samples]]:
    """Each phase of `plan` with the part of `samples` that it takes, one after the other.

    Raises InvalidInput when there are not exactly `plan.samples` samples.
    """
    if len(samples) != plan.samples:
        raise InvalidInput(f"the plan takes {plan.samples} samples, got {len(samples)}")
    parts, start = [], 0
    for phase in plan.phases:
        parts.append((phase, samples[start : start + phase.samples]))
        start += phase.samples
    return parts


class PlanTotal:
    """What the phases of a plan come to, wherever they are trained."""

    def __init__(self) -> None:
        self._loss = 0.0
        self._seen = self._updates = 0
        self._finite = True

    def add(self, phase: Phase, done: Trained) -> bool:
        """Count a phase in; False when its training diverged, which ends the plan."""
        seen = phase.samples * phase.passes
        self._loss += done.loss * seen
        self._seen += seen
        self._updates += done.updates
        self._finite = done.finite
        return done.finite

    def trained(self) -> Trained:
        """The plan as a whole."""
        loss = self._loss / self._seen if self._finite else float("nan")
        return Trained(loss, self._updates, self._finite)


def check_inputs(spec: ModelSpec, inputs: Floats) -> Floats:
    """`inputs` if they are `(count, spec.inputs) float32`; raises InvalidInput if not."""
    if inputs.dtype != np.float32 or inputs.ndim != 2 or inputs.shape[1] != spec.inputs:
        raise InvalidInput(
            f"model '{spec.name}' takes (count, {spec.inputs}) float32 inputs, "
            f"got {inputs.dtype} {inputs.shape}"
        )
    return inputs


def check_samples(spec: ModelSpec, samples: Samples) -> None:
    """Raise InvalidInput unless the rows of `samples` fit the model."""
    check_inputs(spec, samples.inputs)
    if samples.targets.shape[1] != spec.outputs:
        raise InvalidInput(
            f"model '{spec.name}' has {spec.outputs} outputs, "
            f"but the targets have {samples.targets.shape[1]} values"
        )


def check_phase(
    spec: ModelSpec,
    parameters: Parameters,
    samples: Samples,
    phase: Phase,
    start: Parameters | None,
) -> None:
    """Raise InvalidInput unless `train` can run: shapes, counts, and parameters to write to."""
    spec.check_parameters(parameters)
    if not (parameters.flags.c_contiguous and parameters.flags.writeable):
        raise InvalidInput("parameters are changed in place: they must be contiguous and writable")
    check_samples(spec, samples)
    if len(samples) != phase.samples:
        raise InvalidInput(f"the phase takes {phase.samples} samples, got {len(samples)}")
    if phase.proximal:
        _check_start(spec, parameters, start)


def _check_start(spec: ModelSpec, parameters: Parameters, start: Parameters | None) -> None:
    if start is None:
        raise InvalidInput("a proximal phase needs the start that it is pulled back to")
    spec.check_parameters(start)
    if not start.flags.c_contiguous or np.may_share_memory(start, parameters):
        raise InvalidInput("a start must be contiguous and other memory than the parameters")
