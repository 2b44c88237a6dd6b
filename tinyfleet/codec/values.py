"""The values of an update in float32, float16 or int8; docs/formats/update.md has the layouts."""

from __future__ import annotations

from enum import IntEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from tinyfleet.errors import InvalidInput, unknown_name
from tinyfleet.model.spec import Parameters
from tinyfleet.randomness import RandomStream

FLOAT16_LARGEST = 65504.0
MAX_SCALE = 2.0**121  # 127 times this is finite in float32
STEPS = 127  # of an int8 on either side of zero; -128 is not used

Stored = npt.NDArray[np.float32] | npt.NDArray[np.float16] | npt.NDArray[np.int8]


class Precision(IntEnum):
    """How an update writes a value. Numbers are part of the format."""

    FLOAT32 = 0
    FLOAT16 = 1
    INT8 = 2


VALUE_TYPES: dict[Precision, np.dtype[Any]] = {
    Precision.FLOAT32: np.dtype("<f4"),
    Precision.FLOAT16: np.dtype("<f2"),
    Precision.INT8: np.dtype("i1"),
}
PRECISIONS = tuple(precision.name.lower() for precision in Precision)


def precision_named(name: str) -> Precision:
    """The precision `float32`, `float16` or `int8`; raises InvalidInput for another name."""
    if name not in PRECISIONS:
        raise unknown_name("precision", name, PRECISIONS)
    return Precision[name.upper()]


def value_bytes(precision: Precision) -> int:
    """How many bytes one value takes."""
    return VALUE_TYPES[precision].itemsize


def scale_bytes(precision: Precision) -> int:
    """How many bytes come before the values."""
    return 4 if precision is Precision.INT8 else 0


def round_values(
    values: Parameters, precision: Precision, noise: RandomStream | None
) -> tuple[np.float32, Stored]:
    """The scale and the stored values of `(k,) float32`, finite.

    float16: to nearest, ties to even; what is beyond ±65504 becomes ±65504.
    int8: `scale` is max |value| / 127, rounded up; value / scale goes to the whole number below
    or above it with the probabilities that make its mean the value: stochastic rounding.
    Takes `noise.uniform(k)` for int8 and nothing else; raises InvalidInput without noise then.
    """
    if precision is Precision.FLOAT32:
        return np.float32(1), values
    if precision is Precision.FLOAT16:
        return np.float32(1), values.clip(-FLOAT16_LARGEST, FLOAT16_LARGEST).astype(np.float16)
    if noise is None:
        raise InvalidInput("int8 rounds at random: it needs a stream of noise")
    scale = _scale(values)
    exact = values.astype(np.float64) / float(scale)
    below = np.floor(exact)
    steps = below + (noise.uniform(len(values)) < exact - below)
    return scale, steps.clip(-STEPS, STEPS).astype(np.int8)


def values_to_bytes(scale: np.float32, stored: Stored, precision: Precision) -> bytes:
    """The scale, where the precision has one, and the stored values."""
    head = np.array(scale, "<f4").tobytes() if scale_bytes(precision) else b""
    return head + stored.astype(VALUE_TYPES[precision], copy=False).tobytes()


def values_from_bytes(data: npt.NDArray[np.uint8], precision: Precision) -> npt.NDArray[np.float32]:
    """The values in `data`, `scale_bytes` and a whole number of values: `(k,) float32`, finite.

    Raises InvalidInput for values or a scale that no encoder writes.
    """
    head = scale_bytes(precision)
    stored = data[head:].view(VALUE_TYPES[precision])
    if precision is not Precision.INT8:
        if not np.isfinite(stored).all():
            raise InvalidInput("an update must hold finite numbers only")
        return stored.astype(np.float32)
    scale = np.float32(data[:head].view("<f4")[0])
    if not 0.0 < scale <= MAX_SCALE:  # NaN fails too
        raise InvalidInput(f"the scale of an update must be above 0 and at most 2^121, got {scale}")
    if (stored < -STEPS).any():
        raise InvalidInput("an update in int8 must hold -127 to 127 only")
    values: Parameters = np.multiply(stored, scale, dtype=np.float32)
    return values


def _scale(values: Parameters) -> np.float32:
    """The smallest float32 of which 127 reach the largest value, within the format's range."""
    largest = float(np.abs(values).max(initial=0.0))
    if largest == 0.0:
        return np.float32(1)
    scale = np.float32(largest / STEPS)
    if float(scale) * STEPS < largest:
        scale = np.nextafter(scale, np.float32(np.inf))
    return min(scale, np.float32(MAX_SCALE))
