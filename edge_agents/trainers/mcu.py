"""Training on an attached board: the host sends parameters and samples, and reads the result.

The host keeps the start and subtracts it by itself: a copy of the parameters would take a fifth of
what a Cortex-M4 has, and the difference has the same bits wherever it is made. Only a proximal plan
has the board keep one, to be pulled back to.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import ClassVar, Protocol, TypeVar

import numpy as np

from edge_agents.trainers.protocol import Draw, NotNow, Outcome
from edge_agents.trainers.thread import WorkThread
from mcu_bridge.device import Device
from tinyfleet.learner.memory import needs_gradient, stored_samples
from tinyfleet.learner.protocol import PlanTotal, Samples, Trained, check_samples, parts_of
from tinyfleet.model.spec import ModelSpec, Parameters
from tinyfleet.strategies.base import delta_of
from tinyfleet.strategies.plan import Phase, TrainingPlan

_NOTHING = np.zeros(0, np.float32)

Result = TypeVar("Result")
Part = tuple[Phase, Samples | int]
"""A phase and what it trains on: samples, or the seed with which a sensor draws them."""


class BoardGone(Exception):
    """The board does not come back; the message says what happened last."""


class AttachedBoard(Protocol):
    """A board that may fail and come back while it is used; see `edge_agents.boards.Board`."""

    async def use(self, work: Callable[[Device], Awaitable[Result]]) -> Result:
        """What `work` gives, however often it is begun; raises BoardGone."""
        ...


class McuTrainer:
    """Trains one model on one board, with the bits of the C learner.

    A board that restarts or falls silent gets the whole plan again, on the same samples. `seconds`
    of an outcome is the time in the learner by the board's own clock, the line excluded.
    """

    can_be_stopped: ClassVar[bool] = True

    def __init__(
        self, board: AttachedBoard, spec: ModelSpec, thread: WorkThread, on_sensor: bool = False
    ) -> None:
        """on_sensor: whether the samples are the board's own, seeded by the slot."""
        self._board = board
        self._spec = spec
        self._thread = thread
        self._on_sensor = on_sensor

    async def train(self, start: Parameters, plan: TrainingPlan, draw: Draw) -> Outcome:
        parts = await self._thread.run(lambda: self._parts(plan, draw))
        try:
            training = await self._board.use(lambda device: self._on(device, start, plan, parts))
        except BoardGone as gone:
            raise NotNow(f"the board is gone: {gone}") from None
        trained, counted, done, seconds = training
        delta = delta_of(trained, counted, done.finite)
        if delta is None:
            return Outcome(_NOTHING, 0.0, seconds, diverged=True)
        return Outcome(delta, done.loss, seconds, diverged=False)

    def _parts(self, plan: TrainingPlan, draw: Draw) -> list[Part]:
        """What each phase trains on. Checked here, before the board is asked for anything."""
        for phase in plan.phases:
            self._spec.layer_mask(phase.trainable)
        if self._on_sensor:
            return list(zip(plan.phases, draw.seeds(len(plan.phases)), strict=True))
        samples = draw(plan.samples)
        check_samples(self._spec, samples)
        return list(parts_of(plan, samples))

    async def _on(
        self, device: Device, start: Parameters, plan: TrainingPlan, parts: list[Part]
    ) -> tuple[Parameters, Parameters, Trained, float]:
        """Parameters, those from which their change counts, loss and busy seconds of the plan.

        Nothing of an earlier try counts.
        """
        await device.configure(
            self._spec,
            keep_start=plan.needs_start,
            gradient=needs_gradient(plan),
            stored_samples=stored_samples(plan),
        )
        await device.write_parameters(start)
        total, seconds, counted = PlanTotal(), 0.0, start
        for index, (phase, samples) in enumerate(parts):
            if index and index == plan.counted_from:
                counted = await device.read_parameters()
            if isinstance(samples, int):
                done = await device.train_on_sensor(phase, samples)
            else:
                done = await device.train(phase, samples)
            seconds += device.busy_seconds
            if not total.add(phase, done):
                return _NOTHING, counted, total.trained(), seconds
        return await device.read_parameters(), counted, total.trained(), seconds
