"""The signal that an emulated board's sensor gives: the twin of firmware/port/signal_generator.c.

MUST match it to the bit; tests/integration/test_firmware_port.py compares them on each port. It
lets the host compute what a board trained on that never sent its samples.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tinyfleet.learner.protocol import Samples

SHIFT = np.float32(0.5)  # of the inputs that tell the class


class SignalGenerator:
    """A seeded stream of samples; the same seed gives the same bits on every machine.

    Uniform numbers are xorshift32's (Marsaglia 2003, shifts 13, 17, 5). The seed is in
    [0, 2**32); 0 counts as 1, for the generator's state must not be 0.
    """

    def __init__(self, seed: int) -> None:
        self._state = seed % 2**32 or 1

    def draw(self) -> int:
        """The next number, in [1, 2**32)."""
        state = self._state
        state ^= state << 13 & 0xFFFFFFFF
        state ^= state >> 17
        state ^= state << 5 & 0xFFFFFFFF
        self._state = state
        return state

    def sample(self, inputs: int, outputs: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The next x `(inputs,) float32` and its target t `(outputs,) float32`.

        With several outputs t is one-hot, and the x_i with i % outputs == class lie in [-0.5, 1.5),
        all others in [-1, 1). With one output t is x_0^2 - x_last / 2.
        """
        chosen = self.draw() % outputs
        draws = np.array([self.draw() >> 8 for _ in range(inputs)], np.float32)
        x = np.float32(2) * (draws * np.float32(2**-24)) - np.float32(1)
        if outputs == 1:
            return x, np.array([x[0] * x[0] - SHIFT * x[-1]], np.float32)
        x[chosen::outputs] += SHIFT
        return x, np.eye(outputs, dtype=np.float32)[chosen]

    def samples(self, count: int, inputs: int, outputs: int) -> Samples:
        """The next `count` samples, at least 1."""
        xs, ts = zip(*(self.sample(inputs, outputs) for _ in range(count)), strict=True)
        return Samples(np.stack(xs), np.stack(ts))
