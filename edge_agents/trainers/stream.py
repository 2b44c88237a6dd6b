"""Training on this device, on samples that come one after the other."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import ClassVar

from edge_agents.topic.stream import StreamSource
from edge_agents.trainers.protocol import Draw, Learned, Outcome, diverged
from edge_agents.trainers.thread import WorkThread
from edge_agents.uploads import SlotUpload
from tinyfleet.learner.pieces import PlanInPieces
from tinyfleet.learner.protocol import Learner
from tinyfleet.model.spec import Parameters
from tinyfleet.strategies.plan import TrainingPlan


class StreamTrainer:
    """Trains piece by piece in the work thread, and waits for samples outside of it.

    So the thread is never blocked by a stream that stops, and a training that is cancelled ends
    with its piece. What it takes of the stream is used once, whatever becomes of the training.
    """

    can_be_stopped: ClassVar[bool] = True

    def __init__(
        self,
        learner: Learner,
        thread: WorkThread,
        stream: StreamSource,
        learned: Learned,
        timer: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._learner = learner
        self._thread = thread
        self._stream = stream
        self._learned = learned
        self._timer = timer

    async def train(
        self, start: Parameters, plan: TrainingPlan, draw: Draw, upload: SlotUpload
    ) -> Outcome:
        """As `Trainer.train`, on the next samples of the stream, whatever the slot."""
        pieces, seconds = PlanInPieces(self._learner, start, plan), 0.0
        with self._stream.in_use():
            while not pieces.over:
                seconds += await self._piece(pieces, draw)
        delta, done = pieces.result()
        if delta is None:
            return diverged(seconds)
        return Outcome(upload.encode(delta), done.loss, seconds, diverged=False)

    async def _piece(self, pieces: PlanInPieces, draw: Draw) -> float:
        """Train on what the stream has, or soon gives; the seconds that took."""
        if pieces.least == pieces.most:
            samples = await self._stream.all(pieces.most)
        else:
            samples = await self._stream.some(pieces.most)

        def train() -> float:
            begun = self._timer()
            loss = pieces.train(samples)
            seconds = self._timer() - begun
            if math.isfinite(loss):
                self._learned(pieces.parameters.copy(), loss, draw)
            return seconds

        return await self._thread.run(train)
