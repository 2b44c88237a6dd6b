"""One strategy from one seed: the unit of a comparison, which a process does by itself.

A job is a run of the simulator, tested before the first round, every `test_every` rounds and at the
end, each time on the same problems. Its last test is what `tinyfleet simulate` prints for the same
flags. It says what it does as it does it, and a diverging job ends with a result that says so.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Protocol

from tinyfleet.comparison.baselines import (
    PRETRAINED,
    given_to_devices,
    pretrain,
    pretraining_run,
)
from tinyfleet.comparison.experiment import Contender, Experiment
from tinyfleet.errors import Diverged, InvalidInput
from tinyfleet.evaluation import Evaluation, EvaluationSettings, Health, Score, evaluate
from tinyfleet.evaluation.adaptation import evaluation_problems
from tinyfleet.exchange import exchange_of
from tinyfleet.learner.protocol import Learner
from tinyfleet.model import ModelSpec
from tinyfleet.model.extractor import Extractor
from tinyfleet.model.spec import Parameters, parameters_sha256
from tinyfleet.run import RunSpec, make_run
from tinyfleet.simulation import RoundReport, ServedDevices, simulate
from tinyfleet.strategies.base import Memory, asynchronous
from tinyfleet.tasks import Task

_KEPT_PARTS = 20  # our choice: how often a job keeps its state, beside each test


@dataclass(frozen=True)
class Job:
    """label, seed: which. baseline: None, or one of `BASELINES`. rounds: 0 for `local`.

    run: of a baseline, what gives the model, the seed and, where it trains, samples and rate.
    trained: `run`, but of a baseline that trains with the model which that takes. shots: how to
    test at each number of samples of the adaptation curve. devices: how many take turns in the
    slots, None: each slot has a new one.
    """

    name: str
    label: str
    baseline: str | None
    rounds: int
    run: RunSpec
    trained: RunSpec
    settings: EvaluationSettings
    test_every: int
    shots: tuple[EvaluationSettings, ...]
    devices: int | None = None

    @property
    def seed(self) -> int:
        return self.run.seed

    @property
    def keep_every(self) -> int:
        """Rounds between the states that are kept for going on; those of tests are kept, too."""
        return max(1, self.rounds // _KEPT_PARTS)

    @property
    def can_go_on(self) -> bool:
        """Whether a kept state is of use.

        Where rounds overlap, or devices remember what they left out, a job begins anew instead.
        """
        overlapping = asynchronous(self.run.make_strategy()) is not None
        return not (overlapping or exchange_of(self.run).error_feedback)


@dataclass(frozen=True)
class Measured:
    """A mean over problems with its 95 % interval, and how many problems it is of.

    value: accuracy, or the loss where there is none; nan when no problem has one.
    """

    value: float
    low: float
    high: float
    count: int
    loss: float
    diverged: int

    @classmethod
    def of(cls, score: Score, problems: int) -> Measured:
        value = score.loss if score.accuracy is None else score.accuracy
        count = problems - (score.diverged if score.accuracy is None else 0)
        return cls(value, *score.ci95, count, score.loss, score.diverged)


@dataclass(frozen=True)
class Point:
    """A test after `version` rounds. samples and bytes: from the beginning of the run to here."""

    version: int
    after: Measured
    samples: int = 0
    bytes_up: int = 0
    bytes_down: int = 0
    diverged: int = 0


@dataclass(frozen=True)
class JobResult:
    """What a job left. failure: None, or why it ended early. points: at least one unless it did.

    before: without any adaptation, at the end. shots: `(shots, score)` of the adaptation curve.
    warnings: what `tinyfleet.evaluation.Health` had to say.
    """

    points: tuple[Point, ...]
    before: Measured | None
    shots: tuple[tuple[int, Measured], ...]
    parameters_sha256: str
    failure: str | None = None
    failed_at: int | None = None
    warnings: tuple[str, ...] = ()


@dataclass
class Progress:
    """How far a job is; what `Keeper` keeps and gives back.

    memory: what the server's rule remembers with the parameters. held: what its devices hold.
    """

    version: int = 0
    parameters: Parameters | None = None
    samples: int = 0
    bytes_up: int = 0
    bytes_down: int = 0
    diverged: int = 0
    points: list[Point] = field(default_factory=list)
    said: dict[str, str] = field(default_factory=dict)
    memory: Memory = ()
    held: bytes = b""


class Keeper(Protocol):
    """Where a job's state survives its process."""

    def begin(self, job: Job) -> Progress:
        """Where the job stands: at its beginning, unless some of it is kept."""
        ...

    def keep(self, job: Job, progress: Progress) -> None: ...


LearnerOf = Callable[[ModelSpec], Learner]


class Watcher(Protocol):
    """Who is told what a job does, as it does it."""

    def round(self, version: int) -> None: ...

    def tested(self, point: Point) -> None: ...

    def warn(self, text: str) -> None: ...


@dataclass(frozen=True)
class Behind:
    """An extractor, and the experiment's task as models behind it see it."""

    extractor: Extractor
    task: Task


ModelOf = Callable[[str], ModelSpec | str]
"""A model's spec or built-in name from what an experiment calls it."""


def make_jobs(
    experiment: Experiment,
    task: Task,
    model: ModelSpec | str | None,
    extractors: Mapping[str, Behind] | None = None,
    model_of: ModelOf = str,
) -> tuple[Job, ...]:
    """All jobs, the seeds of the first strategy first; raises InvalidInput on bad options.

    extractors: by the names that the experiment has for them.
    """
    behind = _checked(experiment, extractors or {})
    settings = EvaluationSettings.for_task(task, **experiment.test)
    return tuple(
        _make_job(
            experiment,
            number,
            contender,
            _run(contender, task, seed, model, behind.get(contender.extractor), model_of),
            behind[contender.extractor].task if contender.extractor else task,
            settings,
        )
        for number, contender in enumerate(experiment.contenders)
        for seed in experiment.seeds
    )


def _make_job(
    experiment: Experiment,
    number: int,
    contender: Contender,
    run: RunSpec,
    task: Task,
    settings: EvaluationSettings,
) -> Job:
    settings = replace(settings, **contender.adapt)
    settings.trainable(run.model)
    return Job(
        name=f"{number + 1:02d}-{_slug(contender.label)}-seed-{run.seed}",
        label=contender.label,
        baseline=contender.strategy if contender.baseline else None,
        rounds=contender.rounds,
        run=run,
        trained=pretraining_run(run, task) if contender.strategy in PRETRAINED else run,
        settings=settings,
        test_every=contender.test_every,
        shots=tuple(_at_shots(count, task, settings) for count in experiment.shots),
        devices=contender.devices,
    )


def run_job(
    job: Job, task: Task, learner_of: LearnerOf, keeper: Keeper, watcher: Watcher
) -> JobResult:
    """Do a job, from where the keeper says it stands, to its end."""
    progress = keeper.begin(job)
    learner = learner_of(job.run.model)
    devices = _devices(job, progress)
    course = _Course(job, task, learner, keeper, watcher, progress, devices)
    parameters = progress.parameters
    if parameters is None:
        parameters = job.trained.initial_parameters()
        course.test(parameters)
    try:
        if job.baseline is None:
            begun = (parameters, progress.version, progress.memory)
            result = simulate(job.run, task, learner, course.round, *begun, devices=devices)
            parameters = result.parameters
        elif job.rounds:
            trainer = learner_of(job.trained.model)
            parameters = pretrain(
                job.trained, task, trainer, course.round, parameters, progress.version
            )
    except Diverged as error:
        return _failed(course, parameters, str(error))
    return _finished(job, task, learner, course, parameters)


class _Course:
    """What happens around the rounds: counting, tests, keeping, telling."""

    def __init__(
        self,
        job: Job,
        task: Task,
        learner: Learner,
        keeper: Keeper,
        watcher: Watcher,
        progress: Progress,
        devices: ServedDevices | None,
    ) -> None:
        self.progress = progress
        self.evaluation: Evaluation | None = None
        self._job, self._task, self._learner = job, task, learner
        self._keeper, self._watcher = keeper, watcher
        self._devices = devices
        self.health = Health(job.rounds, job.run.model, watcher.warn, progress.said)
        self._keeps = job.can_go_on

    def round(self, report: RoundReport) -> None:
        """Count a round in; test and keep where it is time to."""
        done = self.progress
        done.version = report.version
        done.samples += report.samples
        done.bytes_up += report.bytes_up
        done.bytes_down += report.bytes_down
        done.diverged += report.diverged
        self._watcher.round(report.version)
        self.health.updates(report.version, done.diverged)
        job = self._job
        if report.version == job.rounds:
            return  # the end is tested by `_finished`, with all that belongs to it
        tested = bool(job.test_every) and report.version % job.test_every == 0
        if tested:
            self.test(report.parameters)
        if self._keeps and (tested or report.version % job.keep_every == 0):
            done.parameters, done.memory = report.parameters, report.memory
            done.held = self._devices.to_bytes() if self._devices else b""
            self._keeper.keep(job, done)

    def test(self, parameters: Parameters, last: bool = False) -> Evaluation:
        """Test as at the end; only the last test also has the curve over passes."""
        settings = self._job.settings
        if not last:
            settings = replace(settings, curve_tasks=0)
        given = _given(self._job, parameters)
        evaluation = evaluate(self._learner, given, self._task, settings)
        point = self._point(evaluation)
        self.progress.points.append(point)
        self._watcher.tested(point)
        start = self.progress.points[0].after
        self.health.tested(point.version, evaluation, bar_of(start))
        return evaluation

    def _point(self, evaluation: Evaluation) -> Point:
        done = self.progress
        after = Measured.of(evaluation.after, evaluation.settings.tasks)
        counted = (done.samples, done.bytes_up, done.bytes_down, done.diverged)
        return Point(done.version, after, *counted)


def bar_of(untrained: Measured) -> tuple[float, float] | None:
    """What a trained model has to beat; None where the untrained one diverges as it adapts.

    Its mean is then of what is left, and may be larger than any loss: no bar at all.
    """
    return None if untrained.diverged else (untrained.low, untrained.high)


def _devices(job: Job, progress: Progress) -> ServedDevices | None:
    """Who serves the slots of a job, with what they hold where it stands."""
    if job.baseline is not None:
        return None
    slots = job.run.make_strategy().agents_per_round
    devices = ServedDevices(exchange_of(job.run), slots, job.devices)
    devices.restore(progress.held, progress.version - 1)
    return devices


def _finished(
    job: Job, task: Task, learner: Learner, course: _Course, parameters: Parameters
) -> JobResult:
    """The last test, with the adaptation curve over numbers of samples."""
    given = _given(job, parameters)
    if job.rounds:
        before = course.test(parameters, last=True).before
    else:  # tested already, at the beginning which is its end
        before = evaluate(learner, given, task, replace(job.settings, curve_tasks=0)).before
    shots = []
    for settings in job.shots:
        score = evaluate(learner, given, task, settings).after
        shots.append((settings.shots, Measured.of(score, settings.tasks)))
    return JobResult(
        points=tuple(course.progress.points),
        before=Measured.of(before, job.settings.tasks),
        shots=tuple(shots),
        parameters_sha256=parameters_sha256(given),
        warnings=course.health.warnings,
    )


def _given(job: Job, parameters: Parameters) -> Parameters:
    """What a device adapts, of what is trained."""
    return given_to_devices(job.run, job.trained.model, parameters)


def _failed(course: _Course, parameters: Parameters, why: str) -> JobResult:
    done = course.progress
    sha256, warnings = parameters_sha256(parameters), course.health.warnings
    return JobResult(tuple(done.points), None, (), sha256, why, done.version, warnings)


def _run(
    contender: Contender,
    task: Task,
    seed: int,
    model: ModelSpec | str | None,
    behind: Behind | None,
    model_of: ModelOf,
) -> RunSpec:
    # What an experiment says of its model is of the whole one; behind an extractor is another.
    if contender.model is not None:
        model = model_of(contender.model)
    elif behind is not None:
        model = None
    extractor = None if behind is None else behind.extractor
    # A baseline needs a model and a seed; one that trains also samples and a rate, as TinyReptile.
    strategy = "tiny_reptile" if contender.baseline else contender.strategy
    rounds = max(1, contender.rounds)
    return make_run(task, strategy, rounds, seed, model, contender.options, extractor)


def _checked(experiment: Experiment, extractors: Mapping[str, Behind]) -> Mapping[str, Behind]:
    """`extractors`, if they are what the experiment asks for."""
    wanted = {contender.extractor for contender in experiment.contenders} - {""}
    for name in sorted(wanted - extractors.keys()):
        raise InvalidInput(f"extractor '{name}' is not given: add --extractor {name}=FILE.tflite")
    for name in sorted(extractors.keys() - wanted):
        raise InvalidInput(f"no strategy has extractor '{name}': leave it out")
    return extractors


def _at_shots(count: int, task: Task, settings: EvaluationSettings) -> EvaluationSettings:
    """How to test with so many shots; refuses at the start what the task would at the end."""
    chosen = replace(settings.at_shots(count, task), curve_tasks=0)
    next(evaluation_problems(task, chosen))
    return chosen


def _slug(label: str) -> str:
    """A label as a part of a file's name; jobs are told apart by their number."""
    kept = [c.lower() if c.isascii() and c.isalnum() else "-" for c in label]
    return "-".join(filter(None, "".join(kept).split("-"))) or "job"


def result_to_document(result: JobResult) -> dict[str, Any]:
    """For JSON; numbers that are not finite become None."""
    return {
        "points": [point_to_document(point) for point in result.points],
        "before": None if result.before is None else _measured_to_document(result.before),
        "shots": [[count, _measured_to_document(score)] for count, score in result.shots],
        "parameters_sha256": result.parameters_sha256,
        "failure": result.failure,
        "failed_at": result.failed_at,
        "warnings": list(result.warnings),
    }


def result_from_document(document: dict[str, Any]) -> JobResult:
    """The result `result_to_document` wrote."""
    before = document["before"]
    return JobResult(
        points=tuple(point_from_document(entry) for entry in document["points"]),
        before=None if before is None else _measured_from_document(before),
        shots=tuple((int(n), _measured_from_document(score)) for n, score in document["shots"]),
        parameters_sha256=document["parameters_sha256"],
        failure=document["failure"],
        failed_at=document["failed_at"],
        warnings=tuple(str(text) for text in document["warnings"]),
    )


def point_to_document(point: Point) -> dict[str, Any]:
    """For JSON, like `result_to_document`."""
    return asdict(point) | {"after": _measured_to_document(point.after)}


def point_from_document(document: dict[str, Any]) -> Point:
    """The point `point_to_document` wrote."""
    return Point(**{**document, "after": _measured_from_document(document["after"])})


def _measured_to_document(measured: Measured) -> dict[str, Any]:
    numbers = asdict(measured).items()
    return {name: value if math.isfinite(value) else None for name, value in numbers}


def _measured_from_document(document: dict[str, Any]) -> Measured:
    numbers: dict[str, Any] = {k: math.nan if v is None else v for k, v in document.items()}
    return Measured(**numbers)
