"""Tasks that an operator writes: Python files named by the variable TINYFLEET_TASKS.

Every process that makes the task needs the same variable: the command, the coordinator and the
agents. docs/guides/bring-a-task.md shows one.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

from tinyfleet.errors import InvalidInput, unknown_name
from tinyfleet.learner.protocol import Samples
from tinyfleet.model.layers import Shape
from tinyfleet.model.spec import LOSSES
from tinyfleet.own_code import OwnCode, told
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
    return _OWN.found()


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
        raise InvalidInput(f"task '{task.name}' cannot be made: {told(error)}") from None
    if made.loss not in LOSSES:
        raise unknown_name("loss", str(made.loss), LOSSES)
    return made


def _objection(made: Any) -> str:
    if isinstance(made, type) and issubclass(made, OwnTask):
        return ""
    return "must say TASK = its class, derived from OwnTask"


_OWN = OwnCode(VARIABLE, "task", "TASK", _objection)
