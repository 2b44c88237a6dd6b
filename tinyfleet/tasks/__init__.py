"""The distributions of few-shot problems, by name: a new one is a file and an entry here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tinyfleet.errors import InvalidInput, unknown_name
from tinyfleet.tasks.base import FewShotProblem, Task, TaskOutline
from tinyfleet.tasks.sine import Sine


def _sine(options: Mapping[str, Any], data: Path | None) -> Task:
    check_options("sine", options, ())
    return Sine()


def _omniglot(options: Mapping[str, Any], data: Path | None) -> Task:
    from tinyfleet.tasks.omniglot import Omniglot

    check_options("omniglot", options, _OMNIGLOT_OPTIONS)
    return Omniglot(data, **options)


def _omniglot_outline(options: Mapping[str, Any]) -> TaskOutline:
    from tinyfleet.tasks.omniglot import OmniglotOutline

    check_options("omniglot", options, _OMNIGLOT_OPTIONS)
    return OmniglotOutline(**options)


_OMNIGLOT_OPTIONS = ("ways", "rotations")
TASKS: dict[str, Callable[[Mapping[str, Any], Path | None], Task]] = {
    "sine": _sine,
    "omniglot": _omniglot,
}
_OUTLINES: dict[str, Callable[[Mapping[str, Any]], TaskOutline]] = {
    "sine": lambda options: _sine(options, None),
    "omniglot": _omniglot_outline,
}


def make_task(name: str, options: Mapping[str, Any], data: Path | None = None) -> Task:
    """The task `name`.

    data: the file or folder a task reads its data from; tasks that make their own ignore it.
    Raises InvalidInput for unknown names and options, and for data that cannot be read.
    """
    if name not in TASKS:
        raise unknown_name("task", name, TASKS)
    return TASKS[name](options, data)


def outline_task(name: str, options: Mapping[str, Any]) -> TaskOutline:
    """The task `name` without its data, for whoever makes a run and leaves training to others.

    Raises InvalidInput for unknown names and options, and for values that no data could suit.
    """
    if name not in TASKS:
        raise unknown_name("task", name, TASKS)
    return _OUTLINES[name](options)


def check_options(task: str, options: Mapping[str, Any], known: tuple[str, ...]) -> None:
    """Raise InvalidInput, with a suggestion, for an option the task does not have."""
    for option in options:
        if option in known:
            continue
        if not known:
            raise InvalidInput(f"task '{task}' has no options, got '{option[:80]}'")
        raise unknown_name(f"option of task {task}", option, known)


__all__ = ["TASKS", "FewShotProblem", "Task", "TaskOutline", "make_task", "outline_task"]
