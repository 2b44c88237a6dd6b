"""Declares settings as a node's parameters, guards them, and reads the settings back.

    level = Parameters(node, AgentSettings)    declares; what was given at the start is kept
    level.read()                               an AgentSettings, or InvalidInput with one line

A value that was given at the start and is of no use does not stop the process, as it would in
rclpy: the parameter has its default, and `read` says what is wrong until another value is set.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import Any, Generic

from rcl_interfaces.msg import (
    FloatingPointRange,
    IntegerRange,
    ParameterDescriptor,
    SetParametersResult,
)
from rclpy.node import Node
from rclpy.parameter import Parameter

from tinyfleet.config import NUMBERS, TEXTS
from tinyfleet.errors import InvalidInput
from tinyfleet.ros.values import Declaration, Settings, declarations, setting_value, settings_from

# Our kinds of settings -> ROS's types.
_TYPES = {
    "bool": Parameter.Type.BOOL,
    "int": Parameter.Type.INTEGER,
    "float": Parameter.Type.DOUBLE,
    "str": Parameter.Type.STRING,
    TEXTS: Parameter.Type.STRING_ARRAY,
    NUMBERS: Parameter.Type.DOUBLE_ARRAY,
}


class Parameters(Generic[Settings]):
    """The parameters of a node that stand for one settings class."""

    def __init__(
        self,
        node: Node,
        settings: type[Settings],
        prefix: str = "",
        *,
        given: Mapping[str, Any],
        is_open: Callable[[str], bool] = lambda _: True,
    ) -> None:
        """given: values from the command line and parameter files, by full name.

        is_open: whether the parameter of that name may change now.
        """
        self._node = node
        self._type = settings
        self._prefix = prefix
        self._is_open = is_open
        self._fields = {prefix + entry.name: entry for entry in fields(settings)}  # type: ignore[arg-type]
        self._wrong: dict[str, str] = {}
        self._declare(declarations(settings, prefix), given)
        node.add_on_set_parameters_callback(self._judge)
        node.add_post_set_parameters_callback(self._note)

    @property
    def names(self) -> list[str]:
        """Full names of the parameters."""
        return list(self._fields)

    def read(self) -> Settings:
        """The settings as the parameters are now; raises InvalidInput with the remedy."""
        for wrong in self._wrong.values():
            raise InvalidInput(wrong)
        values = {
            entry.name: self._node.get_parameter(name).value for name, entry in self._fields.items()
        }
        return settings_from(self._type, values, self._prefix)

    def _declare(self, declared: Sequence[Declaration], given: Mapping[str, Any]) -> None:
        """Types first, then all values at once: rclpy takes an empty list for one of bytes."""
        values = []
        for one in declared:
            value = self._usable(one, given[one.name]) if one.name in given else one.default
            kind, name = _TYPES[one.kind], one.name
            self._node.declare_parameter(name, kind, _descriptor(one), ignore_override=True)
            values.append(Parameter(name, kind, value))
        done = self._node.set_parameters_atomically(values)
        if not done.successful:
            raise InvalidInput(done.reason)

    def _usable(self, declared: Declaration, value: Any) -> Any:
        """The value as it is to be declared; the default, and a note, when it is of no use."""
        try:
            setting = setting_value(self._fields[declared.name], value, self._prefix)
        except InvalidInput as error:
            self._wrong[declared.name] = str(error)
            return declared.default
        if declared.kind in {TEXTS, NUMBERS}:
            return list(setting)
        return setting if declared.kind in {"bool", "int", "float"} else value

    def _judge(self, parameters: Sequence[Parameter[Any]]) -> SetParametersResult:
        """Whether these may be set; called by rclpy before it does."""
        for one in parameters:
            entry = self._fields.get(one.name)
            if entry is None:
                continue
            if not self._is_open(one.name):
                reason = f"{one.name} is read-only while configured: clean up first, or call ~/stop"
                return SetParametersResult(successful=False, reason=reason)
            try:
                setting_value(entry, one.value, self._prefix)
            except InvalidInput as error:
                return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)

    def _note(self, parameters: Sequence[Parameter[Any]]) -> None:
        for one in parameters:
            self._wrong.pop(one.name, None)


def _descriptor(declared: Declaration) -> ParameterDescriptor:
    descriptor = ParameterDescriptor(
        name=declared.name,
        type=_TYPES[declared.kind].value,
        description=declared.help,
        additional_constraints=declared.constraint,
    )
    if declared.range is not None and declared.kind == "int":
        low, high = declared.range
        descriptor.integer_range = [IntegerRange(from_value=int(low), to_value=int(high))]
    elif declared.range is not None:
        low, high = declared.range
        descriptor.floating_point_range = [
            FloatingPointRange(from_value=float(low), to_value=float(high))
        ]
    return descriptor
