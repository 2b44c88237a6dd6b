"""`tinyfleet up`: a whole fleet on this machine, one run on it, and its result."""

from __future__ import annotations

import contextlib
import importlib.util
import signal
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click

from tinyfleet.cli.agents import print_shares
from tinyfleet.cli.boards import DEFAULT_BOARD, ready_boards
from tinyfleet.cli.console import RoundProgress, examples, json_option, note, print_json, warn
from tinyfleet.cli.exits import Interrupted
from tinyfleet.cli.live_tests import LiveTests
from tinyfleet.cli.local_fleet import LocalFleet, open_folder
from tinyfleet.cli.metrics import print_summary, settled_summary
from tinyfleet.cli.metrics_client import Metrics
from tinyfleet.cli.options import (
    EvaluationOptions,
    RunOptions,
    energy_option,
    engine_option,
    evaluation_options,
    run_options,
    test_every_option,
)
from tinyfleet.cli.outcome import Outcome, keep_outcome, make_folder, print_outcome, say_kept
from tinyfleet.cli.run import states
from tinyfleet.client import Fleet
from tinyfleet.energy import load_models
from tinyfleet.errors import InvalidInput, Refused, TinyFleetError
from tinyfleet.evaluation import Evaluation, EvaluationSettings, Health, evaluate
from tinyfleet.learner.protocol import Learner
from tinyfleet.run import RunSpec
from tinyfleet.tasks import Task
from tinyfleet.v1 import coordinator_pb2

MAX_AGENTS = 256  # our choice: each is a process of some 50 MB
MAX_BOARDS = 16  # our choice: each emulated one is a process that takes a core while it trains


@click.command(
    "up",
    epilog=examples(
        "tinyfleet up --agents 8 --rounds 2000 --test-every 500 --out out",
        "tinyfleet up --agents 3 --strategy reptile --stay",
        "tinyfleet up --agents 4 --mcus 2 --model mlp_32 --rounds 500",
        "tinyfleet up --agents 0 --mcus 1 --board serial:///dev/ttyACM0?baud=1000000",
    ),
)
@run_options
@click.option(
    "--agents", type=click.IntRange(0, MAX_AGENTS), default=4, metavar="N", help="Agents to start."
)
@click.option(
    "--mcus",
    type=click.IntRange(0, MAX_BOARDS),
    default=0,
    metavar="N",
    help="Microcontroller boards to add to them.",
)
@click.option(
    "--board",
    default=DEFAULT_BOARD,
    metavar="URL",
    help="What each board is: emulated://mps2-an386, emulated://host, or a real one's URL.",
)
@engine_option
@evaluation_options("test-")
@test_every_option
@click.option(
    "--out", type=click.Path(path_type=Path), help="Folder for checkpoint, result and plots."
)
@click.option(
    "--state",
    type=click.Path(path_type=Path),
    help="Folder for databases and logs. [default: a temporary one]",
)
@click.option(
    "--tls",
    "secure",
    is_flag=True,
    help="Let all parts prove who they are, with certificates made for this fleet.",
)
@click.option("--stay", is_flag=True, help="Keep the fleet up after the run, until Ctrl-C.")
@energy_option
@json_option
def command(
    run: RunOptions,
    agents: int,
    mcus: int,
    board: str,
    engine: str,
    test: EvaluationOptions,
    test_every: int,
    out: Path | None,
    state: Path | None,
    secure: bool,
    stay: bool,
    energy: Path | None,
    as_json: bool,
) -> None:
    """Start the three services and some agents on this machine, and train on them.

    With --mcus, boards take part like agents: under QEMU, or one that is attached by its URL. Ends
    when the run does, unless told to --stay. `tinyfleet simulate` with the same flags ends in the
    same parameters.
    """
    _check_installed()
    models = load_models(energy)
    boards = ready_boards(board, mcus)
    if agents + mcus == 0:
        raise InvalidInput("a fleet needs somebody who trains: give --agents or --mcus")
    task = run.make_task()
    spec = run.make_run(task)
    task = run.seen_by_the_model(task)
    session = _Session(
        spec, task, run.make_learner(spec, engine), test.settings(task), test_every, run, engine
    )
    make_folder(out)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # stopped in order, like Ctrl-C
    with (
        _folder(state) as folder,
        _local_fleet(folder, agents, boards, engine, run.data, secure) as local,
    ):
        if not as_json:
            _say_where(local, agents, boards)
        with Fleet(local.coordinator, tls=local.tls) as fleet:
            local.wait_for_agents(fleet)
            run.put_files(fleet)
            outcome, summary = session.train(local, fleet, quiet=as_json)
            outcome = replace(outcome, models=models)
            shares = fleet.list_agents() if boards and not as_json else []
        if out is not None:
            keep_outcome(out, outcome, task, session.learner)
        _print(outcome, summary, shares, out, as_json)
        if stay:
            _stay(local)


@dataclass(frozen=True)
class _Session:
    """One run on the local fleet, and how it is tested."""

    spec: RunSpec
    task: Task
    learner: Learner
    settings: EvaluationSettings
    test_every: int
    options: RunOptions
    engine: str

    def train(
        self, local: LocalFleet, fleet: Fleet, quiet: bool
    ) -> tuple[Outcome, list[dict[str, Any]]]:
        """Run it to its end; gives what came out and what the metrics service says of it.

        Raises Refused when the run does not finish.
        """
        began = time.perf_counter()
        run_id = fleet.create_run(self.spec).run_id
        # A learner belongs to one thread: this one is for the tests beside the run.
        learner = self.options.make_learner(self.spec, self.engine)
        health = Health(self.spec.rounds, self.spec.model, warn)
        tests = LiveTests(fleet, run_id, self.task, learner, self.settings, self.test_every, health)
        try:
            with tests:
                end = _follow(local, fleet, run_id, tests, health, quiet)
        except KeyboardInterrupt:
            raise Interrupted(f"interrupted: run {run_id} and its fleet are stopped") from None
        wall_s = time.perf_counter() - began
        if end.status != coordinator_pb2.RUN_STATUS_FINISHED:
            raise Refused(f"run {run_id} did not finish: {end.message or 'it was stopped'}")
        parameters = fleet.fetch_checkpoint(run_id).parameters
        evaluation = evaluate(self.learner, parameters, self.task, self.settings)
        health.tested(self.spec.rounds, evaluation)
        summary, losses = _ask_metrics(local, run_id, self.spec.rounds)
        outcome = Outcome(
            run=self.spec,
            run_id=run_id,
            parameters=parameters,
            evaluation=evaluation,
            samples=end.samples,
            bytes_up=end.bytes_up,
            bytes_down=end.bytes_down,
            diverged=end.diverged,
            wall_s=wall_s,
            losses=losses,
            tests=(*_before(self.spec.rounds, tests.results), (self.spec.rounds, evaluation)),
            warnings=health.warnings,
        )
        return outcome, summary


@contextlib.contextmanager
def _folder(state: Path | None) -> Iterator[Path]:
    if state is not None:
        yield open_folder(state)
        return
    with tempfile.TemporaryDirectory(prefix="tinyfleet-") as temporary:
        yield Path(temporary)


def _local_fleet(
    folder: Path, agents: int, boards: list[str], engine: str, data: Path | None, secure: bool
) -> LocalFleet:
    options = ["--engine", engine]
    if data is not None:
        options += ["--data", str(data.resolve())]
    return LocalFleet(folder, agents, options, on_event=note, boards=boards, secure=secure)


def _say_where(local: LocalFleet, agents: int, boards: list[str]) -> None:
    note(f"coordinator {local.coordinator}, aggregator {local.aggregator}")
    note(f"metrics {local.metrics}, {agents} agents, logs in {local.folder / 'logs'}")
    if boards:
        note(f"{len(boards)} board{'s' if len(boards) > 1 else ''}: {boards[0]}")


def _follow(
    local: LocalFleet, fleet: Fleet, run_id: str, tests: LiveTests, health: Health, quiet: bool
) -> coordinator_pb2.Run:
    """Show progress until the run ends; gives its last state."""
    state, said = fleet.get_run(run_id), ""
    with RoundProgress(state.spec.rounds, quiet) as progress:
        for state in states(fleet, run_id):
            local.check()
            health.updates(state.rounds_done, state.diverged)
            if state.rounds_done:
                sent = state.bytes_up + state.bytes_down
                progress.update(state.rounds_done, state.loss, sent)
                if state.rounds_done < state.spec.rounds:  # the end is tested thoroughly
                    tests.reached(state.rounds_done)
            if state.message and state.message != said:
                said = state.message
                note(said)
    return state


def _before(rounds: int, tests: list[tuple[int, Evaluation]]) -> list[tuple[int, Evaluation]]:
    """The tests of earlier versions than the last, which a late one may have got."""
    return [(version, test) for version, test in tests if version < rounds]


def _ask_metrics(
    local: LocalFleet, run_id: str, rounds: int
) -> tuple[list[dict[str, Any]], tuple[tuple[float, float], ...]]:
    """The run at a glance and its training loss, as the metrics service answers."""
    try:
        with Metrics(local.metrics, local.tls) as metrics:
            return settled_summary(metrics, run_id), tuple(metrics.losses(run_id, rounds))
    except TinyFleetError as error:
        note(f"no metrics of this run: {error}")
        return [], ()


def _print(
    outcome: Outcome,
    summary: list[dict[str, Any]],
    shares: list[coordinator_pb2.Agent],
    out: Path | None,
    as_json: bool,
) -> None:
    if as_json:
        print_json(outcome.to_document())
        return
    print_outcome(outcome)
    print_summary(summary)
    if shares:
        print_shares(shares)
    if out is not None:
        say_kept(out)


def _stay(local: LocalFleet) -> None:
    show = f" --tls {local.tls}" if local.tls else ""
    note(
        "the fleet stays up until Ctrl-C; try: tinyfleet agents --coordinator "
        f"{local.coordinator}{show}"
    )
    with contextlib.suppress(KeyboardInterrupt):
        while True:
            time.sleep(1.0)
            local.check()


def _check_installed() -> None:
    for package in ("services", "edge_agents", "sqlalchemy", "grpc_health"):
        if importlib.util.find_spec(package) is None:
            raise InvalidInput(f"'up' needs {package}: pip install 'tinyfleet[services]'")
