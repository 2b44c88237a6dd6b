"""Jobs of a comparison in processes of their own, and what they say while they work.

A worker ends with its parent, however that ended, so that two processes never write the same job.
"""

from __future__ import annotations

import functools
import multiprocessing
import os
import queue
import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import connection
from pathlib import Path
from typing import Any, ClassVar

from tinyfleet.cli.extractors import ExtractorFile, seen_by_the_model
from tinyfleet.comparison.jobs import Job, JobResult, Point, run_job
from tinyfleet.comparison.store import Store
from tinyfleet.errors import TinyFleetError
from tinyfleet.learner import make_learner
from tinyfleet.tasks import Task, make_task

_TELL_EVERY_S = 0.25
_POLL_S = 0.1


@dataclass(frozen=True)
class Setting:
    """What a worker needs to know once, whatever job it gets. extractors: files by SHA-256."""

    task: str
    task_options: dict[str, Any]
    data: Path | None
    folder: Path
    engine: str
    extractors: Mapping[str, Path] = field(default_factory=dict)


@dataclass(frozen=True)
class Told:
    """Something a job said. kind: begun, round, tested, warned or done."""

    kind: str
    name: str
    version: int = 0
    point: Point | None = None
    text: str = ""


class WorkerLost(TinyFleetError):
    """A process of the pool ended by itself."""


class _Worker:
    """The worker's own: its task, made once, and as models behind extractors see it."""

    setting: Setting
    says: Any
    task: Task | None = None
    behind: ClassVar[dict[str, Task]] = {}

    def task_of(self, job: Job) -> Task:
        """What the job's model learns from."""
        setting, extractor = self.setting, job.run.extractor
        if self.task is None:
            self.task = make_task(setting.task, setting.task_options, setting.data)
        if extractor is None:
            return self.task
        if extractor.sha256 not in self.behind:
            file = ExtractorFile(setting.extractors[extractor.sha256])
            self.behind[extractor.sha256] = seen_by_the_model(self.task, extractor, file)
        return self.behind[extractor.sha256]


_worker = _Worker()


def _begin(setting: Setting, says: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _worker.setting, _worker.says = setting, says


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)


def _do(job: Job) -> JobResult:
    setting = _worker.setting
    store = Store(setting.folder)
    says = _Says(job.name)
    learner_of = functools.partial(make_learner, engine=setting.engine)
    result = run_job(job, _worker.task_of(job), learner_of, store, says)
    store.finish(job, result)
    return result


class _Says:
    """A watcher that puts what it is told into the parent's queue; rounds only now and then."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._told = 0.0
        _worker.says.put(Told("begun", name))

    def round(self, version: int) -> None:
        now = time.monotonic()
        if now - self._told >= _TELL_EVERY_S:
            self._told = now
            _worker.says.put(Told("round", self._name, version))

    def tested(self, point: Point) -> None:
        _worker.says.put(Told("tested", self._name, point.version, point))

    def warn(self, text: str) -> None:
        _worker.says.put(Told("warned", self._name, text=text))


@contextmanager
def job_pool(setting: Setting, processes: int) -> Iterator[JobPool]:
    """A pool that is gone when the block ends: at once, unless all its jobs are done."""
    context = multiprocessing.get_context("spawn")
    says = context.Queue()
    executor = ProcessPoolExecutor(
        processes, mp_context=context, initializer=_begin, initargs=(setting, says)
    )
    pool = JobPool(executor, says)
    try:
        yield pool
        executor.shutdown()
    except BaseException:
        _stop(executor)
        raise
    finally:
        says.close()
        says.cancel_join_thread()


class JobPool:
    """Runs jobs; `results` yields what they say, as they say it."""

    def __init__(self, executor: ProcessPoolExecutor, says: Any) -> None:
        self._executor = executor
        self._says = says

    def results(self, jobs: Sequence[Job]) -> Iterator[Told | tuple[Job, JobResult] | None]:
        """Yield what is told, each finished job with its result, and None when nothing happens."""
        waiting: dict[Future[JobResult], Job] = {}
        for job in jobs:
            waiting[self._executor.submit(_do, job)] = job
        while waiting:
            yield self._next_told()
            for future in [future for future in waiting if future.done()]:
                yield from self._told_so_far()
                yield waiting.pop(future), _result(future)

    def _next_told(self) -> Told | None:
        try:
            told: Told = self._says.get(timeout=_POLL_S)
        except queue.Empty:
            return None
        return told

    def _told_so_far(self) -> Iterator[Told]:
        while True:
            try:
                yield self._says.get_nowait()
            except queue.Empty:
                return


def _result(future: Future[JobResult]) -> JobResult:
    try:
        return future.result()
    except BrokenProcessPool:
        raise WorkerLost(
            "a process of the comparison was killed (out of memory?): start it again to go on, "
            "with fewer --jobs if memory is short"
        ) from None


def _stop(executor: ProcessPoolExecutor) -> None:
    """End the workers where they are: what they kept stays."""
    processes = list((getattr(executor, "_processes", None) or {}).values())
    executor.shutdown(wait=False, cancel_futures=True)
    for process in processes:
        process.terminate()
    for process in processes:
        process.join()
