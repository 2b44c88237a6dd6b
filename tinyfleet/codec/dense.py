"""The dense encoding: every entry of a delta as little-endian float32, nothing else.

Four bytes an entry, no header: the length says how many entries there are, so a decoder has to
be told how many it expects. It loses nothing.
"""

from __future__ import annotations

import numpy as np

from tinyfleet.errors import InvalidInput
from tinyfleet.model.spec import MAX_PARAMETERS, Parameters

_LITTLE = np.dtype("<f4")


def encode_dense(delta: Parameters) -> bytes:
    """`4 * n` bytes for `(n,) float32`. Raises InvalidInput for another type or shape."""
    if delta.dtype != np.float32 or delta.ndim != 1:
        raise InvalidInput(f"an update is a float32 vector, got {delta.dtype} {delta.shape}")
    return delta.astype(_LITTLE, copy=False).tobytes()


def decode_dense(data: bytes | bytearray | memoryview, count: int) -> Parameters:
    """The `(count,) float32` delta in `data`, read-only and without a copy where possible.

    Raises InvalidInput when there are not exactly `4 * count` bytes, or when an entry is not a
    finite number: one such entry would spoil the model for everybody.
    """
    if not 1 <= count <= MAX_PARAMETERS:
        raise InvalidInput(f"an update has 1 to {MAX_PARAMETERS} entries, got {count}")
    size = memoryview(data).nbytes
    if size != 4 * count:
        raise InvalidInput(f"an update of {count} entries has {4 * count} bytes, got {size}")
    delta = np.frombuffer(data, _LITTLE)
    if not np.isfinite(delta).all():
        raise InvalidInput("an update must hold finite numbers only")
    view = delta.astype(np.float32, copy=False)
    view.flags.writeable = False
    return view
