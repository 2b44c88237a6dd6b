"""How the models of a run predict: made beside the run's trainer, which knows what it trains."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from tinyfleet.learner.protocol import Floats, Learner
from tinyfleet.model.layers import Shape
from tinyfleet.model.spec import ModelSpec, Parameters

MAX_RUNS = 4  # our choice: as many as an agent has ready; see edge_agents.work

Predict = Callable[[Parameters, Floats], Floats]
"""predict(parameters, rows): `(count, outputs) float32` for `(count, inputs) float32`."""

Features = Callable[[Floats], Floats]
"""features(rows): `(count, values) float32` for `(count, inputs) float32`."""


@dataclass(frozen=True, eq=False)
class Predictor:
    """How the models of one run predict.

    input_shape: of one sample as a caller has it. outputs: values for one sample. make: a
    `Predict` for one thread, with memory of its own; never what trains.
    """

    input_shape: Shape
    outputs: int
    make: Callable[[], Predict]

    @classmethod
    def of(cls, model: ModelSpec, make_learner: Callable[[], Learner]) -> Predictor:
        """By a learner of the model; make_learner: makes one for one thread."""
        return cls(model.input_shape, model.outputs, lambda: make_learner().predict)

    def behind(self, input_shape: Shape, features: Callable[[], Features]) -> Predictor:
        """The same model behind something that makes its inputs: an extractor of features.

        input_shape: of what the extractor takes. features: makes one for one thread.
        """

        def make() -> Predict:
            extract, predict = features(), self.make()
            return lambda parameters, rows: predict(parameters, extract(rows))

        return Predictor(input_shape, self.outputs, make)

    @property
    def inputs(self) -> int:
        """Values of one sample."""
        height, width, channels = self.input_shape
        return height * width * channels


class PredictorsOfThread:
    """What one thread predicts with: made when a run's first prediction is asked for, then kept."""

    def __init__(self) -> None:
        self._made: OrderedDict[Predictor, Predict] = OrderedDict()

    def predict(self, predictor: Predictor, parameters: Parameters, rows: Floats) -> Floats:
        """`(count, outputs) float32`."""
        made = self._made.get(predictor)
        if made is None:
            made = self._made[predictor] = predictor.make()
            if len(self._made) > MAX_RUNS:
                self._made.popitem(last=False)
        return made(parameters, rows)
