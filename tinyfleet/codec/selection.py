"""Which entries of a change are worth sending: the largest ones.

The firmware's codec/selection.c chooses the same ones; docs/formats/update.md says how.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from tinyfleet.errors import InvalidInput
from tinyfleet.model.spec import Parameters

Indices = npt.NDArray[np.int64]

_MAGNITUDE = np.uint32(0x7FFFFFFF)


def entries_of(fraction: float, count: int) -> int:
    """How many of `count` entries a fraction in (0, 1] is: ceil(fraction * count), in float64.

    Raises InvalidInput for a fraction out of range.
    """
    if not 0.0 < fraction <= 1.0:  # NaN fails too
        raise InvalidInput(f"fraction to send must be above 0 and at most 1, got {fraction}")
    return min(math.ceil(fraction * count), count)


def select_largest(change: Parameters, entries: int) -> Indices:
    """The indices, rising, of the `entries` largest |change|, ties to the lower index.

    change: `(n,) float32`, finite; entries: 1 to n. Entries of exactly zero are left out, also
    when fewer than `entries` remain: nothing is lost by not sending them. O(n) time.
    """
    # As numbers, the bits of a magnitude compare as the float does (selection.c does the same).
    magnitudes = change.view(np.uint32) & _MAGNITUDE
    if entries == len(change):
        return np.flatnonzero(magnitudes)
    threshold = np.partition(magnitudes, -entries)[-entries]
    if threshold == 0:
        return np.flatnonzero(magnitudes)
    chosen = magnitudes > threshold
    ties = np.flatnonzero(magnitudes == threshold)
    chosen[ties[: entries - np.count_nonzero(chosen)]] = True
    return np.flatnonzero(chosen)
