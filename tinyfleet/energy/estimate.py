"""From a plan and its bytes to seconds and joules of the devices: arithmetic, nothing else.

Counted are training and payload with its framing. Not counted: sensing, waiting, sleeping, choosing
which changes to send, joining a network, and the server.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tinyfleet.energy.models import Deployment
from tinyfleet.model.cost import layer_multiply_accumulates
from tinyfleet.model.spec import ModelSpec
from tinyfleet.strategies.plan import Phase, TrainingPlan


@dataclass(frozen=True)
class Workload:
    """What training takes, whoever does it.

    samples: gradients of one sample, each pass counted. macs: multiply-accumulates altogether.
    """

    samples: float
    macs: float

    def times(self, count: float) -> Workload:
        """The same `count` times."""
        return Workload(self.samples * count, self.macs * count)


@dataclass(frozen=True)
class Estimate:
    """Of all devices together, in joules and seconds. Seconds are of work, one after the other."""

    deployment: str
    training_j: float
    link_j: float
    training_s: float
    link_s: float

    @property
    def total_j(self) -> float:
        return self.training_j + self.link_j

    @property
    def device_s(self) -> float:
        return self.training_s + self.link_s

    def to_document(self) -> dict[str, Any]:
        """For JSON; rounded to six significant digits, for the models justify none of the rest."""
        names = ("training_j", "link_j", "total_j", "training_s", "link_s", "device_s")
        figures = {name: float(f"{getattr(self, name):.6g}") for name in names}
        return {"deployment": self.deployment, **figures}


def estimate(
    deployment: Deployment, workload: Workload, bytes_up: float, bytes_down: float
) -> Estimate:
    """What `workload` and so many bytes of payload cost on a deployment."""
    processor, link = deployment.processor, deployment.link
    training_s = processor.seconds(workload.samples, workload.macs)
    up_s, down_s = link.seconds(bytes_up), link.seconds(bytes_down)
    return Estimate(
        deployment.name,
        training_j=training_s * processor.watts,
        link_j=up_s * link.watts_sending + down_s * link.watts_receiving,
        training_s=training_s,
        link_s=up_s + down_s,
    )


def plan_workload(spec: ModelSpec, plan: TrainingPlan) -> Workload:
    """What one device does for `plan`."""
    work = [_phase_workload(spec, phase) for phase in plan.phases]
    return Workload(sum(w.samples for w in work), sum(w.macs for w in work))


def training_macs(spec: ModelSpec, trainable: tuple[str, ...] = ()) -> int:
    """Multiply-accumulates of a training step of one sample; three forward passes for all layers.

    Forward: every layer. Backward: the gradient of the inputs for every layer from the lowest one
    that learns, and the gradient of the weights for those that learn. trainable: names of the
    layers that learn, empty for all.
    """
    mask = spec.layer_mask(trainable)
    costs = [layer_multiply_accumulates(placed) for placed in spec.placed]
    learns = [placed.trainable and bool(mask >> i & 1) for i, placed in enumerate(spec.placed)]
    lowest = next((i for i, learning in enumerate(learns) if learning), len(costs))
    weights = sum(cost for cost, learning in zip(costs, learns, strict=True) if learning)
    return sum(costs) + sum(costs[lowest:]) + weights


def _phase_workload(spec: ModelSpec, phase: Phase) -> Workload:
    gradients = phase.samples * phase.passes
    return Workload(gradients, gradients * training_macs(spec, phase.trainable))
