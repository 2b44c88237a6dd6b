"""Answers questions with the newest personalised model, and never waits for what trains."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from edge_agents.prediction.personal import Personal, PersonalModel
from edge_agents.prediction.predictor import Predictor, PredictorsOfThread
from edge_agents.trainers.local import INLINE_S
from edge_agents.trainers.thread import WorkThread
from tinyfleet.errors import InvalidInput, Refused, TinyFleetError
from tinyfleet.learner.protocol import Floats

MAX_SAMPLES = 1024  # our choice: of one question
MAX_INPUT_BYTES = 1024 * 1024  # our choice: of one question; 334 images of 28 by 28
MAX_WAITING = 64  # our choice: questions that are with the thread at the same time


class Busy(TinyFleetError):
    """Too many questions at once: ask again."""


class Answer(NamedTuple):
    """outputs: `(count, outputs) float32`, finite, what the parameters of `model` give."""

    model: PersonalModel
    outputs: Floats


class Answering:
    """Predicts on the event loop what is expected to take less than a millisecond, else not.

    Not means in a thread of its own, so that no question waits for a round. How long one takes is
    known from the one before, as in `edge_agents.trainers.local`.
    """

    def __init__(
        self,
        personal: Personal,
        no_model: str,
        timer: Callable[[], float] = time.perf_counter,
    ) -> None:
        """no_model: what to say while there is no model."""
        self._personal = personal
        self._no_model = no_model
        self._timer = timer
        self._thread = WorkThread("prediction")
        self._in_thread: set[asyncio.Task[Answer]] = set()
        self._predictors = PredictorsOfThread()  # of the thread while it works, else of the loop
        self._timed: Predictor | None = None  # whose seconds these are
        self._seconds_per_sample = self._seconds_per_hash = math.inf

    def newest(self) -> PersonalModel:
        """The model that answers now; raises Refused while there is none."""
        if self._personal.newest is None:
            raise Refused(self._no_model)
        return self._personal.newest

    def newest_or_none(self) -> PersonalModel | None:
        """The same, None while there is none."""
        return self._personal.newest

    async def named(self) -> PersonalModel:
        """The model that answers now, with its hash; raises Refused and Busy."""
        model = self.newest()
        return (await self._answer(model, np.empty((0, model.predictor.inputs), np.float32))).model

    async def predict(self, inputs: bytes, count: int) -> Answer:
        """inputs: `count` samples, little-endian float32. Raises InvalidInput, Refused and Busy."""
        model = self.newest()
        answer = await self._answer(model, _rows(inputs, count, model))
        _check_finite("the model gives no finite number for sample", answer.outputs)
        return answer

    async def _answer(self, model: PersonalModel, rows: Floats) -> Answer:
        if not self._in_thread and self._expected_s(model, len(rows)) < INLINE_S:
            return self._work(model, rows)
        if len(self._in_thread) >= MAX_WAITING:
            raise Busy(f"{MAX_WAITING} questions wait already: ask again")
        # What the thread has begun it ends, also for a caller that is gone: so it is counted here.
        task = asyncio.ensure_future(self._thread.run(lambda: self._work(model, rows)))
        self._in_thread.add(task)
        task.add_done_callback(self._is_done)
        return await asyncio.shield(task)

    def _is_done(self, task: asyncio.Task[Answer]) -> None:
        self._in_thread.discard(task)
        if not task.cancelled():
            task.exception()  # it was told to whoever asked, unless that one is gone

    def _expected_s(self, model: PersonalModel, count: int) -> float:
        if model.predictor is not self._timed:
            return math.inf
        hashing = 0.0 if model.is_hashed else self._seconds_per_hash
        return hashing + (self._seconds_per_sample * count if count else 0.0)

    def _work(self, model: PersonalModel, rows: Floats) -> Answer:
        begun = self._timer()
        if not model.is_hashed:
            _ = model.sha256
            self._seconds_per_hash = self._timer() - begun
            begun = self._timer()
        outputs = np.empty((0, model.predictor.outputs), np.float32)
        if len(rows):
            outputs = self._predictors.predict(model.predictor, model.parameters, rows)
            self._seconds_per_sample = (self._timer() - begun) / len(rows)
            self._timed = model.predictor
        return Answer(model, outputs)


def _rows(data: bytes, count: int, model: PersonalModel) -> Floats:
    """`(count, inputs) float32`; raises InvalidInput."""
    if not 1 <= count <= MAX_SAMPLES:
        raise InvalidInput(f"count must be 1 to {MAX_SAMPLES} samples, got {count}")
    if len(data) > MAX_INPUT_BYTES:
        raise InvalidInput(
            f"inputs have at most {MAX_INPUT_BYTES} bytes, got {len(data)}: ask for fewer samples"
        )
    inputs = model.predictor.inputs
    if len(data) != 4 * inputs * count:
        shape = "x".join(map(str, model.predictor.input_shape))
        raise InvalidInput(
            f"model '{model.run.model.name}' takes {shape} float32 a sample, {4 * inputs * count} "
            f"bytes for {count}, got {len(data)}"
        )
    rows = np.frombuffer(data, "<f4").astype(np.float32, copy=False).reshape(count, inputs)
    _check_finite("inputs must be finite numbers, unlike those of sample", rows)
    return rows


def _check_finite(complaint: str, rows: Floats) -> None:
    finite = np.isfinite(rows)
    if not finite.all():
        sample = int(np.flatnonzero(~finite.all(axis=1))[0])
        raise InvalidInput(f"{complaint} {sample} (counted from 0)")
