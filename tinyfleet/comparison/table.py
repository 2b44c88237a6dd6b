"""The table of a comparison: a row for each strategy, as JSON, CSV and Markdown.

All figures are means over the seeds that did not diverge. Bytes, seconds and joules are of all
devices of a run together.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tinyfleet.comparison.experiment import Experiment
from tinyfleet.comparison.jobs import Job, JobResult, Point
from tinyfleet.comparison.pooled import Pooled, deviation_about_line, pool
from tinyfleet.energy import Deployment, EnergyModels, Estimate, Workload, estimate, plan_workload
from tinyfleet.evaluation import layers_in_words
from tinyfleet.learner.memory import memory_needed, needs_gradient, stored_samples
from tinyfleet.learner.targets import board_memory_needed
from tinyfleet.model.spec import ModelSpec
from tinyfleet.strategies.plan import Phase, TrainingPlan

LATE_PART = 0.75  # our choice: "near the end" is the last quarter of the rounds

Finished = Sequence[tuple[Job, JobResult]]


@dataclass(frozen=True)
class Reached:
    """Until the target, means over the seeds that reached it. joules: one for each deployment."""

    seeds: int
    rounds: float
    bytes_up: float
    bytes_down: float
    estimates: tuple[Estimate, ...]


@dataclass(frozen=True)
class Step:
    """One place on a strategy's way: what was spent until then, and the score."""

    rounds: int
    bytes_up: float
    bytes_down: float
    joules: tuple[float, ...]
    score: Pooled


@dataclass(frozen=True)
class Row:
    """One strategy.

    seeds: how many did not diverge, of `all_seeds`. failures: what the others said. warnings: what
    there was to say of any seed, such as an end no better than guessing. after, before, shots:
    pooled over problems and seeds. late_sd: standard deviation of a seed's tests in the last
    quarter of its rounds about a straight line through them, mean over seeds; None with fewer than
    four such tests. estimates: of a whole run, one for each deployment; None for a baseline, which
    has no fleet. memory_bytes: what a device needs to do its part, an extractor left out. adapts:
    how, where that is not as the others do, else "". learns: what, where that is not the table's
    model, else "".
    """

    label: str
    strategy: str
    adapts: str
    learns: str
    rounds: int
    seeds: int
    all_seeds: int
    failures: tuple[str, ...]
    warnings: tuple[str, ...]
    after: Pooled
    before: Pooled
    shots: tuple[tuple[int, Pooled], ...]
    late_sd: float | None
    lost_updates: float
    bytes_up: float | None
    bytes_down: float | None
    estimates: tuple[Estimate, ...] | None
    memory_bytes: int
    reached: Reached | None
    steps: tuple[Step, ...]


@dataclass(frozen=True)
class Table:
    """All rows, and what they are of.

    drawn: the deployment whose joules are drawn and printed. queries: samples tested on, per class
    for a classifier, at each number of shots of the adaptation curve.
    """

    title: str
    task: str
    classifies: bool
    classes: int
    model: str
    test: Mapping[str, Any]
    queries: Mapping[int, int]
    seeds: tuple[int, ...]
    target: float | None
    deployments: tuple[Deployment, ...]
    drawn: int
    rows: tuple[Row, ...]


def make_table(experiment: Experiment, finished: Finished, models: EnergyModels) -> Table:
    """The table of finished jobs, in the order of the experiment."""
    names = [deployment.name for deployment in models.deployments]
    wanted = experiment.deployment or names[0]
    models.find(wanted)
    first = finished[0][0]
    spec = first.run.model
    rows = [
        _row(
            [(job, result) for job, result in finished if job.label == label],
            experiment,
            models,
            spec,
        )
        for label in dict.fromkeys(job.label for job, _ in finished)
    ]
    return Table(
        title=experiment.title,
        task=experiment.task,
        classifies=spec.loss == "softmax_cross_entropy",
        classes=spec.outputs,
        model=_sized(spec),
        test=vars(_usual(experiment, finished).settings),
        queries={one.shots: one.queries for one in first.shots},
        seeds=experiment.seeds,
        target=experiment.target,
        deployments=models.deployments,
        drawn=names.index(wanted),
        rows=tuple(rows),
    )


def _usual(experiment: Experiment, finished: Finished) -> Job:
    """A job that adapts as the experiment says, or the first where each has its own way."""
    usual = {contender.label for contender in experiment.contenders if not contender.adapt}
    return next((job for job, _ in finished if job.label in usual), finished[0][0])


def device_memory(job: Job) -> int:
    """Bytes a device needs for its part; a baseline's device only adapts, online.

    To encode an update that is not dense it keeps what it started from.
    """
    spec = job.run.model
    if job.baseline is not None:
        return memory_needed(spec).online_bytes
    plan = job.run.make_strategy().plan(0)
    return board_memory_needed(
        spec,
        keep_start=plan.needs_start or not plan.upload.dense,
        gradient=needs_gradient(plan),
        stored_samples=stored_samples(plan),
    )


def _row(own: Finished, experiment: Experiment, models: EnergyModels, usual: ModelSpec) -> Row:
    job = own[0][0]
    good = [(j, result) for j, result in own if result.failure is None]
    ends = [result.points[-1] for _, result in good]
    price = _price(job, models)
    fleet = job.baseline is None and bool(good)
    return Row(
        label=job.label,
        strategy=job.baseline or job.run.strategy,
        adapts=_own_way(job, experiment),
        learns=_own_model(job, experiment, usual),
        rounds=job.rounds,
        seeds=len(good),
        all_seeds=len(own),
        failures=tuple(f"seed {j.seed}: {r.failure}" for j, r in own if r.failure is not None),
        warnings=tuple(f"seed {j.seed}: {text}" for j, r in own for text in r.warnings),
        after=pool([point.after for point in ends]),
        before=pool([result.before for _, result in good if result.before is not None]),
        shots=_shots([result for _, result in good]),
        late_sd=_late_sd(job.rounds, [result for _, result in good]),
        lost_updates=_mean([point.diverged for point in ends]),
        bytes_up=_mean([point.bytes_up for point in ends]) if fleet else None,
        bytes_down=_mean([point.bytes_down for point in ends]) if fleet else None,
        estimates=_mean_estimates([price(point) for point in ends]) if fleet else None,
        memory_bytes=device_memory(job),
        reached=_reached(job, good, experiment.target, price),
        steps=_steps([result for _, result in good], price),
    )


def _own_way(job: Job, experiment: Experiment) -> str:
    """In words, for those whose `adapt` says so."""
    (own,) = (c for c in experiment.contenders if c.label == job.label)
    return adaptation(vars(job.settings)) if own.adapt else ""


def _own_model(job: Job, experiment: Experiment, usual: ModelSpec) -> str:
    """In words, where it is not the one that the table names."""
    (own,) = (c for c in experiment.contenders if c.label == job.label)
    behind = f" behind the frozen extractor '{own.extractor}'" if own.extractor else ""
    return _sized(job.run.model) + behind if behind or job.run.model != usual else ""


def _sized(spec: ModelSpec) -> str:
    return f"{spec.name} ({spec.parameter_count:,} parameters)"


def adaptation(settings: Mapping[str, Any]) -> str:
    """How devices adapt, from the fields of `EvaluationSettings`, in words."""
    layers = layers_in_words(settings["last_layers"])
    return f"{settings['passes']} passes at rate {settings['rate']:g}{layers}"


Price = Callable[[Point], tuple[Estimate, ...]]


def _price(job: Job, models: EnergyModels) -> Price:
    """What a run costs up to a point, on each deployment.

    The work of a plan is that of round 0: strategies' plans are alike in every round.
    """
    if job.baseline is None:
        plan = job.run.make_strategy().plan(0)
    else:
        plan = TrainingPlan((Phase(1, 0.01),))
    one = plan_workload(job.run.model, plan)

    def price(point: Point) -> tuple[Estimate, ...]:
        work: Workload = one.times(point.samples / plan.samples)
        return tuple(
            estimate(deployment, work, point.bytes_up, point.bytes_down)
            for deployment in models.deployments
        )

    return price


def _steps(results: Sequence[JobResult], price: Price) -> tuple[Step, ...]:
    """The tests that every seed has, pooled."""
    if not results:
        return ()
    steps = []
    for points in zip(*(result.points for result in results), strict=True):
        joules = [tuple(e.total_j for e in price(point)) for point in points]
        steps.append(
            Step(
                rounds=points[0].version,
                bytes_up=_mean([point.bytes_up for point in points]),
                bytes_down=_mean([point.bytes_down for point in points]),
                joules=tuple(_mean(each) for each in zip(*joules, strict=True)),
                score=pool([point.after for point in points]),
            )
        )
    return tuple(steps)


def _reached(job: Job, good: Finished, target: float | None, price: Price) -> Reached | None:
    """Each seed's first test at or beyond the target. None for a baseline without rounds."""
    if target is None or not job.rounds:
        return None
    first = [_first_at(result, target, _is_classifier(job)) for _, result in good]
    there = [point for point in first if point is not None]
    if not there:
        return Reached(0, math.nan, math.nan, math.nan, ())
    return Reached(
        seeds=len(there),
        rounds=_mean([point.version for point in there]),
        bytes_up=_mean([point.bytes_up for point in there]),
        bytes_down=_mean([point.bytes_down for point in there]),
        estimates=_mean_estimates([price(point) for point in there]),
    )


def _first_at(result: JobResult, target: float, classifier: bool) -> Point | None:
    for point in result.points:
        value = point.after.value
        if math.isfinite(value) and (value >= target if classifier else value <= target):
            return point
    return None


def _is_classifier(job: Job) -> bool:
    return job.run.model.loss == "softmax_cross_entropy"


def _shots(results: Sequence[JobResult]) -> tuple[tuple[int, Pooled], ...]:
    every = zip(*(result.shots for result in results), strict=True) if results else ()
    return tuple((same[0][0], pool([score for _, score in same])) for same in every)


def _late_sd(rounds: int, results: Sequence[JobResult]) -> float | None:
    spreads = [_late_spread(rounds, result.points) for result in results if rounds]
    known = [spread for spread in spreads if spread is not None]
    return _mean(known) if known else None


def _late_spread(rounds: int, points: Sequence[Point]) -> float | None:
    late = [point for point in points if point.version >= LATE_PART * rounds]
    return deviation_about_line([p.version for p in late], [p.after.value for p in late])


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values) if values else math.nan


def _mean_estimates(each: Sequence[tuple[Estimate, ...]]) -> tuple[Estimate, ...]:
    """Means over seeds, deployment by deployment."""
    return tuple(_mean_estimate(same) for same in zip(*each, strict=True))


def _mean_estimate(same: Sequence[Estimate]) -> Estimate:
    names = ("training_j", "link_j", "training_s", "link_s")
    means = {name: _mean([getattr(one, name) for one in same]) for name in names}
    return Estimate(same[0].deployment, **means)


def table_document(table: Table) -> dict[str, Any]:
    """For JSON; numbers that are not finite become None."""
    document: dict[str, Any] = _plain(
        {
            "title": table.title,
            "task": table.task,
            "model": table.model,
            "score": "accuracy" if table.classifies else "loss",
            "test": dict(table.test),
            "queries_by_shots": {str(n): count for n, count in table.queries.items()},
            "seeds": list(table.seeds),
            "target": table.target,
            "estimates_are_of": table.deployments[table.drawn].name,
            "rows": [_row_document(row, table.drawn) for row in table.rows],
        }
    )
    return document


def _row_document(row: Row, drawn: int) -> dict[str, Any]:
    reached = row.reached
    return {
        "label": row.label,
        "strategy": row.strategy,
        "adapts": row.adapts,
        "learns": row.learns,
        "rounds": row.rounds,
        "seeds": row.seeds,
        "all_seeds": row.all_seeds,
        "failures": list(row.failures),
        "warnings": list(row.warnings),
        "after": vars(row.after),
        "before": vars(row.before),
        "shots": [{"shots": count, **vars(score)} for count, score in row.shots],
        "late_sd": row.late_sd,
        "lost_updates": row.lost_updates,
        "bytes_up": row.bytes_up,
        "bytes_down": row.bytes_down,
        "memory_bytes": row.memory_bytes,
        "estimates": [one.to_document() for one in row.estimates or ()],
        "to_target": None
        if reached is None
        else {
            "seeds": reached.seeds,
            "rounds": reached.rounds,
            "bytes_up": reached.bytes_up,
            "bytes_down": reached.bytes_down,
            "estimates": [one.to_document() for one in reached.estimates],
        },
        "steps": [
            {
                "rounds": step.rounds,
                "bytes_up": step.bytes_up,
                "bytes_down": step.bytes_down,
                "joules": step.joules[drawn],
                **vars(step.score),
            }
            for step in row.steps
        ],
    }


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def table_csv(table: Table) -> str:
    """One line a strategy, numbers in base units: bytes, seconds, joules, shares."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    head = ["strategy", "rounds", "seeds", "diverged_seeds", "after", "low", "high", "seed_sd"]
    head += ["late_sd", "before", "bytes_up", "bytes_down", "memory_bytes"]
    for deployment in table.deployments:
        head += [f"{deployment.name}_{unit}" for unit in ("device_s", "training_j", "link_j")]
    writer.writerow([*head, "target_seeds", "target_rounds", "target_bytes", "target_j"])
    for row in table.rows:
        writer.writerow([_csv_cell(value) for value in _csv_values(row, table)])
    return text.getvalue()


def _csv_values(row: Row, table: Table) -> list[Any]:
    values: list[Any] = [row.label, row.rounds, row.seeds, row.all_seeds - row.seeds]
    values += [row.after.value, row.after.low, row.after.high, row.after.seed_sd, row.late_sd]
    values += [row.before.value, row.bytes_up, row.bytes_down, row.memory_bytes]
    for index in range(len(table.deployments)):
        one = row.estimates[index] if row.estimates else None
        values += [one.device_s, one.training_j, one.link_j] if one else [None] * 3
    there = row.reached if row.reached is not None and row.reached.seeds else None
    if there is None:
        return [*values, row.reached.seeds if row.reached else None, None, None, None]
    joules = there.estimates[table.drawn].total_j
    return [*values, there.seeds, there.rounds, there.bytes_up + there.bytes_down, joules]


def _csv_cell(value: Any) -> Any:
    """Numbers with seven significant digits; a text never begins like a formula."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return ""
    if isinstance(value, str) and value[:1] in "=+-@":
        return f"'{value}"
    return f"{value:.7g}" if isinstance(value, float) else value
