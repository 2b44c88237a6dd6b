"""An agent that learns from a topic: how its parts are put together."""

from __future__ import annotations

from edge_agents.model_files import ModelFiles
from edge_agents.prediction.personal import Personal
from edge_agents.prediction.predictor import Predictor
from edge_agents.preparation import Preparation
from edge_agents.topic.stream import StreamSource
from edge_agents.topic.topic import Topic
from edge_agents.trainers.protocol import Trainer
from edge_agents.trainers.stream import StreamTrainer
from edge_agents.trainers.thread import WorkThread
from tinyfleet.learner import make_learner
from tinyfleet.run import RunSpec


class TopicLearning:
    """What an agent needs to learn from `topic`, and to give what it learned to `personal`."""

    def __init__(self, topic: Topic, personal: Personal) -> None:
        self.topic = topic
        self.personal = personal

    def preparation(self, thread: WorkThread, engine: str, files: ModelFiles) -> Preparation:
        """Makes runs ready on this device, all of them on one queue of the topic."""
        stream = self.topic.for_a_member()
        return Preparation(
            lambda spec: stream,
            lambda spec, _: self._trainer(spec, thread, engine, stream),
            thread,
            files,
        )

    def _trainer(
        self, spec: RunSpec, thread: WorkThread, engine: str, stream: StreamSource
    ) -> Trainer:
        predictor = Predictor.of(spec.model, lambda: make_learner(spec.model, engine))
        learned = self.personal.hearing(spec, predictor)
        return StreamTrainer(make_learner(spec.model, engine), thread, stream, learned)
