"""A `.tflite` file in front of a model: samples go in, features come out; it never learns.

TinyOL's arrangement (Ren et al., arXiv 2103.08295): a frozen network, and what learns online behind
it. Here what is behind it is a model like any other, so that every strategy, trainer and board can
learn it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tinyfleet.errors import InvalidInput
from tinyfleet.learner.protocol import Samples
from tinyfleet.litert.file import TfliteFile
from tinyfleet.litert.graph import Graph
from tinyfleet.model.extractor import MAX_VALUES, Extractor
from tinyfleet.model.layers import Shape
from tinyfleet.randomness import RandomStream
from tinyfleet.tasks.base import FewShotProblem, Task, TrainingClasses


def extractor_of(file: TfliteFile, graph: Graph, input_shape: Shape) -> Extractor:
    """The extractor that `file`, opened as `graph`, is for samples of `input_shape`.

    Raises InvalidInput unless it takes such samples: the same sides, where sides of 1 do not count,
    or a vector of as many values. Whatever it gives is one vector of features.
    """
    _check_input(graph, input_shape)
    features = graph.output.values
    if features > MAX_VALUES:
        raise InvalidInput(f"an extractor gives 1 to {MAX_VALUES} features, this one {features}")
    return Extractor(file.sha256, len(file.content), input_shape, features)


def open_extractor(file: TfliteFile, extractor: Extractor) -> Graph:
    """The graph of `file`, which must be the one that `extractor` names.

    Raises InvalidInput when it is another one, when LiteRT does not run it, or when it takes or
    gives something else than the run says.
    """
    if file.sha256 != extractor.sha256:
        raise InvalidInput(
            f"this file is not the run's extractor: it has SHA-256 {file.sha256[:12]}..., the run "
            f"asks for {extractor.sha256[:12]}..."
        )
    graph = Graph(file)
    found = extractor_of(file, graph, extractor.input_shape)
    if found != extractor:
        raise InvalidInput(
            f"the run says that its extractor gives {extractor.features} features from "
            f"{extractor.size} bytes, its file gives {found.features} from {found.size}"
        )
    return graph


def features_of(graph: Graph, samples: Samples) -> Samples:
    """The samples with their features for inputs."""
    return Samples(graph(samples.inputs), samples.targets)


class FeatureTask:
    """A task as the model behind an extractor sees it: the same problems, by their features."""

    def __init__(self, task: Task, graph: Graph) -> None:
        """Raises InvalidInput unless the graph takes the task's samples."""
        _check_input(graph, task.input_shape)
        self._task = task
        self._graph = graph
        self.name = task.name
        self.default_model = task.default_model
        self.recommended = task.recommended
        self.recommended_evaluation = task.recommended_evaluation

    @property
    def options(self) -> Mapping[str, Any]:
        return self._task.options

    @property
    def input_shape(self) -> Shape:
        return 1, 1, self._graph.output.values

    @property
    def outputs(self) -> int:
        return self._task.outputs

    @property
    def loss(self) -> str:
        return self._task.loss

    @property
    def training_classes(self) -> TrainingClasses | None:
        classes = self._task.training_classes
        if classes is None:
            return None
        return TrainingClasses(
            classes.count,
            lambda stream, count: features_of(self._graph, classes.draw(stream, count)),
        )

    @property
    def test_samples(self) -> int | None:
        return self._task.test_samples

    def training_samples(self, stream: RandomStream, count: int) -> Samples:
        return features_of(self._graph, self._task.training_samples(stream, count))

    def evaluation_problem(self, stream: RandomStream, shots: int, queries: int) -> FewShotProblem:
        problem = self._task.evaluation_problem(stream, shots, queries)
        return FewShotProblem(
            features_of(self._graph, problem.support), features_of(self._graph, problem.query)
        )


def _check_input(graph: Graph, shape: Shape) -> None:
    takes = graph.input.shape
    same_sides = _sides(takes) == _sides(shape)
    if not same_sides and takes != (shape[0] * shape[1] * shape[2],):
        raise InvalidInput(
            f"this .tflite takes samples of {'x'.join(map(str, takes)) or '1'}, the task gives "
            f"{'x'.join(map(str, shape))}"
        )


def _sides(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(side for side in shape if side != 1)
