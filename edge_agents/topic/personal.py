"""The model as this device has adapted it: what predicts, and what a checkpoint of the agent is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tinyfleet.checkpoint import Checkpoint
from tinyfleet.learner import make_learner
from tinyfleet.learner.protocol import Floats, Learner
from tinyfleet.model.spec import ModelSpec, Parameters
from tinyfleet.run import RunSpec


@dataclass(frozen=True)
class PersonalModel:
    """A round's start, adapted to the samples that the device had of it so far.

    parameters: never changed once they are here.
    """

    run: RunSpec
    run_id: str
    round: int
    parameters: Parameters

    def checkpoint(self) -> Checkpoint:
        """The same as a checkpoint; its version is that of the round's start."""
        return Checkpoint(self.run, self.run_id, self.round, self.parameters)


class Personal:
    """The newest personalised model. One thread trains, one predicts, any may look at `newest`."""

    def __init__(self, engine: str, on_loss: Callable[[float], None] = lambda loss: None) -> None:
        """engine: what predicts. on_loss: hears of the loss of each piece, in the work thread."""
        self.newest: PersonalModel | None = None
        self._engine = engine
        self._on_loss = on_loss
        self._learners: dict[ModelSpec, Learner] = {}

    def learned(self, model: PersonalModel, loss: float) -> None:
        """Another piece was trained."""
        self.newest = model
        self._on_loss(loss)

    def predict(self, window: Floats) -> Floats | None:
        """`(outputs,) float32` for `(inputs,) float32`; None before anything was learned.

        It has a learner of its own, never one that trains.
        """
        newest = self.newest
        if newest is None:
            return None
        model = newest.run.model
        if model not in self._learners:
            self._learners = {model: make_learner(model, self._engine)}
        outputs = self._learners[model].predict(newest.parameters, window[np.newaxis, :])
        return outputs.reshape(-1)
