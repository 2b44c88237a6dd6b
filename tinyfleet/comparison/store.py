"""The folder of a comparison: what is done, what is under way, and of which experiment it is.

experiment.json              what the folder is of: every job's options, a hash of the data
jobs/NAME.json               a finished job
jobs/NAME.progress.json      a job under way: what it measured, and which checkpoint goes with it
jobs/NAME.at-VERSION.tinyfleet   that checkpoint
jobs/NAME.at-VERSION.starts      what the job's devices held then, where they keep something

Each file is written whole. The progress file is written after the other two and names them, so
they are always of the same round, whatever is killed when.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tinyfleet.checkpoint import Checkpoint, load_checkpoint, run_to_document, save_checkpoint
from tinyfleet.comparison.jobs import (
    Job,
    JobResult,
    Progress,
    point_from_document,
    point_to_document,
    result_from_document,
    result_to_document,
)
from tinyfleet.errors import InvalidInput
from tinyfleet.evaluation.adaptation import evaluation_problems
from tinyfleet.files import write_whole
from tinyfleet.run import training_samples
from tinyfleet.tasks import Task

EXPERIMENT_NAME = "experiment.json"
FORMAT = 1
MAX_FILE_BYTES = 16 * 1024 * 1024
_COUNTS = ("samples", "bytes_up", "bytes_down", "diverged")


class Store:
    """A comparison's folder; a `Keeper` of jobs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._jobs = folder / "jobs"

    def claim(self, jobs: Sequence[Job], task: Task) -> None:
        """Make the folder one of these jobs; raises InvalidInput if it is of others."""
        wanted = experiment_document(jobs, task)
        path = self.folder / EXPERIMENT_NAME
        if not path.exists():
            if self._jobs.exists():
                raise InvalidInput(f"{self.folder} has jobs but no {EXPERIMENT_NAME}: {_REMEDY}")
            return _write(path, wanted)
        found = _read(path)
        if found != json.loads(json.dumps(wanted)):
            what = difference(found, json.loads(json.dumps(wanted)))
            raise InvalidInput(f"{self.folder} is of another experiment ({what}): {_REMEDY}")
        return None

    def result(self, job: Job) -> JobResult | None:
        """The job's result, None while it is not finished."""
        path = self._path(job)
        if not path.exists():
            return None
        document = _read(path)
        try:
            return result_from_document(document)
        except (KeyError, TypeError, ValueError):
            raise _damaged(path) from None

    def finish(self, job: Job, result: JobResult) -> None:
        """Write the result, then forget how the job got there."""
        _write(self._path(job), result_to_document(result))
        self._path(job, ".progress.json").unlink(missing_ok=True)
        self._forget_checkpoints(job, None)

    def begin(self, job: Job) -> Progress:
        path = self._path(job, ".progress.json")
        if not path.exists():
            return Progress()
        document = _read(path)
        try:
            checkpoint = load_checkpoint(self._checkpoint(job, int(document["version"])))
            counts = {name: int(document[name]) for name in _COUNTS}
            points = [point_from_document(entry) for entry in document["points"]]
            held = self._held(job, checkpoint.version, str(document.get("held_sha256", "")))
            said = {str(kind): str(text) for kind, text in document["said"].items()}
        except (AttributeError, KeyError, TypeError, ValueError):
            raise _damaged(path) from None
        if checkpoint.run != job.trained:
            raise _damaged(path)
        return Progress(
            checkpoint.version,
            checkpoint.parameters,
            points=points,
            said=said,
            memory=checkpoint.memory,
            held=held,
            **counts,
        )

    def keep(self, job: Job, progress: Progress) -> None:
        if progress.parameters is None:
            return
        version = progress.version
        model = (version, progress.parameters, progress.memory)
        checkpoint = Checkpoint(job.trained, job.name[:128], *model)
        save_checkpoint(self._checkpoint(job, version), checkpoint)
        document = {"version": version} | {name: getattr(progress, name) for name in _COUNTS}
        if progress.held:
            _write_bytes(self._starts(job, version), progress.held)
            document["held_sha256"] = hashlib.sha256(progress.held).hexdigest()
        document["points"] = [point_to_document(point) for point in progress.points]
        document["said"] = dict(progress.said)
        _write(self._path(job, ".progress.json"), document)
        self._forget_checkpoints(job, version)

    def _forget_checkpoints(self, job: Job, keep: int | None) -> None:
        kept = [] if keep is None else [self._checkpoint(job, keep), self._starts(job, keep)]
        for path in self._jobs.glob(f"{job.name}.at-*"):
            if path not in kept:
                path.unlink(missing_ok=True)

    def _held(self, job: Job, version: int, sha256: str) -> bytes:
        """What the devices held; raises InvalidInput unless it is what was written."""
        if not sha256:
            return b""
        held = _read_bytes(self._starts(job, version))
        if hashlib.sha256(held).hexdigest() != sha256:
            raise InvalidInput("what the devices held is not what was written")
        return held

    def _path(self, job: Job, suffix: str = ".json") -> Path:
        return self._jobs / f"{job.name}{suffix}"

    def _checkpoint(self, job: Job, version: int) -> Path:
        return self._path(job, f".at-{version}.tinyfleet")

    def _starts(self, job: Job, version: int) -> Path:
        return self._path(job, f".at-{version}.starts")


_REMEDY = "give another --out, or remove the folder to start anew"


def experiment_document(jobs: Sequence[Job], task: Task) -> dict[str, Any]:
    """Everything that a job's result depends on. Target and joules are reckoned afterwards."""
    return {
        "format": FORMAT,
        "data_sha256": data_sha256(jobs[0], task),
        "jobs": {
            job.name: {
                "label": job.label,
                "baseline": job.baseline,
                "rounds": job.rounds,
                "run": run_to_document(job.trained),
                "test": asdict(job.settings),
                "test_every": job.test_every,
                "shots": [[one.shots, one.queries] for one in job.shots],
                **({"devices": job.devices} if job.devices else {}),
            }
            for job in jobs
        },
    }


def data_sha256(job: Job, task: Task) -> str:
    """A hash of the first samples of training and testing: other data shows in it."""
    problem = next(evaluation_problems(task, job.settings))
    first = training_samples(task, job.seed, 0, 0, 10)
    digest = hashlib.sha256()
    for samples in (problem.support, problem.query, first):
        digest.update(samples.inputs.tobytes())
        digest.update(samples.targets.tobytes())
    return digest.hexdigest()


def difference(found: Any, wanted: Any, where: str = "") -> str:
    """The first thing in which two documents differ, in words."""
    if isinstance(found, dict) and isinstance(wanted, dict):
        for key in [*found, *(key for key in wanted if key not in found)]:
            here = f"{where}.{key}" if where else str(key)
            if key not in wanted:
                return f"{here} is gone"
            if key not in found:
                return f"{here} is new"
            if found[key] != wanted[key]:
                return difference(found[key], wanted[key], here)
    return f"{where} was {_short(found)}, is {_short(wanted)}"


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def _read(path: Path) -> dict[str, Any]:
    data = _read_bytes(path)
    try:
        document = json.loads(data.decode("utf-8"))
    except (ValueError, RecursionError):
        raise _damaged(path) from None
    if not isinstance(document, dict):
        raise _damaged(path)
    return document


def _read_bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise InvalidInput(f"cannot read {path}: {error.strerror}") from None


def _write(path: Path, document: dict[str, Any]) -> None:
    text = json.dumps(document, indent=1, allow_nan=False) + "\n"
    _write_bytes(path, text.encode())


def _write_bytes(path: Path, data: bytes) -> None:
    try:
        write_whole(path, data)
    except OSError as error:
        raise InvalidInput(
            f"cannot write {path}: {error.strerror}; free some room or choose another --out"
        ) from None


def _damaged(path: Path) -> InvalidInput:
    return InvalidInput(f"{path} is damaged: remove it, and its job is done again")
