"""The distributions of few-shot problems, by name: a new one is a file and an entry here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tinyfleet.errors import InvalidInput, unknown_name
from tinyfleet.model.layers import Shape
from tinyfleet.tasks.base import FewShotProblem, Task
from tinyfleet.tasks.sine import Sine


def _sine(options: Mapping[str, Any], data: Path | None) -> Task:
    check_options("sine", options, ())
    return Sine()


def _omniglot(options: Mapping[str, Any], data: Path | None) -> Task:
    from tinyfleet.tasks.omniglot import Omniglot

    check_options("omniglot", options, ("ways", "rotations"))
    return Omniglot(data, **options)


TASKS: dict[str, Callable[[Mapping[str, Any], Path | None], Task]] = {
    "sine": _sine,
    "omniglot": _omniglot,
}


def make_task(name: str, options: Mapping[str, Any], data: Path | None = None) -> Task:
    """The task `name`.

    data: the file or folder a task reads its data from; tasks that make their own ignore it.
    Raises InvalidInput for unknown names and options, and for data that cannot be read.
    """
    if name not in TASKS:
        raise unknown_name("task", name, TASKS)
    return TASKS[name](options, data)


def model_needs(name: str, options: Mapping[str, Any]) -> tuple[Shape, int, str]:
    """Input shape, outputs and loss of a model for the task; needs no data and reads none."""
    if name not in TASKS:
        raise unknown_name("task", name, TASKS)
    if name == "sine":
        return Sine.input_shape, Sine.outputs, Sine.loss
    from tinyfleet.tasks.omniglot import Omniglot

    return Omniglot.input_shape, int(options.get("ways", 5)), Omniglot.loss


def check_options(task: str, options: Mapping[str, Any], known: tuple[str, ...]) -> None:
    """Raise InvalidInput, with a suggestion, for an option the task does not have."""
    for option in options:
        if option in known:
            continue
        if not known:
            raise InvalidInput(f"task '{task}' has no options, got '{option[:80]}'")
        raise unknown_name(f"option of task {task}", option, known)


__all__ = ["TASKS", "FewShotProblem", "Task", "make_task", "model_needs"]
