"""How the updates of a round become one change: their mean, or a rule that withstands bad ones.

A device that is broken, or lies, can move a mean as far as it likes. These rules bound that, as
long as at most `byzantine` of a round's updates are bad. They count each update alike, whatever
number of samples it is of; what a device did not send of its change counts as zero.

    median, trimmed_mean   Yin et al., "Byzantine-Robust Distributed Learning: Towards Optimal
                           Statistical Rates", arXiv 1803.01498: entry by entry
    krum                   Blanchard et al., "Machine Learning with Adversaries: Byzantine Tolerant
                           Gradient Descent", NIPS 2017: the one update nearest to its neighbours

All sums are in float64 and in a fixed order, so that a round has the same bits on every processor.
A round that was closed with fewer updates than the rule needs changes nothing (our choice): a round
lost is better than one that nobody vouches for.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tinyfleet.errors import InvalidInput
from tinyfleet.model.spec import Parameters
from tinyfleet.strategies.base import MAX_AGENTS_PER_ROUND, Update, mean_delta, option

RULES = ("mean", "median", "trimmed_mean", "krum")
MAX_KRUM_AGENTS = 64  # our choice: krum compares every update with every other


def combine_option() -> Any:
    """The option `combine`: by which of RULES the updates of a round become one change."""
    return option("mean", "how a round's updates become one change", choices=RULES)


def byzantine_option() -> Any:
    """The option `byzantine`: how many bad updates a round withstands."""
    return option(0, "bad updates that a round withstands", 0, MAX_AGENTS_PER_ROUND)


def check_combining(rule: str, byzantine: int, agents: int) -> None:
    """Raise InvalidInput unless `rule` can withstand that many bad ones of `agents` updates."""
    if rule == "mean" and byzantine:
        others = ", ".join(RULES[1:])
        raise InvalidInput(f"a mean withstands no bad update: choose combine among {others}")
    if rule in ("trimmed_mean", "krum") and not byzantine:
        raise InvalidInput(f"{rule} needs byzantine, the bad updates to withstand: at least 1")
    if agents < _least(rule, byzantine):
        raise InvalidInput(
            f"{rule} withstands {byzantine} bad updates among {_least(rule, byzantine)} at least: "
            f"raise agents_per_round, which is {agents}, or lower byzantine"
        )
    if rule == "krum" and agents > MAX_KRUM_AGENTS:
        raise InvalidInput(
            f"krum takes at most {MAX_KRUM_AGENTS} agents_per_round, got {agents}: "
            "choose fewer, or median or trimmed_mean"
        )


def combined(
    rule: str, byzantine: int, updates: Sequence[Update], weights: Sequence[float]
) -> Parameters:
    """`(parameter_count,) float32`, the change that stands for those of a round.

    updates: at least one, in the order of their slots. weights: of a mean.
    """
    if rule == "mean":
        return mean_delta(updates, weights)
    if len(updates) < _least(rule, byzantine):
        return np.zeros_like(updates[0].delta)
    if rule == "krum":
        return _krum([update.delta for update in updates], byzantine)
    ranked = _ranked(updates)
    if rule == "median":
        middle = (len(ranked) - 1) // 2
        return _mean_of(ranked[middle : len(ranked) - middle])
    return _mean_of(ranked[byzantine : len(ranked) - byzantine])


def _least(rule: str, byzantine: int) -> int:
    """How many updates `rule` needs."""
    return 2 * byzantine + (3 if rule == "krum" else 1)


def _ranked(updates: Sequence[Update]) -> npt.NDArray[np.float32]:
    """`(updates, parameter_count)`, each column in ascending order.

    Adding a zero turns -0 into 0: the two are equal, so sorting would leave their order open.
    """
    deltas = np.stack([update.delta for update in updates]) + np.float32(0.0)
    deltas.sort(axis=0)
    return deltas


def _mean_of(rows: npt.NDArray[np.float32]) -> Parameters:
    """The mean of rows, added in their order."""
    total = np.zeros(rows.shape[1], np.float64)
    for row in rows:
        total += row
    return (total / len(rows)).astype(np.float32)


def _krum(deltas: Sequence[Parameters], byzantine: int) -> Parameters:
    """The delta with the least sum of squared distances to its n - byzantine - 2 nearest ones.

    The one of the lowest slot among equals.
    """
    neighbours = len(deltas) - byzantine - 2
    distances = _squared_distances(deltas)
    scores = [
        math.fsum(sorted(d for j, d in enumerate(row) if j != i)[:neighbours])
        for i, row in enumerate(distances)
    ]
    return deltas[scores.index(min(scores))].copy()


def _squared_distances(deltas: Sequence[Parameters]) -> list[list[float]]:
    count = len(deltas)
    distances = [[0.0] * count for _ in range(count)]
    for i, one in enumerate(deltas):
        for j in range(i):
            difference = one.astype(np.float64) - deltas[j]
            distances[i][j] = distances[j][i] = _sum(difference * difference)
    return distances


def _sum(values: npt.NDArray[np.float64]) -> float:
    """The sum by halves: neighbours that are half the length apart are added until one is left."""
    length = 1 << (len(values) - 1).bit_length()
    padded = np.zeros(length)
    padded[: len(values)] = values
    while length > 1:
        length //= 2
        padded = padded[:length] + padded[length:]
    return float(padded[0])
