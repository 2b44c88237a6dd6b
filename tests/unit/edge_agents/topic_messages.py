"""Messages as ROS has them, without ROS: objects with the attributes of their types."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any


def flat(*values: float, offset: int = 0) -> Any:
    """A Float32MultiArray without axes."""
    return in_axes([], values, offset)


def in_axes(axes: Sequence[tuple[str, int, int]], values: Sequence[float], offset: int = 0) -> Any:
    """A Float32MultiArray; an axis is label, size, stride."""
    dim = [SimpleNamespace(label=label, size=size, stride=step) for label, size, step in axes]
    return SimpleNamespace(
        layout=SimpleNamespace(dim=dim, data_offset=offset), data=array("f", values)
    )


def vector(*values: float) -> Any:
    return SimpleNamespace(**dict(zip("xyzw", values, strict=False)))


def imu(acceleration: Sequence[float] = (0, 0, 9.8), **other: Any) -> Any:
    message = {
        "orientation": vector(0, 0, 0, 1),
        "angular_velocity": vector(0.1, 0.2, 0.3),
        "linear_acceleration": vector(*acceleration),
        "orientation_covariance": [0.0] * 9,
        "angular_velocity_covariance": [0.0] * 9,
        "linear_acceleration_covariance": [0.0] * 9,
    }
    return SimpleNamespace(**message | other)


def joints(name: Sequence[str], **arrays: Sequence[float]) -> Any:
    empty: dict[str, Any] = {"position": [], "velocity": [], "effort": []}
    return SimpleNamespace(name=list(name), **empty | arrays)
