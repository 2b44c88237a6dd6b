"""The model as this device has adapted it: what predicts, and what a checkpoint of the agent is."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from edge_agents.prediction.predictor import Predictor, PredictorsOfThread
from edge_agents.trainers.protocol import Draw, Learned
from tinyfleet.checkpoint import Checkpoint
from tinyfleet.learner.protocol import Floats
from tinyfleet.model.spec import Parameters, parameters_sha256
from tinyfleet.run import RunSpec


@dataclass(frozen=True)
class PersonalModel:
    """A round's start, adapted to the samples that the device had of it so far.

    parameters: never changed once they are here. loss: mean of what it was trained on last.
    number: counts the models since the process started, from 1. trained_at: seconds since 1970.
    """

    run: RunSpec
    run_id: str
    round: int
    parameters: Parameters
    predictor: Predictor
    loss: float
    number: int
    trained_at: float

    @cached_property
    def sha256(self) -> str:
        """Of the parameters; computed when it is first asked for, some 10 ms a megabyte."""
        return parameters_sha256(self.parameters)

    @property
    def is_hashed(self) -> bool:
        """Whether `sha256` is there at once."""
        return "sha256" in self.__dict__

    def checkpoint(self) -> Checkpoint:
        """The same as a checkpoint; its version is that of the round's start."""
        return Checkpoint(self.run, self.run_id, self.round, self.parameters)


class Personal:
    """The newest personalised model, replaced as a whole. One thread trains, any may look."""

    def __init__(
        self,
        on_loss: Callable[[float], None] = lambda loss: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """on_loss: hears of the loss of what was trained, in the thread that did."""
        self.newest: PersonalModel | None = None
        self._on_loss = on_loss
        self._clock = clock
        self._predictors = PredictorsOfThread()

    def hearing(self, run: RunSpec, predictor: Predictor) -> Learned:
        """What a trainer of that run tells of all that it has trained."""

        def learned(parameters: Parameters, loss: float, draw: Draw) -> None:
            number = self.newest.number + 1 if self.newest else 1
            where = draw.run_id, draw.round
            self.newest = PersonalModel(
                run, *where, parameters, predictor, loss, number, self._clock()
            )
            self._on_loss(loss)

        return learned

    def predict(self, window: Floats) -> Floats | None:
        """`(outputs,) float32` for `(inputs,) float32`; None before anything was learned.

        For one thread. Never waits for what trains.
        """
        newest = self.newest
        if newest is None:
            return None
        rows = window[np.newaxis, :]
        return self._predictors.predict(newest.predictor, newest.parameters, rows).reshape(-1)
