"""How well an initialization adapts: a few samples of an unseen problem, then the test.

Each problem starts from its own copy of the parameters, is learned online (one sample at a time, in
`passes` passes over its support set) and is tested on its query set before and after. All layers
learn, or only the last ones (`last_layers`; the body is frozen then, as in TinyOL, Ren, Anicic and
Runkler, arXiv 2103.08295).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from tinyfleet.errors import InvalidInput, unknown_name
from tinyfleet.evaluation.score import Result, Score, score
from tinyfleet.learner.protocol import Learner, Samples
from tinyfleet.model.spec import MAX_LAYERS, ModelSpec, Parameters
from tinyfleet.randomness import Purpose, RandomStream
from tinyfleet.strategies.plan import Phase
from tinyfleet.tasks.base import FewShotProblem, Task, check_shots

MAX_TASKS = 1_000_000
MAX_PASSES = 1_000
QUICK_TASKS = 100


@dataclass(frozen=True)
class EvaluationSettings:
    """How to adapt and test.

    tasks: problems, 1 to 1,000,000. shots, queries: support and query samples, per class for a
    classifier. passes: over the support set, 1 to 1,000. rate: of the online steps. seed: 0 to
    2**63 - 1, determines the problems. curve_tasks: the first so many problems are also tested
    after each pass. last_layers: how many of the last layers with parameters learn; 0: all layers.
    """

    tasks: int = 1000
    shots: int = 10
    queries: int = 50
    passes: int = 5
    rate: float = 0.01
    seed: int = 0
    curve_tasks: int = 100
    last_layers: int = 0

    def __post_init__(self) -> None:
        check_shots(self.shots, self.queries)
        bounds = {"tasks": (1, MAX_TASKS), "passes": (1, MAX_PASSES), "seed": (0, 2**63 - 1)}
        bounds |= {"curve_tasks": (0, MAX_TASKS), "last_layers": (0, MAX_LAYERS)}
        for name, (low, high) in bounds.items():
            if not low <= getattr(self, name) <= high:
                raise InvalidInput(f"{name} must be {low} to {high}, got {getattr(self, name)}")
        if not (math.isfinite(self.rate) and 0.0 < self.rate <= 10.0):
            raise InvalidInput(f"rate must be above 0 and at most 10, got {self.rate}")

    @classmethod
    def for_task(cls, task: Task, **chosen: Any) -> EvaluationSettings:
        """What the task recommends, with the caller's choices (those that are not None) over it.

        Queries that nobody chose are as many as the task's data have left after the shots. Raises
        InvalidInput when the data have too few samples.
        """
        known = cls.__dataclass_fields__
        for name in chosen:
            if name not in known:
                raise unknown_name("evaluation setting", name, known)
        given = {name: value for name, value in chosen.items() if value is not None}
        settings = cls(**{**task.recommended_evaluation, **given})
        fitting = settings.at_shots(settings.shots, task)
        if "queries" in given and fitting != settings:
            raise InvalidInput(
                f"{settings.shots} shots leave {fitting.queries} samples of a class to test on, "
                f"not {settings.queries} queries: ask for fewer"
            )
        return fitting

    def at_shots(self, shots: int, task: Task) -> EvaluationSettings:
        """The same with so many shots, and fewer queries where the task's classes are small.

        Raises InvalidInput when no sample is left to test on.
        """
        most = task.test_samples
        if most is None:
            return replace(self, shots=shots)
        if shots >= most:
            raise InvalidInput(
                f"{shots} shots leave nothing to test on: task '{task.name}' has classes of {most} "
                f"samples to test on, so ask for 1 to {most - 1} shots"
            )
        return replace(self, shots=shots, queries=min(self.queries, most - shots))

    def trainable(self, spec: ModelSpec) -> tuple[str, ...]:
        """The layers of `spec` that learn, as a `Phase` names them: none named means all.

        Raises InvalidInput when the model has fewer layers with parameters than `last_layers`.
        """
        layers = spec.trainable_layers
        if self.last_layers > len(layers):
            raise InvalidInput(
                f"last_layers must be 0 to {len(layers)}, the layers of model '{spec.name}' with "
                f"parameters, got {self.last_layers}"
            )
        return layers[len(layers) - self.last_layers :] if self.last_layers else ()

    def quick(self) -> EvaluationSettings:
        """The same on the first 100 problems at most and without a curve, for tests on the way."""
        return replace(self, tasks=min(self.tasks, QUICK_TASKS), curve_tasks=0)


def layers_in_words(last_layers: int) -> str:
    """What to add to passes and rate: nothing where all layers learn."""
    if not last_layers:
        return ""
    return f", last {'layer' if last_layers == 1 else f'{last_layers} layers'} only"


@dataclass(frozen=True)
class CurvePoint:
    """The score after `steps` online steps on the support set."""

    steps: int
    score: Score


@dataclass(frozen=True)
class Evaluation:
    """Scores over all problems before and after adaptation.

    curve: scores over the first `settings.curve_tasks` problems, from no adaptation at all to the
    last pass; empty when there are none.
    """

    settings: EvaluationSettings
    before: Score
    after: Score
    curve: tuple[CurvePoint, ...]

    def to_document(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "settings": asdict(self.settings),
            "before": self.before.to_document(),
            "after": self.after.to_document(),
            "curve": [{"steps": p.steps, **p.score.to_document()} for p in self.curve],
        }


def evaluation_problems(task: Task, settings: EvaluationSettings) -> Iterator[FewShotProblem]:
    """The problems of an evaluation, in order: number i depends on the seed and i only."""
    for index in range(settings.tasks):
        stream = RandomStream(settings.seed, Purpose.EVALUATION_TASK, index)
        yield task.evaluation_problem(stream, settings.shots, settings.queries)


def evaluate(
    learner: Learner,
    parameters: Parameters,
    task: Task,
    settings: EvaluationSettings,
    on_problem: Callable[[int], None] | None = None,
) -> Evaluation:
    """Adapt to and test on `settings.tasks` unseen problems; `parameters` stay as they are.

    The same seed gives the same result. on_problem: called with the number of problems done.
    """
    start = learner.spec.check_parameters(parameters)
    settings.trainable(learner.spec)
    trails: list[list[Result]] = []
    steps = 0
    for index, problem in enumerate(evaluation_problems(task, settings)):
        in_curve = index < settings.curve_tasks
        trails.append(adaptation_trail(learner, start, problem, settings, in_curve))
        steps = len(problem.support)
        if on_problem is not None:
            on_problem(index + 1)
    return Evaluation(
        settings,
        before=score([trail[0] for trail in trails]),
        after=score([trail[-1] for trail in trails]),
        curve=_curve(trails[: settings.curve_tasks], steps),
    )


def adaptation_trail(
    learner: Learner,
    parameters: Parameters,
    problem: FewShotProblem,
    settings: EvaluationSettings,
    each_pass: bool = True,
) -> list[Result]:
    """Results on one problem's query set: before, then after each pass (or after the last)."""
    adapted = parameters.copy()
    trail = [_test(learner, adapted, problem.query)]
    parts = [1] * settings.passes if each_pass else [settings.passes]
    finite = True
    for passes in parts:
        finite = finite and adapt(learner, adapted, problem.support, settings, passes)
        trail.append(_test(learner, adapted, problem.query) if finite else _lost(trail[0]))
    return trail


def adapt(
    learner: Learner,
    parameters: Parameters,
    support: Samples,
    settings: EvaluationSettings,
    passes: int,
) -> bool:
    """Learn the support set online, in place; False when training diverged."""
    layers = settings.trainable(learner.spec)
    phase = Phase(len(support), settings.rate, passes=passes, trainable=layers)
    return learner.train(parameters, support, phase).finite


def _test(learner: Learner, parameters: Parameters, query: Samples) -> Result:
    loss = float(np.mean(learner.losses(parameters, query), dtype=np.float64))
    if learner.spec.loss != "softmax_cross_entropy":
        return Result(loss, None)
    said = learner.predict(parameters, query.inputs).argmax(axis=1)
    return Result(loss, float(np.mean(said == query.targets.argmax(axis=1))))


def _lost(before: Result) -> Result:
    return Result(math.nan, None if before.accuracy is None else 0.0)


def _curve(trails: list[list[Result]], support: int) -> tuple[CurvePoint, ...]:
    points = zip(*trails, strict=True)
    return tuple(CurvePoint(i * support, score(results)) for i, results in enumerate(points))
