"""What a finished run leaves: one JSON document, and the folder of `--out`.

`simulate` and `up` end with the same document, so that scripts can compare them.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tinyfleet.checkpoint import Checkpoint, save_checkpoint
from tinyfleet.cli.console import note, print_table, si_bytes, wrapped
from tinyfleet.comparison.words import quantity
from tinyfleet.energy import EnergyModels, Estimate, builtin_models, estimate, plan_workload
from tinyfleet.errors import InvalidInput
from tinyfleet.evaluation import Evaluation, Score, layers_in_words
from tinyfleet.files import write_whole
from tinyfleet.learner.protocol import Learner
from tinyfleet.model.spec import ModelSpec, Parameters, parameters_sha256
from tinyfleet.run import RunSpec
from tinyfleet.tasks import Task

CHECKPOINT_NAME = "checkpoint.tinyfleet"
RESULT_NAME = "result.json"


@dataclass(frozen=True)
class Outcome:
    """A finished run.

    wall_s: seconds of the rounds alone. samples, bytes, diverged: as in
    `tinyfleet.simulation.SimulationResult`. losses: `(round, mean loss)` points over the run.
    tests: `(rounds done, evaluation)` during the run. models: of what devices and links cost.
    warnings: what `tinyfleet.evaluation.Health` had to say.
    """

    run: RunSpec
    run_id: str
    parameters: Parameters
    evaluation: Evaluation
    samples: int
    bytes_up: int
    bytes_down: int
    diverged: int
    wall_s: float
    losses: tuple[tuple[float, float], ...] = ()
    tests: tuple[tuple[int, Evaluation], ...] = ()
    models: EnergyModels = field(default_factory=builtin_models)
    warnings: tuple[str, ...] = ()

    def estimates(self) -> tuple[Estimate, ...]:
        """Time and energy of all devices, on each deployment; a plan's work is that of round 0.

        None for a model that computes by itself, whose work nobody has counted.
        """
        if self.run.model.computes_by_itself:
            return ()
        plan = self.run.make_strategy().plan(0)
        work = plan_workload(self.run.model, plan).times(self.samples / plan.samples)
        return tuple(
            estimate(deployment, work, self.bytes_up, self.bytes_down)
            for deployment in self.models.deployments
        )

    def to_document(self) -> dict[str, Any]:
        """The document of the fixed contract; figures in bytes, seconds and samples."""
        return {
            "task": self.run.task,
            "strategy": self.run.strategy,
            "model": model_document(self.run.model),
            "rounds": self.run.rounds,
            "seed": self.run.seed,
            **score_documents(self.evaluation),
            "bytes_up": self.bytes_up,
            "bytes_down": self.bytes_down,
            "wall_s": round(self.wall_s, 3),
            "samples": self.samples,
            "samples_per_s": round(self.samples / self.wall_s, 1) if self.wall_s > 0 else None,
            "diverged": self.diverged,
            "warnings": list(self.warnings),
            "energy_estimates": [one.to_document() for one in self.estimates()],
            "task_options": dict(self.run.task_options),
            "strategy_options": dict(self.run.strategy_options),
            "run_id": self.run_id,
            "parameters_sha256": parameters_sha256(self.parameters),
        }


def model_document(model: ModelSpec) -> dict[str, Any]:
    """Name and size of a model."""
    return {
        "name": model.name,
        "parameters": model.parameter_count,
        "bytes": model.parameter_bytes,
    }


def score_documents(evaluation: Evaluation) -> dict[str, Any]:
    """`before`, `after` and how they were measured."""
    document = evaluation.to_document()
    return {
        "before": document["before"],
        "after": document["after"],
        "evaluation": {**document["settings"], "curve": document["curve"]},
    }


def print_outcome(outcome: Outcome) -> None:
    """The result for people."""
    run, model = outcome.run, outcome.run.model
    print(
        f"{run.strategy} on {run.task}, {model.name} ({model.parameter_count:,} parameters), "
        f"{run.rounds:,} rounds, seed {run.seed}"
    )
    rate = outcome.samples / outcome.wall_s if outcome.wall_s > 0 else 0.0
    print(
        f"trained in {outcome.wall_s:.1f} s: {rate:,.0f} samples/s, "
        f"{si_bytes(outcome.bytes_up)} up, {si_bytes(outcome.bytes_down)} down"
        + (f", {outcome.diverged:,} updates diverged" if outcome.diverged else "")
    )
    energy = ", ".join(f"{quantity(e.total_j, 'J')} {e.deployment}" for e in outcome.estimates())
    if energy:
        print(wrapped(f"energy of all devices, estimated: {energy}"))
    print_evaluation(outcome.evaluation)
    for warning in outcome.warnings:
        print(wrapped(f"warning: {warning}"))
    print(f"sha256 {parameters_sha256(outcome.parameters)}")


def print_evaluation(evaluation: Evaluation) -> None:
    """Before and after adaptation, for people."""
    settings = evaluation.settings
    rows = [
        _row("before adaptation", evaluation.before),
        _row("after adaptation", evaluation.after),
    ]
    last = layers_in_words(settings.last_layers)
    columns = ["", "loss", "accuracy"] if evaluation.after.accuracy is not None else ["", "loss"]
    print(
        f"{settings.tasks:,} unseen problems, {settings.shots}-shot, "
        f"passes {settings.passes}, rate {settings.rate:g}{last}; mean and 95 % interval:"
    )
    print_table(columns, [row[: len(columns)] for row in rows])


def make_folder(folder: Path | None) -> None:
    """Create the folder of --out before the work, not after it."""
    if folder is None:
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidInput(f"cannot make folder {folder}: {error.strerror}") from None


def keep_outcome(folder: Path, outcome: Outcome, task: Task, learner: Learner) -> None:
    """Write checkpoint, JSON and, where matplotlib is installed, plots."""
    run = outcome.run
    checkpoint = Checkpoint(run, outcome.run_id, run.rounds, outcome.parameters)
    save_checkpoint(folder / CHECKPOINT_NAME, checkpoint)
    document = outcome.to_document() | {
        "losses": [{"round": at, "loss": loss} for at, loss in outcome.losses],
        "tests": [{"round": at, **score_documents(test)} for at, test in outcome.tests],
    }
    text = json.dumps(document, indent=2, allow_nan=False) + "\n"
    _writing(folder, lambda: write_whole(folder / RESULT_NAME, text.encode()))
    keep_plots(folder, outcome, task, learner)


def say_kept(folder: Path) -> None:
    """Name the files that are in the folder now."""
    names = ", ".join(sorted(file.name for file in folder.iterdir()))
    note(wrapped(f"kept in {folder}: {names}"))


def keep_plots(folder: Path, outcome: Outcome, task: Task, learner: Learner) -> None:
    """Draw the plots into the folder, or say what is missing for it."""
    try:
        from tinyfleet.reports.plots import draw_report
    except ModuleNotFoundError as error:
        note(f"no plots without {error.name}: pip install 'tinyfleet[reports]'")
        return
    run = outcome.run
    _writing(
        folder,
        lambda: draw_report(
            folder,
            task,
            learner,
            outcome.parameters,
            outcome.evaluation,
            outcome.losses,
            outcome.tests,
            f"{run.strategy} on {run.task}: {run.model.name}, {run.rounds:,} rounds",
        ),
    )


def _writing(folder: Path, write: Callable[[], Any]) -> None:
    try:
        write()
    except OSError as error:
        raise InvalidInput(
            f"cannot write into {folder}: {error.strerror}; free some room or choose another --out"
        ) from None


def _row(title: str, score: Score) -> list[str]:
    loss = _mean(score.loss, score.loss_ci95, "{:.4f}", 1.0)
    if score.accuracy is None or score.accuracy_ci95 is None:
        return [title, loss]
    return [title, loss, _mean(score.accuracy, score.accuracy_ci95, "{:.2f} %", 100.0)]


def _mean(mean: float, interval: tuple[float, float], pattern: str, factor: float) -> str:
    half = (interval[1] - interval[0]) / 2
    return f"{pattern.format(mean * factor)} ± {pattern.format(half * factor)}"
