"""A stand-in for `launch` and `launch_ros`, which are on no package index: it only records.

With it a launch file can be read for what it says, wherever the tests run: arguments, nodes,
parameters, the command of the run. What launch makes of it is tested with the real one, in
tests/ros/launching, which also holds it to the same table of arguments.
"""

import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]
NAMES = {
    "launch": "Action Event EventHandler LaunchContext LaunchDescription",
    "launch.actions": "DeclareLaunchArgument ExecuteProcess OpaqueFunction Shutdown",
    "launch.event_handlers": "OnProcessExit OnProcessStart",
    "launch.events": "matches_action",
    "launch.events.process": "ShutdownProcess",
    "launch.logging": "get_logger",
    "launch.substitutions": "LaunchConfiguration",
    "launch_ros": "",
    "launch_ros.actions": "LifecycleNode",
    "launch_ros.event_handlers": "OnStateTransition",
    "launch_ros.events": "",
    "launch_ros.events.lifecycle": "ChangeState",
    "launch_ros.parameter_descriptions": "ParameterValue",
    "launch_ros.ros_adapters": "get_ros_node",
    "lifecycle_msgs": "",
    "lifecycle_msgs.msg": "Transition",
    "lifecycle_msgs.srv": "GetState",
}


class Recorded:
    """Whatever is made of it keeps what it was made with."""

    def __init__(self, *args: Any, **options: Any) -> None:
        self.args = args
        self.options = options

    def info(self, text: str) -> None:
        """As a logger."""

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and vars(self) == vars(other)

    __hash__ = object.__hash__


def stand_ins() -> dict[str, ModuleType]:
    modules = {}
    for module, names in NAMES.items():
        made = modules[module] = ModuleType(module)
        for name in names.split():
            setattr(made, name, type(name, (Recorded,), {}))
    transition = modules["lifecycle_msgs.msg"].Transition
    transition.TRANSITION_CONFIGURE, transition.TRANSITION_ACTIVATE = 1, 3
    return modules


@pytest.fixture
def launching() -> Iterator[SimpleNamespace]:
    """The modules that launch files share, on the stand-in; what was imported is forgotten."""
    before = dict(sys.modules)
    for name in [name for name in before if name.startswith("tinyfleet.ros.launching")]:
        del sys.modules[name]
    sys.modules.update(stand_ins())
    try:
        names = ("arguments", "bring_up", "nodes", "processes")
        yield SimpleNamespace(
            **{name: importlib.import_module(f"tinyfleet.ros.launching.{name}") for name in names}
        )
    finally:
        for name in set(sys.modules) - set(before):
            del sys.modules[name]
        sys.modules.update(before)


@pytest.fixture
def described(launching: SimpleNamespace) -> Callable[[str], Any]:
    """Loads a launch file by path, as launch does, and gives its description."""

    def load(name: str) -> Any:
        path = ROOT / "launch" / name
        spec = importlib.util.spec_from_file_location("launch_file", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module.generate_launch_description()

    return load
