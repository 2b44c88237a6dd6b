"""What is asked of a run before it begins, and what it asks of an agent."""

from __future__ import annotations

from services.coordinator.fleet import Needs
from tinyfleet.exchange import exchange_of
from tinyfleet.learner.memory import memory_needed
from tinyfleet.run import RunSpec, check_fits
from tinyfleet.tasks import outline_task


def check_runnable(spec: RunSpec) -> None:
    """Raise InvalidInput when no agent could ever serve the run."""
    check_fits(outline_task(spec.task, spec.task_options), spec)
    exchange_of(spec)
    for phase in spec.make_strategy().plan(0).phases:
        spec.model.layer_mask(phase.trainable)


def needs_of(spec: RunSpec) -> Needs:
    """The task and the memory, in bytes, that the plan of a round takes on a device."""
    plan = spec.make_strategy().plan(0)
    return Needs(spec.task, memory_needed(spec.model).plan_bytes(plan))
