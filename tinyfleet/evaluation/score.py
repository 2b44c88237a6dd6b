"""What a set of problems says about the whole distribution: means and their uncertainty."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

Z_95 = 1.959963984540054  # 97.5 % quantile of the normal distribution

Interval = tuple[float, float]


@dataclass(frozen=True)
class Result:
    """One problem: mean loss and, for a classifier, share of right answers over its query set."""

    loss: float
    accuracy: float | None

    @property
    def finite(self) -> bool:
        return math.isfinite(self.loss)


@dataclass(frozen=True)
class Score:
    """Means over problems.

    loss: mean over the problems whose loss is a finite number; nan when none is. accuracy: mean
    over all problems in [0, 1], a diverged one counts as 0; None for regression. The intervals
    hold the mean with 95 % probability (normal approximation over problems; both ends equal
    the mean when there is only one problem). diverged: problems without a finite loss.
    """

    loss: float
    loss_ci95: Interval
    accuracy: float | None
    accuracy_ci95: Interval | None
    diverged: int

    @property
    def ci95(self) -> Interval:
        """The interval of the figure that counts: accuracy where there is one, else loss."""
        return self.accuracy_ci95 or self.loss_ci95

    def to_document(self) -> dict[str, Any]:
        """For JSON: numbers that are not finite become None."""
        return {
            "loss": _finite(self.loss),
            "accuracy": self.accuracy,
            "ci95": [_finite(end) for end in self.ci95],
            "diverged": self.diverged,
        }


def score(results: Sequence[Result]) -> Score:
    """The score of at least one problem. Sums are exact (fsum): no order, no processor shows."""
    losses = [result.loss for result in results if result.finite]
    loss, loss_ci95 = _mean_and_interval(losses)
    hits = [_accuracy(result) for result in results if result.accuracy is not None]
    accuracy, accuracy_ci95 = _mean_and_interval(hits) if hits else (None, None)
    return Score(loss, loss_ci95, accuracy, accuracy_ci95, len(results) - len(losses))


def _accuracy(result: Result) -> float:
    return result.accuracy if result.finite and result.accuracy is not None else 0.0


def _mean_and_interval(values: Sequence[float]) -> tuple[float, Interval]:
    count = len(values)
    if count == 0:
        return math.nan, (math.nan, math.nan)
    mean = math.fsum(values) / count
    squares = math.fsum((value - mean) ** 2 for value in values)
    half = Z_95 * math.sqrt(squares / (count - 1) / count) if count > 1 else 0.0
    return mean, (mean - half, mean + half)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
