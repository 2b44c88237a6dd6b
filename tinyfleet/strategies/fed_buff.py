"""FedBuff: nobody waits for the slowest device; what comes first makes the next version.

Nguyen et al., "Federated Learning with Buffered Asynchronous Aggregation", arXiv 2106.06639, with
TinyReptile's online phase on the devices, so that an initialization is learned.

    M devices are at work, each from the version w that was the newest when it began:
        for each of its samples, seen once and forgotten:
            w' <- w' - inner_rate * gradient of the loss on that sample
        sends back w' - w, and begins anew from what is the newest version then
    the server puts what arrives into a buffer; once K updates are in it:
        w <- w + outer step * sum of (w' - w) / sqrt(1 + staleness) / K

An update's staleness is the number of versions made since the one it began from. The weight is the
paper's; that the sum is divided by K and not by the weights is our choice: a buffer of old updates
moves the model less. So is `max_staleness`: an older update is refused and its slot is given to
whoever is free next. With K = M = 1 this is TinyReptile, bit for bit.

In which order updates arrive depends on real time, so a fleet of several agents does not repeat a
simulated run; its journal does repeat the fleet's. The simulator has M devices of unlike, constant
speeds (`speed_spread`).

Simulated by `benchmarks/bench_buffered.py`: with four devices, of which three need a second for a
slot and one needs ten, K = M = 4 makes 2,790 versions an hour. Reptile with four agents a round, or
any other strategy that waits for them, makes 360 of as many updates each.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tinyfleet.model.spec import Parameters
from tinyfleet.strategies.base import (
    MAX_AGENTS_PER_ROUND,
    MAX_SPEED_SPREAD,
    SCHEDULES,
    Update,
    option,
    rounds_option,
    scheduled,
)
from tinyfleet.strategies.plan import Phase, TrainingPlan

MAX_STALENESS = 10_000  # our choice: far beyond what is of any use


@dataclass(frozen=True)
class FedBuff:
    """The strategy `fed_buff`; see the module for the algorithm. Defaults are our choice."""

    name = "fed_buff"

    rounds: int = rounds_option()
    buffer: int = option(4, "K, updates that make a version", 1, MAX_AGENTS_PER_ROUND)
    concurrency: int = option(8, "M, devices at work at once", 1, MAX_AGENTS_PER_ROUND)
    max_staleness: int = option(20, "versions an update may be behind", 0, MAX_STALENESS)
    samples: int = option(50, "samples a device learns from in a slot", 1, 1_000_000)
    inner_rate: float = option(0.01, "rate of the device's online steps", 1e-9, 10)
    outer_rate: float = option(0.5, "server's step towards the buffer's mean", 1e-9, 10)
    schedule: str = option("linear", "how outer_rate goes over the run", choices=SCHEDULES)
    speed_spread: float = option(
        0.5, "simulator only: spread of the log of device speeds", 0, MAX_SPEED_SPREAD
    )

    @property
    def agents_per_round(self) -> int:
        return self.buffer

    def plan(self, round: int) -> TrainingPlan:
        return TrainingPlan((Phase(samples=self.samples, rate=self.inner_rate),))

    def apply(self, model: Parameters, updates: Sequence[Update], round: int) -> Parameters:
        step = scheduled(self.schedule, self.outer_rate, round, self.rounds)
        total = np.zeros(model.shape, np.float64)
        for update in updates:
            weight = 1.0 / math.sqrt(1 + update.staleness)
            total += update.delta.astype(np.float64) * weight
        return model + step * (total / len(updates)).astype(np.float32)
