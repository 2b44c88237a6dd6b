"""The training loss over a run of any length, in bounded memory."""

from __future__ import annotations

import math

MAX_POINTS = 512


class LossHistory:
    """Means over equal stretches of rounds; stretches double when there would be too many."""

    def __init__(self) -> None:
        self._width = 1
        self._sums: list[float] = []
        self._counts: list[int] = []

    def add(self, round: int, loss: float) -> None:
        """The loss of `round`, which counts from 0; nan is left out."""
        if math.isnan(loss):
            return
        while round // self._width >= MAX_POINTS:
            self._halve()
        at = round // self._width
        missing = at + 1 - len(self._sums)
        self._sums += [0.0] * missing
        self._counts += [0] * missing
        self._sums[at] += loss
        self._counts[at] += 1

    def points(self) -> list[tuple[float, float]]:
        """`(middle in rounds, mean loss)` of each stretch that has a loss, in order."""
        pairs = zip(self._sums, self._counts, strict=True)
        half = self._width / 2
        return [
            (index * self._width + half, total / count)
            for index, (total, count) in enumerate(pairs)
            if count
        ]

    def _halve(self) -> None:
        self._width *= 2
        self._sums = [sum(self._sums[i : i + 2]) for i in range(0, len(self._sums), 2)]
        self._counts = [sum(self._counts[i : i + 2]) for i in range(0, len(self._counts), 2)]
