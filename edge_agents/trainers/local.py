"""Training on this device, with one of the core library's learners."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import ClassVar

from edge_agents.trainers.protocol import Draw, Learned, Outcome, diverged
from edge_agents.trainers.thread import WorkThread
from edge_agents.uploads import SlotUpload
from tinyfleet.learner.protocol import Learner, train_by_plan
from tinyfleet.model.spec import Parameters
from tinyfleet.strategies.base import delta_of
from tinyfleet.strategies.plan import TrainingPlan

INLINE_S = 0.001
"""Our choice: what is expected to take less runs on the event loop. The hop to the thread and back
costs about a tenth of that, and nothing the loop does notices a millisecond."""


class LocalTrainer:
    """Trains in the work thread, or on the event loop when that takes less than a millisecond.

    How long a plan will take is known from the plan before it: seconds per sample and pass,
    drawing included. So the estimate holds for every model, engine and processor, and a
    device that slows down goes back to the thread by itself.
    """

    can_be_stopped: ClassVar[bool] = False  # the C learner returns when it is done

    def __init__(
        self,
        learner: Learner,
        thread: WorkThread,
        timer: Callable[[], float] = time.perf_counter,
        learned: Learned | None = None,
    ) -> None:
        """learned: hears of every plan that did not diverge."""
        self._learner = learner
        self._thread = thread
        self._learned = learned
        self._timer = timer
        self._seconds_per_step = math.inf

    async def train(
        self, start: Parameters, plan: TrainingPlan, draw: Draw, upload: SlotUpload
    ) -> Outcome:
        if self._seconds_per_step * _steps(plan) < INLINE_S:
            return self._train(start, plan, draw, upload)
        return await self._thread.run(lambda: self._train(start, plan, draw, upload))

    def _train(
        self, start: Parameters, plan: TrainingPlan, draw: Draw, upload: SlotUpload
    ) -> Outcome:
        called = self._timer()
        samples = draw(plan.samples)
        begun = self._timer()
        trained, counted, done = train_by_plan(self._learner, start, samples, plan)
        kept = trained.copy() if self._learned else None  # the change is written over it
        delta = delta_of(trained, counted, done.finite)
        ended = self._timer()
        self._seconds_per_step = (ended - called) / _steps(plan)
        if delta is None:
            return diverged(ended - begun)
        if self._learned is not None and kept is not None:
            self._learned(kept, done.loss, draw)
        return Outcome(upload.encode(delta), done.loss, ended - begun, diverged=False)


def _steps(plan: TrainingPlan) -> int:
    return sum(phase.samples * phase.passes for phase in plan.phases)
