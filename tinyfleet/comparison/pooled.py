"""Means over problems and seeds, from the means each seed has over its problems."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tinyfleet.comparison.jobs import Measured
from tinyfleet.evaluation.score import Z_95

MIN_ON_LINE = 4  # our choice: with fewer, a line goes through nearly all of them


@dataclass(frozen=True)
class Pooled:
    """Over all problems of all seeds.

    low, high: 95 % interval of the mean (normal approximation, every problem of every seed one
    observation). seed_sd: standard deviation between the seeds' means, None for one seed.
    """

    value: float
    low: float
    high: float
    seed_sd: float | None


def pool(scores: Sequence[Measured]) -> Pooled:
    """The mean of at least one seed's score.

    The sum of squares about the common mean is that within the seeds, which their intervals give,
    and that between them: sum of (n_i - 1) s_i^2 + n_i (m_i - m)^2. So the interval is the one that
    all problems put together would have. Scores of no problems at all are left out.
    """
    kept = [score for score in scores if score.count and math.isfinite(score.value)]
    if not kept:
        return Pooled(math.nan, math.nan, math.nan, None)
    count = sum(score.count for score in kept)
    mean = math.fsum(score.value * score.count for score in kept) / count
    squares = math.fsum(_within(score) + score.count * (score.value - mean) ** 2 for score in kept)
    half = Z_95 * math.sqrt(squares / (count - 1) / count) if count > 1 else 0.0
    return Pooled(mean, mean - half, mean + half, deviation([score.value for score in kept]))


def deviation(values: Sequence[float]) -> float | None:
    """Standard deviation of a sample; None for fewer than two values."""
    if len(values) < 2:
        return None
    mean = math.fsum(values) / len(values)
    return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))


def deviation_about_line(places: Sequence[float], values: Sequence[float]) -> float | None:
    """Standard deviation about the straight line of least squares; None for fewer than four points.

    A steady rise or fall is the line's; what is left is how much the values jump. The line takes
    two degrees of freedom.
    """
    if len(values) < MIN_ON_LINE:
        return None
    middle, mean = math.fsum(places) / len(places), math.fsum(values) / len(values)
    across = [place - middle for place in places]
    slope = math.fsum(x * value for x, value in zip(across, values, strict=True))
    slope /= math.fsum(x * x for x in across)
    rest = [value - mean - slope * x for x, value in zip(across, values, strict=True)]
    return math.sqrt(math.fsum(jump * jump for jump in rest) / (len(values) - 2))


def _within(score: Measured) -> float:
    """Sum of squares about a seed's own mean, from its interval: half = z * sqrt(s^2 / n)."""
    half = (score.high - score.low) / 2
    return (half / Z_95) ** 2 * score.count * (score.count - 1)
