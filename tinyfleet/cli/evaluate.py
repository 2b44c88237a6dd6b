"""`tinyfleet evaluate`: adapt a checkpoint to problems it has never seen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from tinyfleet.checkpoint import Checkpoint, load_checkpoint
from tinyfleet.cli.console import examples, json_option, print_json
from tinyfleet.cli.extractors import ExtractorFile, extractor_option, seen_by_the_model
from tinyfleet.cli.options import (
    EvaluationOptions,
    engine_option,
    evaluation_options,
    task_flags,
)
from tinyfleet.cli.outcome import model_document, print_evaluation, score_documents
from tinyfleet.cli.trainable import TrainableFile, learner_of, trainable_option
from tinyfleet.evaluation import evaluate
from tinyfleet.model.spec import parameters_sha256
from tinyfleet.run import check_fits
from tinyfleet.tasks import Task, make_task


def _task_flags(command: Any) -> Any:
    for flag in reversed(task_flags()):
        command = flag(command)
    return command


@click.command(
    "evaluate",
    epilog=examples(
        "tinyfleet evaluate out/checkpoint.tinyfleet --shots 1 --tasks 500",
    ),
)
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--task", metavar="NAME", help="Problems to test on. [default: the checkpoint's]")
@_task_flags
@extractor_option
@trainable_option
@evaluation_options()
@engine_option
@json_option
def command(
    file: Path,
    task: str | None,
    task_options: tuple[tuple[str, Any], ...],
    ways: int | None,
    data: Path | None,
    extractor: Path | None,
    trainable: Path | None,
    test: EvaluationOptions,
    engine: str,
    as_json: bool,
) -> None:
    """Adapt the model of checkpoint FILE to unseen problems and test it, before and after."""
    checkpoint = load_checkpoint(file)
    chosen = dict(task_options) | ({} if ways is None else {"ways": ways})
    problems = _make_task(checkpoint, task, chosen, data)
    model = checkpoint.run.model
    trained_by = None if trainable is None else TrainableFile(trainable)
    learner = learner_of(checkpoint.run, engine, trained_by)
    check_fits(problems, checkpoint.run)
    given = None if extractor is None else ExtractorFile(extractor)
    problems = seen_by_the_model(problems, checkpoint.run.extractor, given)
    evaluation = evaluate(learner, checkpoint.parameters, problems, test.settings(problems))
    if not as_json:
        print(f"{file}: {model.name}, version {checkpoint.version:,} of {checkpoint.run.rounds:,}")
        print_evaluation(evaluation)
        if lost := evaluation.after.diverged:
            tasks = evaluation.settings.tasks
            print(f"{lost:,} of {tasks:,} adaptations diverged: try a lower rate")
        return
    print_json(
        {
            "task": problems.name,
            "task_options": dict(problems.options),
            "model": model_document(model),
            "run_id": checkpoint.run_id,
            "version": checkpoint.version,
            **score_documents(evaluation),
            "parameters_sha256": parameters_sha256(checkpoint.parameters),
        }
    )


def _make_task(
    checkpoint: Checkpoint, name: str | None, options: dict[str, Any], data: Path | None
) -> Task:
    """The task of the checkpoint's run unless another is named; the user's options win."""
    run = checkpoint.run
    own = dict(run.task_options) if name in (None, run.task) else {}
    return make_task(name or run.task, own | options, data)
