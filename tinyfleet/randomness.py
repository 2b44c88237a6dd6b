"""Every random draw of a run, from seeds that name what they are for.

A draw depends on (run seed, purpose, round, slot) and never on who performs it, so a simulator, a
Pi and a server draw the same numbers. Only the raw output of PCG64 seeded by SeedSequence is used:
NumPy promises that stream for ever, unlike the distributions of `numpy.random.Generator`. What
is built on it here uses exact float64 operations only, so that the results do not depend on the
processor or on a version of libm.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np
import numpy.typing as npt


class Purpose(IntEnum):
    """What a stream of random numbers is for. Numbers are part of the format: never reuse one."""

    INITIALIZATION = 1
    TRAINING_TASK = 2
    EVALUATION_TASK = 3
    STRATEGY = 4
    UPLOAD = 5
    DEVICE_SPEED = 6
    HOLDERS = 7
    SUPPORT_ORDER = 8


class RandomStream:
    """An endless stream of random numbers, wholly determined by its key."""

    def __init__(self, run_seed: int, purpose: Purpose, *key: int) -> None:
        """run_seed and each key part: 0 <= value < 2**63."""
        self._bits = np.random.PCG64(np.random.SeedSequence((run_seed, int(purpose), *key)))

    @property
    def pcg64(self) -> tuple[int, int]:
        """State and increment of the generator, 128 bits each: they determine all further draws."""
        state = self._bits.state["state"]
        return state["state"], state["inc"]

    def uniform(self, count: int) -> npt.NDArray[np.float64]:
        """`(count,)` values in [0, 1), multiples of 2**-53."""
        return (self._bits.random_raw(count) >> np.uint64(11)).astype(np.float64) * 2.0**-53

    def integers(self, count: int, below: int) -> npt.NDArray[np.int64]:
        """`(count,)` whole numbers in [0, below); the bias is under below * 2**-53."""
        return (self.uniform(count) * below).astype(np.int64)

    def choice(self, below: int, count: int) -> npt.NDArray[np.int64]:
        """`count` different whole numbers of [0, below), in random order."""
        return np.argsort(self._bits.random_raw(below), kind="stable")[:count]

    def permutation(self, below: int) -> npt.NDArray[np.int64]:
        """All whole numbers of [0, below) in random order."""
        return self.choice(below, below)
