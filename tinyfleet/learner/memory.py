"""How much memory a device needs to learn a model, known before anything runs.

The arena's size is computed as mcu_bridge/firmware/learner/plan.c does, for installations without
the library; tests/unit/learner/test_memory.py holds both to the same number.
"""

from __future__ import annotations

from dataclasses import dataclass

from tinyfleet.learner.layer_table import LAYER
from tinyfleet.model.spec import ModelSpec, PlacedLayer
from tinyfleet.strategies.plan import TrainingPlan

_FLOAT = 4
_PLACE_BYTES = 12  # MUST match struct learner_place in learner_internal.h
_IN_PLACE = ("flatten", "relu", "tanh")


@dataclass(frozen=True)
class MemoryNeed:
    """Bytes that learning takes on a device, by what they are for.

    parameters_bytes: the parameter vector, float32.
    arena_bytes: activations, the two gradients in flight and the layers' places; what the C
        learner's `learner_measure` answers. Nothing in it grows with the parameters.
    table_bytes: the layer table.
    sample_bytes: one input and its target.
    gradient_bytes: the gradient of a batch, needed only for phases with a batch size above 1.
    start_bytes: a copy of what training began with and a bit for each parameter, needed only for
        proximal phases and to select the largest changes.
    """

    parameters_bytes: int
    arena_bytes: int
    table_bytes: int
    sample_bytes: int
    gradient_bytes: int
    start_bytes: int

    @property
    def online_bytes(self) -> int:
        """All that online learning of one sample at a time takes."""
        return self.parameters_bytes + self.arena_bytes + self.table_bytes + self.sample_bytes

    def plan_bytes(self, plan: TrainingPlan) -> int:
        """All that `plan` takes, as a device lays it out (command CONFIGURE).

        Online learning's, with the start where updates are pulled back to it, with a gradient where
        an update is of several samples, and with the samples of the longest phase that goes over
        them more than once.
        """
        start = plan.needs_start * self.start_bytes
        gradient = needs_gradient(plan) * self.gradient_bytes
        return self.online_bytes + start + gradient + stored_samples(plan) * self.sample_bytes


def needs_gradient(plan: TrainingPlan) -> bool:
    """Whether a phase of `plan` makes an update of several samples."""
    return any(phase.batch_size > 1 for phase in plan.phases)


def stored_samples(plan: TrainingPlan) -> int:
    """How many samples `plan` has a device keep: 0 when each is seen once."""
    return max((phase.samples for phase in plan.phases if phase.passes > 1), default=0)


def memory_needed(spec: ModelSpec) -> MemoryNeed:
    """The memory `spec` takes on a device that learns it."""
    return MemoryNeed(
        parameters_bytes=spec.parameter_bytes,
        arena_bytes=len(spec.layers) * _PLACE_BYTES + _FLOAT * arena_values(spec),
        table_bytes=len(spec.layers) * LAYER.size,
        sample_bytes=_FLOAT * (spec.inputs + spec.outputs),
        gradient_bytes=spec.parameter_bytes,
        start_bytes=spec.parameter_bytes + _bitmap_bytes(spec.parameter_count),
    )


def arena_values(spec: ModelSpec) -> int:
    """The floats of the arena: stacked outputs, and two gradients in what is free above them."""
    tops = _stack_tops(spec)
    return min(_values(spec, tops, low=True), _values(spec, tops, low=False))


def _stack_tops(spec: ModelSpec) -> list[int]:
    """For each layer, where the stack of the outputs up to its own ends.

    Flatten takes no room; an activation overwrites what is below it unless that is the sample or
    the output of another activation.
    """
    tops, end, overwritable = [], 0, False
    for placed in spec.placed:
        kind = placed.layer.kind
        activation = kind in ("relu", "tanh")
        if kind != "flatten":
            end += 0 if activation and overwritable else _size(placed.output_shape)
            overwritable = not activation
        tops.append(end)
    return tops


def _values(spec: ModelSpec, tops: list[int], low: bool) -> int:
    """The floats needed when the last layer's gradient lies at the low or the high end."""
    lowest = next(index for index, placed in enumerate(spec.placed) if placed.trainable)
    floor, size = tops[-1], _size(spec.placed[-1].output_shape)
    needed = floor + size
    for index, placed in _downwards(spec, lowest):
        below = _size(placed.input_shape)
        needed = max(needed, (floor if low else tops[index - 1]) + size + below)
        floor, size, low = tops[index - 1], below, not low
    return needed


def _downwards(spec: ModelSpec, lowest: int) -> list[tuple[int, PlacedLayer]]:
    """The layers above `lowest` whose input gradient needs room of its own, last one first."""
    layers = list(enumerate(spec.placed))[:lowest:-1]
    return [(index, placed) for index, placed in layers if placed.layer.kind not in _IN_PLACE]


def _bitmap_bytes(count: int) -> int:
    """A bit for each of `count`, in whole floats."""
    return -(-count // (8 * _FLOAT)) * _FLOAT


def _size(shape: tuple[int, int, int]) -> int:
    return shape[0] * shape[1] * shape[2]
