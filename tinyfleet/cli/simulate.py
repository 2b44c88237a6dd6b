"""`tinyfleet simulate`: a whole federation in this process."""

from __future__ import annotations

import signal
import time
from dataclasses import replace
from pathlib import Path

import click

from tinyfleet.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from tinyfleet.cli.console import RoundProgress, examples, json_option, print_json, warn
from tinyfleet.cli.exits import Interrupted
from tinyfleet.cli.options import (
    EvaluationOptions,
    RunOptions,
    energy_option,
    engine_option,
    evaluation_options,
    run_options,
    test_every_option,
)
from tinyfleet.cli.outcome import (
    CHECKPOINT_NAME,
    Outcome,
    keep_outcome,
    make_folder,
    print_outcome,
    say_kept,
)
from tinyfleet.cli.trainable import version_0
from tinyfleet.energy import load_models
from tinyfleet.errors import InvalidInput
from tinyfleet.evaluation import Evaluation, EvaluationSettings, Health, evaluate
from tinyfleet.exchange import exchange_of
from tinyfleet.learner.protocol import Learner
from tinyfleet.reports.history import LossHistory
from tinyfleet.run import RunSpec
from tinyfleet.simulation import RoundReport, simulate
from tinyfleet.simulation.devices import MAX_DEVICES
from tinyfleet.strategies.base import asynchronous
from tinyfleet.tasks import Task

RUN_ID = "simulation"


@click.command(
    "simulate",
    epilog=examples(
        "tinyfleet simulate --model mlp_64 --rounds 60000 --out out",
        "tinyfleet simulate --task omniglot --data omniglot.npz --set inner_rate=0.01",
        "tinyfleet simulate --task keywords --data speech --extractor body.tflite",
    ),
)
@run_options
@engine_option
@evaluation_options("test-")
@test_every_option
@click.option(
    "--devices",
    type=click.IntRange(1, MAX_DEVICES),
    metavar="N",
    help="Devices that take turns and are sent what changed since. [default: each slot a new one]",
)
@click.option(
    "--resume", type=click.Path(path_type=Path), help="Go on from this checkpoint of the same run."
)
@click.option(
    "--out", type=click.Path(path_type=Path), help="Folder for checkpoint, result and plots."
)
@energy_option
@json_option
def command(
    run: RunOptions,
    engine: str,
    test: EvaluationOptions,
    test_every: int,
    devices: int | None,
    energy: Path | None,
    resume: Path | None,
    out: Path | None,
    as_json: bool,
) -> None:
    """Train a federation in this process and test what it learned on unseen problems.

    A fleet over the network ends in the same parameters for the same flags, but for fed_buff, of
    which every fleet has an order of its own.
    """
    models = load_models(energy)
    task = run.make_task()
    spec = run.make_run(task)
    task = run.seen_by_the_model(task)
    settings = test.settings(task)
    start = _resumed(resume, spec)
    make_folder(out)
    learner = run.make_learner(spec, engine)
    watcher = _Watcher(spec, task, learner, settings, test_every, quiet=as_json)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a stop keeps the work, like Ctrl-C
    try:
        outcome = _train(spec, task, learner, settings, start, watcher, devices)
        outcome = replace(outcome, models=models)
    except KeyboardInterrupt:
        raise Interrupted(_keep_unfinished(out, spec, watcher.last)) from None
    if out is not None:
        keep_outcome(out, outcome, task, learner)
    if as_json:
        print_json(outcome.to_document())
    else:
        print_outcome(outcome)
        if out is not None:
            say_kept(out)


class _Watcher:
    """What happens after each round: progress, loss history, tests along the way."""

    def __init__(
        self,
        run: RunSpec,
        task: Task,
        learner: Learner,
        settings: EvaluationSettings,
        test_every: int,
        quiet: bool,
    ) -> None:
        self.last: RoundReport | None = None
        self.history = LossHistory()
        self.tests: list[tuple[int, Evaluation]] = []
        self.testing_s = 0.0
        self.health = Health(run.rounds, run.model, warn)
        self.progress = RoundProgress(run.rounds, quiet)
        self._run, self._task, self._learner = run, task, learner
        self._settings = settings.quick()
        self._every = test_every
        self._sent_bytes = self._diverged = 0

    def __call__(self, report: RoundReport) -> None:
        self.last = report
        self.history.add(report.round, report.loss)
        self._diverged += report.diverged
        self.health.updates(report.version, self._diverged)
        self._sent_bytes += report.bytes_up + report.bytes_down
        self.progress.update(report.version, report.loss, self._sent_bytes)
        if self._every and report.version % self._every == 0 and report.version < self._run.rounds:
            self._test(report)

    def _test(self, report: RoundReport) -> None:
        began = time.perf_counter()
        result = evaluate(self._learner, report.parameters, self._task, self._settings)
        self.tests.append((report.version, result))
        self.health.tested(report.version, result)
        self.testing_s += time.perf_counter() - began


def _train(
    run: RunSpec,
    task: Task,
    learner: Learner,
    settings: EvaluationSettings,
    start: Checkpoint | None,
    watcher: _Watcher,
    devices: int | None,
) -> Outcome:
    parameters, version = (
        (start.parameters, start.version) if start else (version_0(run, learner), 0)
    )
    memory = start.memory if start else ()
    began = time.perf_counter()
    with watcher.progress:
        result = simulate(
            run, task, learner, watcher, parameters, version, memory=memory, devices=devices
        )
    wall_s = time.perf_counter() - began - watcher.testing_s
    evaluation = evaluate(learner, result.parameters, task, settings)
    watcher.health.tested(run.rounds, evaluation)
    return Outcome(
        run=run,
        run_id=RUN_ID,
        parameters=result.parameters,
        evaluation=evaluation,
        samples=result.samples,
        bytes_up=result.bytes_up,
        bytes_down=result.bytes_down,
        diverged=result.diverged,
        wall_s=wall_s,
        losses=tuple(watcher.history.points()),
        tests=(*watcher.tests, (run.rounds, evaluation)),
        warnings=watcher.health.warnings,
    )


def _resumed(path: Path | None, run: RunSpec) -> Checkpoint | None:
    if path is None:
        return None
    checkpoint = load_checkpoint(path)
    if checkpoint.run != run:
        raise InvalidInput(f"{path} is of another run: give the same flags as when it began")
    return checkpoint


def _keep_unfinished(out: Path | None, run: RunSpec, last: RoundReport | None) -> str:
    """Save where an interrupted run stands; returns what to tell the user."""
    done = last.version if last else 0
    if out is None or last is None:
        return f"interrupted after {done:,} of {run.rounds:,} rounds, nothing kept (no --out)"
    path = out / CHECKPOINT_NAME
    checkpoint = Checkpoint(run, RUN_ID, last.version, last.parameters, last.memory)
    save_checkpoint(path, checkpoint)
    if asynchronous(run.make_strategy()) or exchange_of(run).error_feedback:
        return f"interrupted after {done:,} of {run.rounds:,} rounds; the model then is in {path}"
    return f"interrupted after {done:,} of {run.rounds:,} rounds; add --resume {path} to go on"
