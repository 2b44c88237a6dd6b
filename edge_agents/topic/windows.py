"""Messages in a row as one input, and how their values are normalised."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import numpy as np

from edge_agents.topic.readers import Values
from edge_agents.topic.refusals import Reason, RefusedMessage
from tinyfleet.errors import InvalidInput
from tinyfleet.learner.protocol import Floats


class Windows:
    """The last `window` rows, oldest first, after every `stride` rows.

    Rows of one window follow each other: what interrupts them has to call `clear`.
    """

    def __init__(self, window: int, stride: int) -> None:
        self._window = window
        self._stride = stride
        self._rows: deque[Floats] = deque(maxlen=window)
        self._due = window

    def add(self, row: Floats) -> Floats | None:
        """`(window * width,) float32` when a window is complete with this row."""
        self._rows.append(row)
        self._due -= 1
        if self._due > 0:
            return None
        self._due = self._stride
        return np.concatenate(self._rows)

    def clear(self) -> None:
        """Begin anew."""
        self._rows.clear()
        self._due = self._window


class Normalisation:
    """(value - mean) / scale in float64, rounded to float32 once."""

    def __init__(self, mean: Sequence[float], scale: Sequence[float], width: int) -> None:
        """Raises InvalidInput unless each has no number, one, or `width`; no scale is 0."""
        self._mean = _numbers("mean", mean, width, 0.0)
        self._scale = _numbers("scale", scale, width, 1.0)
        if not self._scale.all():
            raise InvalidInput("a scale is what a field is divided by: it must not be 0")

    def __call__(self, values: Values) -> Floats:
        """`(width,) float32`; raises RefusedMessage for what is not finite."""
        with np.errstate(over="ignore", invalid="ignore"):  # looked for below
            return finite_row((values - self._mean) / self._scale)


def finite_row(values: Values) -> Floats:
    """`values` as float32; raises RefusedMessage unless all are finite there."""
    with np.errstate(over="ignore"):
        row = values.astype(np.float32)
    if not np.isfinite(row).all():
        place = int(np.flatnonzero(~np.isfinite(row))[0])
        raise RefusedMessage(Reason.NOT_FINITE, f"value {place} is {values[place]}")
    return row


def _numbers(name: str, numbers: Sequence[float], width: int, missing: float) -> Values:
    if len(numbers) not in (0, 1, width):
        raise InvalidInput(
            f"{name} has {len(numbers)} numbers for {width} fields: give one for each, or one"
        )
    return np.array(numbers or [missing], np.float64)
