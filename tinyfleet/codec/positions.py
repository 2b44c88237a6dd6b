"""Rising indices as bytes, four ways; docs/formats/update.md has the layouts.

A decoder is told how many entries the vector and the update have, and gets exactly the bytes that
are the positions'. It accepts one byte string for each set of indices and raises InvalidInput for
every other one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from tinyfleet.codec.selection import Indices
from tinyfleet.errors import InvalidInput

Bytes = npt.NDArray[np.uint8]

_LONGEST_GAP = 4  # bytes: 28 bits, above MAX_PARAMETERS


class Positions(IntEnum):
    """How an update says which entries it has. Numbers are part of the format."""

    ALL = 0
    BITMAP = 1
    GAPS = 2
    INDICES = 3


@dataclass(frozen=True)
class _Layout:
    encode: Callable[[Indices, int], bytes]
    decode: Callable[[Bytes, int, int], Indices]


def encode_positions(positions: Positions, indices: Indices, count: int) -> bytes:
    """`indices`, rising and below `count`, as bytes. For ALL they must be all of them."""
    return _LAYOUTS[positions].encode(indices, count)


def decode_positions(positions: Positions, data: Bytes, entries: int, count: int) -> Indices:
    """The `(entries,)` rising indices below `count` in `data`; entries: 0 to count.

    Raises InvalidInput when `data` is not what an encoder writes for exactly that many.
    """
    return _LAYOUTS[positions].decode(data, entries, count)


def positions_bytes(indices: Indices, count: int) -> dict[Positions, int]:
    """How many bytes each way of writing a set of indices below `count` takes, in a fixed order."""
    return {
        Positions.BITMAP: (count + 7) // 8,
        Positions.GAPS: int(_gap_lengths(_gaps(indices)).sum()),
        Positions.INDICES: _index_type(count).itemsize * len(indices),
    }


def _encode_all(indices: Indices, count: int) -> bytes:
    return b""


def _decode_all(data: Bytes, entries: int, count: int) -> Indices:
    if entries != count:
        raise InvalidInput(f"an update without positions has all {count} entries, got {entries}")
    _check_size(data, 0)
    return np.arange(count)


def _encode_bitmap(indices: Indices, count: int) -> bytes:
    bits = np.zeros(count, np.bool_)
    bits[indices] = True
    return np.packbits(bits, bitorder="little").tobytes()


def _decode_bitmap(data: Bytes, entries: int, count: int) -> Indices:
    _check_size(data, (count + 7) // 8)
    indices = np.flatnonzero(np.unpackbits(data, bitorder="little"))
    if len(indices) != entries:
        raise InvalidInput(f"an update of {entries} entries has a bitmap of {len(indices)}")
    return _below(indices, count)


def _encode_gaps(indices: Indices, count: int) -> bytes:
    gaps = _gaps(indices)
    lengths = _gap_lengths(gaps)
    starts = np.cumsum(lengths) - lengths
    data = np.zeros(int(lengths.sum()), np.uint8)
    for place in range(_LONGEST_GAP):
        here = lengths > place
        more = (lengths[here] > place + 1) * 0x80
        data[starts[here] + place] = gaps[here] >> 7 * place & 0x7F | more
    return data.tobytes()


def _decode_gaps(data: Bytes, entries: int, count: int) -> Indices:
    ends = np.flatnonzero(data < 0x80)
    if len(ends) != entries or (data.size and data[-1] >= 0x80):
        raise InvalidInput(f"an update of {entries} entries has {len(ends)} whole gaps")
    starts = np.concatenate((np.zeros(1, np.int64), ends + 1))[:-1]
    lengths = ends - starts + 1
    if (lengths > _LONGEST_GAP).any() or ((lengths > 1) & (data[ends] == 0)).any():
        raise InvalidInput("a gap in an update is not written in its shortest form")
    gaps = np.zeros(entries, np.int64)
    for place in range(_LONGEST_GAP):
        here = lengths > place
        gaps[here] |= (data[starts[here] + place].astype(np.int64) & 0x7F) << 7 * place
    return _below(np.cumsum(gaps + 1) - 1, count)


def _encode_indices(indices: Indices, count: int) -> bytes:
    return indices.astype(_index_type(count)).tobytes()


def _decode_indices(data: Bytes, entries: int, count: int) -> Indices:
    kind = _index_type(count)
    _check_size(data, kind.itemsize * entries)
    indices = data.view(kind).astype(np.int64)
    if (np.diff(indices) <= 0).any():
        raise InvalidInput("the indices of an update must rise")
    return _below(indices, count)


def _gaps(indices: Indices) -> Indices:
    """How many entries lie between an index and the one before it."""
    return np.diff(indices, prepend=-1) - 1


def _gap_lengths(gaps: Indices) -> Indices:
    return 1 + (gaps >= 1 << 7) + (gaps >= 1 << 14) + (gaps >= 1 << 21).astype(np.int64)


def _index_type(count: int) -> np.dtype[np.unsignedinteger]:
    return np.dtype("<u2") if count <= 1 << 16 else np.dtype("<u4")


def _check_size(data: Bytes, size: int) -> None:
    if data.size != size:
        raise InvalidInput(f"the positions of an update have {size} bytes, got {data.size}")


def _below(indices: Indices, count: int) -> Indices:
    if len(indices) and indices[-1] >= count:
        raise InvalidInput(f"an update of {count} parameters has one for entry {indices[-1]}")
    return indices


_LAYOUTS = {
    Positions.ALL: _Layout(_encode_all, _decode_all),
    Positions.BITMAP: _Layout(_encode_bitmap, _decode_bitmap),
    Positions.GAPS: _Layout(_encode_gaps, _decode_gaps),
    Positions.INDICES: _Layout(_encode_indices, _decode_indices),
}
