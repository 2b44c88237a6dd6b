"""Streams of noise that a test knows."""

import numpy as np


class GivenNoise:
    """Hands out exactly the draws that it was given, and notices when others are wanted."""

    def __init__(self, draws):
        self._draws = np.array(draws, np.float64)

    def uniform(self, count):
        draws, self._draws = self._draws[:count], self._draws[count:]
        assert len(draws) == count, "more noise is wanted than there is"
        return draws

    @property
    def left(self):
        return len(self._draws)
