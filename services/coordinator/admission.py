"""What is asked of a run before it begins, and what it asks of an agent."""

from __future__ import annotations

from services.coordinator.fleet import Needs
from tinyfleet.learner.memory import memory_needed
from tinyfleet.run import RunSpec, check_fits
from tinyfleet.strategies import Phase
from tinyfleet.tasks import outline_task


def check_runnable(spec: RunSpec) -> None:
    """Raise InvalidInput when no agent could ever serve the run."""
    check_fits(outline_task(spec.task, spec.task_options), spec.model)
    for phase in _phases(spec):
        spec.model.layer_mask(phase.trainable)


def needs_of(spec: RunSpec) -> Needs:
    """The task and the memory, in bytes, that the plan of a round takes on a device.

    Online phases hold one sample. Others hold theirs, and a gradient where steps are of batches.
    """
    memory = memory_needed(spec.model)
    stored = [phase.samples for phase in _phases(spec) if not phase.online]
    gradient = any(phase.batch_size > 1 for phase in _phases(spec)) * memory.gradient_bytes
    samples = max(stored, default=0) * memory.sample_bytes
    return Needs(spec.task, memory.online_bytes + gradient + samples)


def _phases(spec: RunSpec) -> tuple[Phase, ...]:
    return spec.make_strategy().plan(0).phases
