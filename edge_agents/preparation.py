"""What makes a run ready on a member of the fleet: its samples and its trainer."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from edge_agents.footprint import give_back_memory
from edge_agents.learners import Contents, own_weights
from edge_agents.model_files import Fetch, ModelFiles
from edge_agents.sources import FileSource, SampleSource, TaskSource, load_own_data
from edge_agents.trainers.protocol import Trainer
from edge_agents.trainers.thread import WorkThread
from edge_agents.work import PreparedRun
from tinyfleet.errors import InvalidInput
from tinyfleet.model.extractor import Extractor
from tinyfleet.run import RunSpec
from tinyfleet.tasks import Task, make_task, task_names
from tinyfleet.tasks.holders import held_by

if TYPE_CHECKING:  # what learns from topics is loaded only where there is one
    from edge_agents.topic.topic import Topic

SourceOf = Callable[[RunSpec], SampleSource]
TrainerOf = Callable[[RunSpec, Contents], Trainer]


class Preparation:
    """Makes runs ready: a source and a trainer, both made in the work thread."""

    def __init__(
        self, source_of: SourceOf, trainer_of: TrainerOf, thread: WorkThread, files: ModelFiles
    ) -> None:
        """files: where those are that a run needs beside its spec."""
        self._source_of = source_of
        self._trainer_of = trainer_of
        self._thread = thread
        self._files = files

    async def __call__(self, spec: RunSpec, fetch: Fetch) -> PreparedRun:
        """Reads data and builds the learner in the work thread; raises TinyFleetError."""
        contents = {file.sha256: await self._files.content(file, fetch) for file in spec.files}
        return await self._thread.run(lambda: self._prepare(spec, contents))

    def _prepare(self, spec: RunSpec, contents: Contents) -> PreparedRun:
        source = self._source_of(spec)
        source.check(spec.sample_shape)
        if spec.trainable is not None and not source.draws:
            raise InvalidInput(
                "samples of a sensor or a topic do not reach a .tflite that trains itself: leave "
                "this run to agents with other data"
            )
        trainer = self._trainer_of(spec, contents)
        if spec.extractor is not None:
            trainer = _behind(spec.extractor, contents, source, trainer)
        give_back_memory()
        return PreparedRun(spec, source, trainer, own_weights(spec, contents))


def _behind(
    extractor: Extractor, contents: Contents, source: SampleSource, trainer: Trainer
) -> Trainer:
    """The trainer, on the features of what the source draws."""
    if not source.draws:
        raise InvalidInput(
            "samples of a sensor or a topic do not pass through an extractor: leave this run to "
            "agents with other data"
        )
    # LiteRT is loaded only where a run needs it: an agent without stays small.
    from edge_agents.trainers.litert import LiteRtTrainer
    from tinyfleet.litert.extractor import open_extractor
    from tinyfleet.litert.file import TfliteFile

    graph = open_extractor(TfliteFile(contents[extractor.sha256]), extractor)
    return LiteRtTrainer(graph, trainer)


class ProcessData:
    """The data of this process: its members share them, in as many threads as they like."""

    def __init__(
        self,
        data: Path | None,
        own_data: Path | None,
        holder: int = 0,
        topic: Topic | None = None,
    ) -> None:
        """Reads `own_data`, if any; raises InvalidInput when they are of no use.

        holder: whose part of a task's data its members train on; 0: whatever the slots draw. topic:
        what they train on instead, from a queue of their own.
        """
        if topic is not None and (own_data is not None or holder):
            raise InvalidInput(
                "samples come from a topic, from own data or from a holder's: choose one of them"
            )
        self.topic = topic
        self._data = data
        self._holder = holder
        self._own = load_own_data(own_data) if own_data else None
        # Runs of one task share its data, for as long as one of them is in memory.
        self._tasks: WeakValueDictionary[str, Task] = WeakValueDictionary()
        self._reading = threading.Lock()

    def for_a_member(self) -> SourceOf:
        """Sources for one member: the runs' tasks, or the own data, from the first sample on."""
        own = self._own.from_the_first() if self._own else None
        return lambda spec: self._source(spec, own)

    def _source(self, spec: RunSpec, own: FileSource | None) -> SampleSource:
        if own is not None:
            return own
        source = TaskSource(self._task(spec), spec.seed)
        source.draw(round=0, slot=0, count=1)  # now, not in the first round, the data are read
        return source

    def _task(self, spec: RunSpec) -> Task:
        key = json.dumps([spec.task, dict(spec.task_options)], sort_keys=True)
        with self._reading:
            task = self._tasks.get(key)
            if task is None:
                task = make_task(spec.task, spec.task_options, self._data)
                task = self._tasks[key] = held_by(task, self._holder) if self._holder else task
            return task

    @property
    def tasks_served(self) -> list[str]:
        """Names of the tasks it can draw; empty, which means any, when there are data.

        Which task the data are for shows when a run asks for it.
        """
        names = task_names()
        if self._data is not None or self._own is not None or self.topic is not None:
            return []
        return [name for name in names if _needs_no_data(name)]


def _needs_no_data(task: str) -> bool:
    try:
        make_task(task, {})
    except InvalidInput:
        return False
    return True
