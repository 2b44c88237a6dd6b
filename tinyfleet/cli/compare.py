"""`tinyfleet compare`: strategies side by side, each from several seeds, on all cores."""

from __future__ import annotations

import fcntl
import json
import os
import shlex
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from tinyfleet.cli.compare_progress import CompareProgress
from tinyfleet.cli.console import examples, json_option, note, print_json, print_table, wrapped
from tinyfleet.cli.exits import Interrupted
from tinyfleet.cli.extractors import ExtractorFile
from tinyfleet.cli.job_pool import Setting, Told, job_pool
from tinyfleet.cli.options import data_option, energy_option, engine_option, find_model
from tinyfleet.cli.outcome import make_folder
from tinyfleet.comparison.experiment import load_experiment
from tinyfleet.comparison.jobs import Behind, Job, JobResult, make_jobs
from tinyfleet.comparison.store import Store
from tinyfleet.comparison.table import Table, make_table, table_csv, table_document
from tinyfleet.comparison.words import markdown, short_cells, warning_lines
from tinyfleet.energy import load_models
from tinyfleet.errors import Diverged, InvalidInput, one_line
from tinyfleet.files import write_whole
from tinyfleet.tasks import Task, make_task

MAX_JOBS = 256
MAX_WARNINGS = 10  # our choice: printed after the table

Done = dict[str, JobResult]


def _named_files(
    _context: click.Context, _parameter: click.Parameter, texts: tuple[str, ...]
) -> dict[str, ExtractorFile]:
    pairs = [text.partition("=") for text in texts]
    for (name, equals, file), text in zip(pairs, texts, strict=True):
        if not (name and equals and file):
            raise InvalidInput(f"'{one_line(text)}' is not NAME=FILE.tflite")
    return {name: ExtractorFile(Path(file)) for name, _, file in pairs}


@click.command(
    "compare",
    epilog=examples(
        "tinyfleet compare experiments/sine.toml --out out/sine",
        "tinyfleet compare experiments/omniglot_quick.toml --data omniglot.npz --out out",
    ),
)
@click.argument("file", metavar="EXPERIMENT.toml", type=click.Path(path_type=Path))
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path),
    help="Folder for results; one of an unfinished comparison is gone on with.",
)
@click.option(
    "--jobs",
    type=click.IntRange(1, MAX_JOBS),
    metavar="N",
    help="Jobs at a time. [default: one for each core]",
)
@click.option("--quick", is_flag=True, help="A tenth of the rounds, at most 100 test problems.")
@click.option(
    "--extractor",
    "extractors",
    multiple=True,
    callback=_named_files,
    metavar="NAME=FILE.tflite",
    help="The file of an extractor that the experiment names; may be repeated.",
)
@data_option
@energy_option
@engine_option
@json_option
def command(
    file: Path,
    out: Path,
    jobs: int | None,
    quick: bool,
    extractors: dict[str, ExtractorFile],
    data: Path | None,
    energy: Path | None,
    engine: str,
    as_json: bool,
) -> None:
    """Compare strategies on a task: same problems, same tests, several seeds.

    The file names the strategies; docs/results.md shows some. What is finished is kept: the same
    command goes on where it was stopped. A strategy that diverges is named and the others go on;
    the command then ends with 4. Baselines beside the strategies: local, transfer,
    tiny_ol.
    """
    experiment = load_experiment(file)
    experiment = experiment.quick() if quick else experiment
    models = load_models(energy)
    if experiment.deployment is not None:
        models.find(experiment.deployment)
    task = make_task(experiment.task, experiment.task_options, data)
    model = find_model(experiment.model) if experiment.model else None
    behind = {
        name: Behind(file.extractor_for(task), file.in_front_of(task))
        for name, file in extractors.items()
    }
    every = make_jobs(experiment, task, model, behind, find_model)
    make_folder(out)
    files = {file.file.sha256: file.path for file in extractors.values()}
    setting = Setting(experiment.task, dict(experiment.task_options), data, out, engine, files)
    with _locked(out):
        done = _do_all(every, task, setting, jobs or os.cpu_count() or 1, quiet=as_json)
        table = make_table(experiment, [(job, done[job.name]) for job in every], models)
        _keep(out, table, _said_command(file, quick))
    if as_json:
        print_json(table_document(table))
    else:
        _print(table, out)
    _fail_if_diverged(every, done)


def _do_all(jobs: Sequence[Job], task: Task, setting: Setting, at_once: int, quiet: bool) -> Done:
    """Results of all jobs; those that are kept are not done again."""
    store = Store(setting.folder)
    store.claim(jobs, task)
    done = {job.name: result for job in jobs if (result := store.result(job)) is not None}
    todo = [job for job in jobs if job.name not in done]
    if done and not quiet:
        note(f"{len(done)} of {len(jobs)} jobs are done already")
    if not todo:
        return done
    progress = CompareProgress(jobs, done, quiet)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a stop keeps the work, like Ctrl-C
    try:
        with progress, job_pool(setting, min(at_once, len(todo))) as pool:
            for said in pool.results(todo):
                if said is None or isinstance(said, Told):
                    progress.told(said)
                else:
                    job, result = said
                    done[job.name] = result
                    progress.done(job, result)
    except KeyboardInterrupt:
        raise Interrupted(
            f"interrupted after {len(done)} of {len(jobs)} jobs; the same command goes on"
        ) from None
    return done


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Nobody else's comparison writes into the folder meanwhile; a killed one's lock is gone."""
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise InvalidInput(
                f"another comparison is writing into {folder}: wait for it, or give another --out"
            ) from None
        yield


def _keep(folder: Path, table: Table, said: str) -> None:
    """Write the table three times over, and the plots."""
    document = json.dumps(table_document(table), indent=1, allow_nan=False) + "\n"
    texts = {"table.md": markdown(table, said), "table.csv": table_csv(table)}
    for name, text in {**texts, "table.json": document}.items():
        _writing(folder, lambda name=name, text=text: write_whole(folder / name, text.encode()))  # type: ignore[misc]
    try:
        from tinyfleet.reports.comparison import draw_comparison
    except ModuleNotFoundError as error:
        note(f"no plots without {error.name}: pip install 'tinyfleet[reports]'")
        return
    _writing(folder, lambda: draw_comparison(folder, table))


def _writing(folder: Path, write: Callable[[], Any]) -> None:
    try:
        write()
    except OSError as error:
        raise InvalidInput(
            f"cannot write into {folder}: {error.strerror}; free some room or choose another --out"
        ) from None


def _print(table: Table, folder: Path) -> None:
    test = table.test
    ways = f"{table.classes}-way " if table.classifies else ""
    print(wrapped(f"{table.title}: {table.task}, {table.model}", later=""))
    print(
        f"{ways}{test['shots']}-shot {'accuracy' if table.classifies else 'loss'} on "
        f"{test['tasks']:,} unseen problems, seeds {', '.join(map(str, table.seeds))}"
    )
    print_table(*short_cells(table))
    drawn = table.deployments[table.drawn].name
    print(f"bytes and energy of all devices; energy is an estimate for {drawn}")
    lines = warning_lines(table)
    for line in lines[:MAX_WARNINGS]:
        print(wrapped(f"warning: {line}"))
    if len(lines) > MAX_WARNINGS:
        print(f"{len(lines) - MAX_WARNINGS} more warnings are in table.md")
    names = sorted(path.name for path in folder.iterdir() if path.suffix in _SHOWN)
    note(wrapped(f"kept in {folder}: {', '.join(names)}"))


_SHOWN = (".md", ".csv", ".json", ".png")


def _fail_if_diverged(jobs: Sequence[Job], done: Done) -> None:
    lost = [job for job in jobs if done[job.name].failure is not None]
    if not lost:
        return
    names = ", ".join(f"{job.label} seed {job.seed}" for job in lost[:3])
    more = f" and {len(lost) - 3} more" if len(lost) > 3 else ""
    raise Diverged(
        f"{len(lost)} of {len(jobs)} jobs diverged ({names}{more}): lower their rates, "
        "or leave them as they are and read the table without them"
    )


def _said_command(file: Path, quick: bool) -> str:
    return shlex.join(["tinyfleet", "compare", file.name, *(["--quick"] if quick else [])])
