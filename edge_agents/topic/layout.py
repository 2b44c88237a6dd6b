"""Layouts of std_msgs/MultiArrayLayout: which places of the data the paths mean, if any."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from edge_agents.topic.paths import AxisRange
from edge_agents.topic.refusals import Reason, RefusedMessage
from tinyfleet.errors import one_line

MAX_AXES = 8  # our choice
MAX_LABEL = 256  # our choice: characters
MAX_PLACE = 2**32  # what a message's own numbers count to
FLAT = "data"
"""The name of the data as they lie, whatever the layout says, from its offset on."""

Places = npt.NDArray[np.intp]


@dataclass(frozen=True)
class Axis:
    """size, stride: as the message says, u32. stride: from one index of the axis before this."""

    label: str
    size: int
    stride: int


@dataclass(frozen=True)
class Layout:
    """What a message says of its data. A message without axes has them `FLAT`."""

    offset: int
    axes: tuple[Axis, ...]

    @classmethod
    def of(cls, layout: Any) -> Layout:
        """Raises RefusedMessage for more axes, or longer labels, than are looked at."""
        if len(layout.dim) > MAX_AXES:
            raise RefusedMessage(Reason.LAYOUT, f"{len(layout.dim)} axes, at most {MAX_AXES}")
        axes = tuple(Axis(one.label, one.size, one.stride) for one in layout.dim)
        if any(len(axis.label) > MAX_LABEL for axis in axes):
            raise RefusedMessage(Reason.LAYOUT, f"a label of over {MAX_LABEL} characters")
        return cls(layout.data_offset, axes)

    def steps(self) -> dict[str, int]:
        """For each axis, how far one index is from the next; refused where axes overlap."""
        steps = [axis.stride for axis in self.axes[1:]] + [1]
        for (outer, inner), axis in zip(pairwise(steps), self.axes[1:], strict=True):
            if outer < inner * axis.size:
                raise RefusedMessage(
                    Reason.LAYOUT,
                    f"axis '{one_line(axis.label)}' has stride {outer}, less than its values take",
                )
        return {axis.label: step for axis, step in zip(self.axes, steps, strict=True)}


def places(paths: Sequence[Sequence[AxisRange]], layout: Layout) -> Places:
    """Where in the data the values are, path by path; raises RefusedMessage."""
    return np.concatenate([_places(path, layout) for path in paths])


def _places(path: Sequence[AxisRange], layout: Layout) -> Places:
    if [one.label for one in path] == [FLAT]:
        return np.arange(path[0].start, path[0].stop) + _checked(layout.offset, path[0].stop, 1)
    sizes = _sizes(path, layout)
    steps = layout.steps()
    found = np.array([layout.offset], np.intp)
    for one in path:
        if one.stop > sizes[one.label]:
            raise RefusedMessage(
                Reason.SIZE,
                f"axis '{one_line(one.label)}' has {sizes[one.label]} values, not {one.stop}",
            )
        step = steps[one.label]
        _checked(int(found.max()), one.stop, step)
        found = np.add.outer(found, np.arange(one.start, one.stop) * step).reshape(-1)
    return found


def _checked(offset: int, stop: int, step: int) -> int:
    """`offset`, if all places from there on can be."""
    if offset + stop * step > MAX_PLACE:
        raise RefusedMessage(Reason.LAYOUT, "places beyond what a message can have")
    return offset


def _sizes(path: Sequence[AxisRange], layout: Layout) -> dict[str, int]:
    """The size of each axis by its label; refused unless the path says which element it means."""
    sizes = {axis.label: axis.size for axis in layout.axes}
    if len(sizes) < len(layout.axes):
        raise RefusedMessage(Reason.LAYOUT, "two axes of one label")
    named = {one.label for one in path}
    for label in named - sizes.keys():
        raise RefusedMessage(Reason.LAYOUT, f"no axis '{one_line(label)}'")
    for label, size in sizes.items():
        if label not in named and size != 1:
            raise RefusedMessage(
                Reason.LAYOUT, f"axis '{one_line(label)}' of size {size} is not named by the fields"
            )
    return sizes
