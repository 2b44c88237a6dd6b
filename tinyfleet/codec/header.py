"""The eight bytes with which a sparse vector begins: an update's, or what changed of a start."""

from __future__ import annotations

import struct

import numpy as np
import numpy.typing as npt

from tinyfleet.codec.positions import Positions
from tinyfleet.codec.values import Precision
from tinyfleet.errors import InvalidInput

_HEADER = struct.Struct("<BBHI")  # positions, precision, zero, entries
HEADER_BYTES = _HEADER.size


def write_header(positions: Positions, precision: Precision, entries: int) -> bytes:
    """The header."""
    return _HEADER.pack(positions, precision, 0, entries)


def read_header(raw: npt.NDArray[np.uint8], count: int) -> tuple[Positions, Precision, int]:
    """Positions, precision and entries, 0 to `count`; raises InvalidInput for any other header."""
    if raw.size < HEADER_BYTES:
        raise InvalidInput(f"an update has at least {HEADER_BYTES} bytes, got {raw.size}")
    positions, precision, zero, entries = _HEADER.unpack(raw[:HEADER_BYTES].tobytes())
    if positions not in set(Positions) or precision not in set(Precision) or zero:
        raise InvalidInput("the header of an update has a value that is not known")
    if entries > count:
        raise InvalidInput(f"an update of {count} parameters has {entries} entries")
    return Positions(positions), Precision(precision), entries
