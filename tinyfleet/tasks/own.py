"""Tasks that an operator writes: Python files named by the variable TINYFLEET_TASKS.

A run names its task; it never carries code. A process loads code only from the files that its own
environment names, so nothing that comes over the network can make it run anything. Every process
that makes the task needs the same variable: the command, the coordinator and the agents.
docs/guides/bring-a-task.md shows one.
"""

from __future__ import annotations

import functools
import importlib.util
import inspect
import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

from tinyfleet.errors import InvalidInput, one_line, unknown_name
from tinyfleet.learner.protocol import Samples
from tinyfleet.model.layers import Shape
from tinyfleet.model.spec import LOSSES
from tinyfleet.randomness import RandomStream
from tinyfleet.tasks.base import FewShotProblem, TrainingClasses

VARIABLE = "TINYFLEET_TASKS"


class OwnTask:
    """What a task of one's own derives from: `tinyfleet.tasks.base.Task` with defaults.

    It is made as `TheTask(data, **options)` from the --data of the process, or None, and the user's
    --task-option; without data also by processes that only need its shapes. So data are to be read
    when the first problem is drawn. needs_data: whether no problem can be drawn without.
    """

    name: ClassVar[str] = ""
    default_model: ClassVar[str] = "mlp_64"
    recommended: ClassVar[Mapping[str, Mapping[str, Any]]] = MappingProxyType({})
    recommended_evaluation: ClassVar[Mapping[str, Any]] = MappingProxyType({})
    needs_data: ClassVar[bool] = False
    options: Mapping[str, Any] = MappingProxyType({})
    input_shape: Shape = (1, 1, 1)
    outputs: int = 1
    loss: str = "mean_squared_error"
    training_classes: TrainingClasses | None = None
    test_samples: int | None = None

    def __init__(self, data: Path | None = None) -> None:
        self.data = data

    def training_samples(self, stream: RandomStream, count: int) -> Samples:
        raise NotImplementedError

    def evaluation_problem(self, stream: RandomStream, shots: int, queries: int) -> FewShotProblem:
        raise NotImplementedError


def own_tasks() -> Mapping[str, type[OwnTask]]:
    """The tasks of the files that TINYFLEET_TASKS names, by name; raises InvalidInput."""
    return _load_all(os.environ.get(VARIABLE, ""))


def make_own(task: type[OwnTask], options: Mapping[str, Any], data: Path | None) -> OwnTask:
    """The task from its options; raises InvalidInput for those its constructor does not take."""
    known = list(inspect.signature(task).parameters)[1:]
    for option in options:
        if option not in known:
            raise unknown_name(f"option of task {task.name}", option, known)
    try:
        made = task(data, **options)
    except InvalidInput:
        raise
    except Exception as error:  # noqa: BLE001 - the file is somebody's own: its faults get one line
        raise InvalidInput(f"task '{task.name}' cannot be made: {_told(error)}") from None
    if made.loss not in LOSSES:
        raise unknown_name("loss", str(made.loss), LOSSES)
    return made


@functools.cache
def _load_all(paths: str) -> Mapping[str, type[OwnTask]]:
    found: dict[str, type[OwnTask]] = {}
    for path in filter(None, paths.split(os.pathsep)):
        task = _load(Path(path))
        if task.name in found:
            raise InvalidInput(f"{VARIABLE}: two files have a task '{task.name}'")
        found[task.name] = task
    return MappingProxyType(found)


def _load(path: Path) -> type[OwnTask]:
    """The class that the file calls TASK."""
    if path.suffix != ".py" or not path.is_file():
        raise InvalidInput(f"{VARIABLE}: no Python file {path}")
    spec = importlib.util.spec_from_file_location(f"tinyfleet_task_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise InvalidInput(f"{VARIABLE}: {path} cannot be loaded")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # noqa: BLE001 - as above
        raise InvalidInput(f"{VARIABLE}: {path}: {_told(error)}") from None
    task = getattr(module, "TASK", None)
    if not (isinstance(task, type) and issubclass(task, OwnTask)):
        raise InvalidInput(f"{VARIABLE}: {path} must say TASK = its class, derived from OwnTask")
    if not (str(task.name).isidentifier() and len(task.name) <= 64):
        raise InvalidInput(f"{VARIABLE}: {path}: a task's name is a word of at most 64 characters")
    return task


def _told(error: Exception) -> str:
    return one_line(" ".join(f"{type(error).__name__}: {error}".split()))
