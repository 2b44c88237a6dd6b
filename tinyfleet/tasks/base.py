"""What a task is: a distribution of few-shot problems that all share one model shape.

Training draws one problem per (run seed, round, slot), evaluation one per (seed, index) from
problems that training never sees. A draw takes all its randomness from the stream it is given.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from tinyfleet.errors import InvalidInput
from tinyfleet.learner.protocol import Samples
from tinyfleet.model.layers import Shape
from tinyfleet.randomness import RandomStream

MAX_SHOTS = 100_000  # our choice: of one problem, per class for a classifier


@dataclass(frozen=True)
class FewShotProblem:
    """One unseen problem: adapt on the support set, test on the query set."""

    support: Samples
    query: Samples


@dataclass(frozen=True)
class TrainingClasses:
    """All that a task trains on as one classification: what a baseline without problems learns.

    count: of the classes, from 2. draw: `draw(stream, n)` gives n samples, each of a class drawn at
    random, all classes alike; targets are one-hot rows `(n, count)`.
    """

    count: int
    draw: Callable[[RandomStream, int], Samples]


class TaskOutline(Protocol):
    """What is known of a task without its data: enough to make a run of it."""

    name: ClassVar[str]
    default_model: ClassVar[str]
    recommended: ClassVar[Mapping[str, Mapping[str, Any]]]
    """By strategy: options that suit this task, used where the user sets none (our choice)."""
    recommended_evaluation: ClassVar[Mapping[str, Any]]
    """Fields of `tinyfleet.evaluation.EvaluationSettings` that suit this task (our choice)."""

    @property
    def options(self) -> Mapping[str, Any]:
        """What `make_task` needs to build an equal task, paths to data excluded."""
        ...

    @property
    def input_shape(self) -> Shape: ...

    @property
    def outputs(self) -> int: ...

    @property
    def loss(self) -> str:
        """A loss of `tinyfleet.model.spec.LOSSES`."""
        ...


class Task(TaskOutline, Protocol):
    """A distribution of problems. Implementations are immutable after construction."""

    @property
    def training_classes(self) -> TrainingClasses | None:
        """The classes that training problems are made of; None where outputs mean the same in all.

        (Then samples of all problems mixed are one problem, as they are.)
        """
        ...

    @property
    def test_samples(self) -> int | None:
        """Samples that every class to test on has, of a regression every problem; None: no end.

        So many can be shots and queries together.
        """
        ...

    def training_samples(self, stream: RandomStream, count: int) -> Samples:
        """`count` samples, in the order a device meets them, of one problem drawn for training."""
        ...

    def evaluation_problem(self, stream: RandomStream, shots: int, queries: int) -> FewShotProblem:
        """One problem that training never draws.

        shots: support samples, per class for a classifier. queries: query samples, likewise.
        """
        ...


def check_shots(shots: int, queries: int) -> None:
    """Raise InvalidInput unless both are 1 to MAX_SHOTS."""
    for what, value in (("shots", shots), ("queries", queries)):
        if not 1 <= value <= MAX_SHOTS:
            raise InvalidInput(f"{what} must be 1 to {MAX_SHOTS}, got {value}")
