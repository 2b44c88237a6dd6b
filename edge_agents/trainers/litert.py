"""Training behind an extractor: the Pi computes the features, any trainer learns from them.

So a board that is attached learns a head on features it could never compute itself.
"""

from __future__ import annotations

from dataclasses import dataclass

from edge_agents.trainers.protocol import Draw, Outcome, Trainer
from edge_agents.uploads import SlotUpload
from tinyfleet.learner.protocol import Samples
from tinyfleet.litert.extractor import features_of
from tinyfleet.litert.graph import Graph
from tinyfleet.model.spec import Parameters
from tinyfleet.strategies.plan import TrainingPlan


@dataclass(frozen=True, slots=True)
class _FeatureDraw:
    """A slot whose samples went through the extractor."""

    draw: Draw
    graph: Graph

    @property
    def run_id(self) -> str:
        return self.draw.run_id

    @property
    def round(self) -> int:
        return self.draw.round

    def __call__(self, count: int) -> Samples:
        return features_of(self.graph, self.draw(count))

    def seeds(self, count: int) -> list[int]:
        return self.draw.seeds(count)


class LiteRtTrainer:
    """Trains the model behind `graph` with `inner`, which draws where and when it always does.

    `seconds` of an outcome are those of `inner`: the features belong to the drawing.
    """

    def __init__(self, graph: Graph, inner: Trainer) -> None:
        self._graph = graph
        self._inner = inner

    @property
    def can_be_stopped(self) -> bool:
        return self._inner.can_be_stopped

    async def train(
        self, start: Parameters, plan: TrainingPlan, draw: Draw, upload: SlotUpload
    ) -> Outcome:
        return await self._inner.train(start, plan, _FeatureDraw(draw, self._graph), upload)
