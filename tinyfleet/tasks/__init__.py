"""The distributions of few-shot problems, by name: a new one is a file and an entry here."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from tinyfleet.errors import InvalidInput, unknown_name
from tinyfleet.tasks.base import FewShotProblem, Task, TaskOutline, TrainingClasses
from tinyfleet.tasks.own import OwnTask, make_own, own_tasks


@dataclass(frozen=True)
class _Entry:
    """Where a task and its outline are: imported only when they are asked for.

    One that makes its own data is its own outline.
    """

    module: str
    task: str
    outline: str
    options: tuple[str, ...]


_DEALING = ("holders", "by", "alpha")

TASKS: dict[str, _Entry] = {
    "sine": _Entry("tinyfleet.tasks.sine", "Sine", "Sine", ()),
    "omniglot": _Entry(
        "tinyfleet.tasks.omniglot",
        "Omniglot",
        "OmniglotOutline",
        ("ways", "rotations", "split", *_DEALING),
    ),
    "keywords": _Entry(
        "tinyfleet.tasks.keywords",
        "Keywords",
        "KeywordsOutline",
        ("ways", "per_speaker", "split", "augment", *_DEALING),
    ),
    "table": _Entry(
        "tinyfleet.tasks.table",
        "Table",
        "TableOutline",
        ("input_shape", "ways", "targets", *_DEALING),
    ),
    "gestures": _Entry(
        "tinyfleet.tasks.gestures",
        "Gestures",
        "GesturesOutline",
        ("ways", "rotations", "split", *_DEALING),
    ),
}


def task_names() -> list[str]:
    """The tasks of TinyFleet and the operator's own; raises InvalidInput for files of no use."""
    return [*TASKS, *own_tasks()]


def make_task(name: str, options: Mapping[str, Any], data: Path | None = None) -> Task:
    """The task `name`.

    data: the file or folder a task reads its data from; tasks that make their own ignore it.
    Raises InvalidInput for unknown names and options, and for data that cannot be read.
    """
    if name not in TASKS:
        own = _own(name)
        if own.needs_data and data is None:
            raise InvalidInput(f"task '{name}' needs its data: give --data or TINYFLEET_DATA")
        return make_own(own, options, data)
    entry = TASKS[name]
    check_options(name, options, entry.options)
    make = getattr(importlib.import_module(entry.module), entry.task)
    own_data = entry.task == entry.outline
    return cast("Task", make(**options) if own_data else make(data, **options))


def outline_task(name: str, options: Mapping[str, Any]) -> TaskOutline:
    """The task `name` without its data, for whoever makes a run and leaves training to others.

    Raises InvalidInput for unknown names and options, and for values that no data could suit.
    """
    if name not in TASKS:
        return make_own(_own(name), options, None)
    entry = TASKS[name]
    check_options(name, options, entry.options)
    make = getattr(importlib.import_module(entry.module), entry.outline)
    return cast("TaskOutline", make(**options))


def _own(name: str) -> type[OwnTask]:
    own = own_tasks()
    if name not in own:
        raise unknown_name("task", name, [*TASKS, *own])
    return own[name]


def check_options(task: str, options: Mapping[str, Any], known: tuple[str, ...]) -> None:
    """Raise InvalidInput, with a suggestion, for an option the task does not have."""
    for option in options:
        if option in known:
            continue
        if not known:
            raise InvalidInput(f"task '{task}' has no options, got '{option[:80]}'")
        raise unknown_name(f"option of task {task}", option, known)


__all__ = [
    "TASKS",
    "FewShotProblem",
    "OwnTask",
    "Task",
    "TaskOutline",
    "TrainingClasses",
    "make_task",
    "outline_task",
    "task_names",
]
