"""The largest changes of a training, picked by the board itself."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mcu_bridge.errors import BadAnswer


@dataclass(frozen=True)
class Selection:
    """Some entries of `trained - start`.

    indices: `(count,) int64`, ascending. values: `(count,) float32`, the differences there.
    """

    indices: NDArray[np.int64]
    values: NDArray[np.float32]


def selection_bytes(count: int, parameters: int) -> int:
    """The size of a selection: a bitmap of the parameters, then `count` float32."""
    return -(-parameters // 8) + 4 * count


def parse_selection(data: bytes, count: int, parameters: int) -> Selection:
    """The selection in `data`. Raises BadAnswer unless it is one of `count` finite entries."""
    if len(data) != selection_bytes(count, parameters):
        raise BadAnswer(f"a selection of {len(data)} bytes")
    bitmap = np.frombuffer(data, np.uint8, len(data) - 4 * count)
    indices = np.flatnonzero(np.unpackbits(bitmap, bitorder="little"))
    if len(indices) != count or indices[-1] >= parameters:
        raise BadAnswer(f"a selection that is not of {count} out of {parameters} parameters")
    values = np.frombuffer(data, "<f4", count, len(bitmap)).astype(np.float32)
    if not np.isfinite(values).all():
        raise BadAnswer("a selection with numbers that are not finite")
    return Selection(indices.astype(np.int64), values)
