"""Messages to numbers, by the paths of their fields: one reader for each type of message.

A reader takes any object with the attributes of its type, so it needs no ROS. Messages are
hostile input: counts, names and layouts are checked before a value is used, and what is taken is
bounded by the paths, never by what a message says of itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from operator import attrgetter
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from edge_agents.topic.layout import Layout, places
from edge_agents.topic.paths import MAX_WIDTH, Part, parse_path, parse_ranges
from edge_agents.topic.refusals import Reason, RefusedMessage
from tinyfleet.errors import InvalidInput, one_line, unknown_name

Values = npt.NDArray[np.float64]

ARRAY, IMU, JOINTS = "std_msgs/Float32MultiArray", "sensor_msgs/Imu", "sensor_msgs/JointState"
MAX_JOINTS = 4096  # our choice: of one message
_IMU_GROUPS = {"orientation": "xyzw", "angular_velocity": "xyz", "linear_acceleration": "xyz"}
_JOINT_FIELDS = ("position", "velocity", "effort")


class Reader(Protocol):
    """width: how many values `read` gives, 1 to 65,536."""

    @property
    def width(self) -> int: ...

    def read(self, message: Any) -> Values:
        """`(width,) float64`, in the order of the paths; raises RefusedMessage."""
        ...


class ArrayReader:
    """Float32MultiArray: by the labels of its layout, or `data[...]` by place alone.

    Element (i, j, k) is data[data_offset + i * stride of axis 1 + j * stride of axis 2 + k], as
    std_msgs/MultiArrayLayout has it; an axis of size 1 need not be named.
    """

    def __init__(self, paths: Sequence[str]) -> None:
        self._paths = [parse_ranges(path) for path in paths]
        self.width = sum(prod(one.width for one in path) for path in self._paths)
        self._layout: Layout | None = None
        self._places = np.zeros(0, np.intp)
        self._needed = 0

    def read(self, message: Any) -> Values:
        layout = Layout.of(message.layout)
        if layout != self._layout:  # all messages of one publisher have the same
            self._places = places(self._paths, layout)
            self._needed = int(self._places.max()) + 1
            self._layout = layout
        data = np.asarray(message.data, np.float32)
        if len(data) < self._needed:
            raise RefusedMessage(Reason.SIZE, f"{len(data)} values, its fields need {self._needed}")
        return data[self._places].astype(np.float64)


class ImuReader:
    """Imu: `orientation.x`, `angular_velocity.z`, `linear_acceleration.y` and their like.

    A covariance that begins with -1 says that the sensor does not measure this, as the message's
    definition has it: such a message is refused.
    """

    def __init__(self, paths: Sequence[str]) -> None:
        known = [f"{group}.{axis}" for group, axes in _IMU_GROUPS.items() for axis in axes]
        for path in paths:
            if path not in known:
                raise unknown_name("field of an Imu", path, known)
        self.width = len(paths)
        self._values: list[Callable[[Any], float]] = [attrgetter(path) for path in paths]
        self._groups = sorted({path.partition(".")[0] for path in paths})

    def read(self, message: Any) -> Values:
        for group in self._groups:
            if getattr(message, f"{group}_covariance")[0] == -1.0:
                raise RefusedMessage(Reason.NOT_MEASURED, f"the sensor does not measure {group}")
        return np.array([value(message) for value in self._values], np.float64)


class JointReader:
    """JointState: `position[wheel_left]`, `velocity[...]`, `effort[...]`, by the list of names."""

    def __init__(self, paths: Sequence[str]) -> None:
        self._fields = [_joint_field(path) for path in paths]
        self.width = len(paths)
        self._names: list[str] = []
        self._places: list[int] = []

    def read(self, message: Any) -> Values:
        if not self._places or message.name != self._names:
            self._places = self._find(message.name)
            self._names = list(message.name)
        arrays = {field.name: _joint_values(message, field.name) for field in self._fields}
        return np.array(
            [
                arrays[field.name][place]
                for field, place in zip(self._fields, self._places, strict=True)
            ],
            np.float64,
        )

    def _find(self, names: Sequence[str]) -> list[int]:
        self._places = []
        if len(names) > MAX_JOINTS:
            raise RefusedMessage(Reason.LAYOUT, f"{len(names)} joints, at most {MAX_JOINTS}")
        for field in self._fields:
            if (times := names.count(field.key)) != 1:
                raise RefusedMessage(Reason.JOINT, f"joint '{field.key}' is there {times} times")
        return [names.index(field.key) for field in self._fields]


def make_reader(type: str, paths: Sequence[str]) -> Reader:
    """The reader of a type of message; raises InvalidInput for paths that it does not have."""
    if not paths:
        raise InvalidInput(f"no fields of {type} are named: give paths of what to learn from")
    reader = _READERS[type](paths)
    if reader.width > MAX_WIDTH:
        raise InvalidInput(
            f"the fields take {reader.width} values of a message, at most {MAX_WIDTH}: name fewer"
        )
    return reader


def _joint_field(path: str) -> Part:
    parts = parse_path(path)
    field = parts[0]
    if len(parts) > 1 or field.name not in _JOINT_FIELDS or not field.key:
        raise InvalidInput(
            f"'{one_line(path)}' is no field of a JointState: "
            "write position[joint], velocity[joint] or effort[joint]"
        )
    return field


def _joint_values(message: Any, name: str) -> Any:
    values, joints = getattr(message, name), len(message.name)
    if len(values) != joints:
        raise RefusedMessage(Reason.SIZE, f"{len(values)} values of {name} for {joints} joints")
    return values


_READERS: dict[str, Callable[[Sequence[str]], Reader]] = {
    ARRAY: ArrayReader,
    IMU: ImuReader,
    JOINTS: JointReader,
}
TYPES = tuple(_READERS)
