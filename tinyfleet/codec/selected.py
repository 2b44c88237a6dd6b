"""The selected encoding: the largest entries of an update, in the precision that was asked for.

Entries that hardly changed stay at home, and a value that travels has 4, 2 or 1 bytes. The bytes
describe themselves; docs/formats/update.md is their specification.
"""

from __future__ import annotations

import numpy as np

from tinyfleet.codec.header import HEADER_BYTES, read_header, write_header
from tinyfleet.codec.positions import (
    Positions,
    decode_positions,
    encode_positions,
    positions_bytes,
)
from tinyfleet.codec.selection import Indices, entries_of, select_largest
from tinyfleet.codec.values import (
    Stored,
    precision_named,
    round_values,
    scale_bytes,
    value_bytes,
    values_from_bytes,
    values_to_bytes,
)
from tinyfleet.errors import InvalidInput
from tinyfleet.model.spec import MAX_PARAMETERS, Parameters
from tinyfleet.randomness import RandomStream

MAX_OVERHEAD_BYTES = HEADER_BYTES + 4  # beyond 4 an entry: ALL with a scale has nothing more


def is_dense(fraction: float, precision: str) -> bool:
    """Whether such a change is sent in the dense encoding: entry by entry, and nothing else."""
    return fraction == 1.0 and precision == "float32"


def largest_bytes(count: int, fraction: float, precision: str) -> int:
    """No update of `count` entries that `encode_selected` writes for these has more bytes."""
    kind = precision_named(precision)
    bitmap = (count + 7) // 8 + entries_of(fraction, count) * value_bytes(kind)
    return HEADER_BYTES + scale_bytes(kind) + min(count * value_bytes(kind), bitmap)


def encode_selected(
    change: Parameters, fraction: float, precision: str, noise: RandomStream | None
) -> bytes:
    """The ceil(fraction * n) largest entries of `(n,) float32`, in the shortest form.

    fraction: (0, 1]; precision: `float32`, `float16` or `int8`. Entries that are zero, or become
    zero in that precision, are not sent. noise: for int8 only, one draw for each selected entry
    that is not zero, by rising index. Raises InvalidInput when an argument is out of range or a
    number is not finite.
    """
    _check_change(change)
    kind = precision_named(precision)
    indices = select_largest(change, entries_of(fraction, len(change)))
    scale, stored = round_values(change[indices], kind, noise)
    kept = stored != 0
    indices, stored = indices[kept], stored[kept]
    positions = _shortest(indices, len(change), value_bytes(kind))
    if positions is Positions.ALL:
        stored = _filled(indices, stored, len(change))
    head = write_header(positions, kind, len(stored))
    where = encode_positions(positions, indices, len(change))
    return head + where + values_to_bytes(scale, stored, kind)


def decode_update(data: bytes | bytearray | memoryview, count: int) -> Parameters:
    """The `(count,) float32` change in selected `data`, read-only: zeros where nothing was sent.

    Raises InvalidInput for anything that an encoder does not write for `count` entries: nothing is
    allocated before its size is known to be right. Time and memory are O(count).
    """
    if not 1 <= count <= MAX_PARAMETERS:
        raise InvalidInput(f"an update has 1 to {MAX_PARAMETERS} entries, got {count}")
    raw = np.frombuffer(data, np.uint8)
    if raw.size > 4 * count + MAX_OVERHEAD_BYTES:
        raise InvalidInput(f"an update of {count} parameters cannot have {raw.size} bytes")
    positions, precision, entries = read_header(raw, count)
    tail = scale_bytes(precision) + entries * value_bytes(precision)
    middle = raw.size - HEADER_BYTES - tail
    if middle < 0:
        raise InvalidInput(f"an update of {entries} entries ends too soon")
    where, values = np.split(raw[HEADER_BYTES:], [middle])
    indices = decode_positions(positions, where, entries, count)
    change = np.zeros(count, np.float32)
    change[indices] = values_from_bytes(values, precision)
    change.flags.writeable = False
    return change


def _check_change(change: Parameters) -> None:
    if change.dtype != np.float32 or change.ndim != 1:
        raise InvalidInput(f"an update is a float32 vector, got {change.dtype} {change.shape}")
    if not 1 <= len(change) <= MAX_PARAMETERS:
        raise InvalidInput(f"an update has 1 to {MAX_PARAMETERS} entries, got {len(change)}")
    if not np.isfinite(change).all():
        raise InvalidInput("an update must hold finite numbers only")


def _shortest(indices: Indices, count: int, value_size: int) -> Positions:
    """The positions with the fewest bytes in all, the first of equals in the enum's order."""
    sizes = {Positions.ALL: (count - len(indices)) * value_size}
    sizes |= positions_bytes(indices, count)
    return min(sizes, key=lambda positions: sizes[positions])


def _filled(indices: Indices, stored: Stored, count: int) -> Stored:
    everything = np.zeros(count, stored.dtype)
    everything[indices] = stored
    return everything
