"""When updates arrive where rounds overlap: devices of unlike speeds, simulated event by event.

Each device takes the next slot with the newest version as soon as it is done with the last one, and
needs the same time for each. Time is counted in slots of a device of speed 1. A slot whose version
has fallen too far behind is taken from its device, which begins another with the newest version, as
in a fleet. All of it follows from the speeds, and the speeds from the run's seed.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from tinyfleet.model.spec import Parameters
from tinyfleet.portable import portable_exp
from tinyfleet.randomness import Purpose, RandomStream
from tinyfleet.run import RunSpec
from tinyfleet.strategies.base import asynchronous

Start = TypeVar("Start")

_DRAWS = 12  # uniform draws whose sum has variance 1


@dataclass(frozen=True, slots=True)
class Arrival(Generic[Start]):
    """A slot that is done. time: when. start: what its device was given with `base_version`.

    slot: numbered through the whole run, round * slots of a round + slot.
    """

    time: float
    device: int
    slot: int
    base_version: int
    start: Start


class Devices(Generic[Start]):
    """The devices of a run whose rounds overlap, each at work on one slot.

    At most as many starts are kept as there are devices. time: of the last arrival.
    """

    def __init__(
        self, speeds: Sequence[float], slots: int, buffer: int, max_staleness: int
    ) -> None:
        """speeds: above 0, one for each device. slots: of the run. buffer: updates of a version."""
        self.time = 0.0
        self._speeds = speeds
        self._buffer, self._max_staleness = buffer, max_staleness
        self._idle = list(range(len(speeds)))
        self._busy: list[tuple[float, int, Arrival[Start]]] = []
        self._returned: list[int] = []  # a heap
        self._next, self._slots = 0, slots

    def next_buffer(self, version: int, start: Start) -> list[Arrival[Start]]:
        """The arrivals that `version + 1` is made of, in their order.

        start: what a device is given that begins before the last of them. To be called for each
        version in turn.
        """
        self._take_back(version)
        arrivals: list[Arrival[Start]] = []
        while len(arrivals) < self._buffer:
            self._begin(version, start)
            self.time, device, arrival = heapq.heappop(self._busy)
            self._idle.append(device)
            arrivals.append(arrival)
        return arrivals

    def _begin(self, version: int, start: Start) -> None:
        """Idle devices take the lowest slots that are left."""
        while self._idle and (self._returned or self._next < self._slots):
            device, slot = self._idle.pop(0), self._take()
            done_at = self.time + 1.0 / self._speeds[device]
            arrival = Arrival(done_at, device, slot, version, start)
            heapq.heappush(self._busy, (done_at, device, arrival))

    def _take(self) -> int:
        if self._returned:
            return heapq.heappop(self._returned)
        self._next += 1
        return self._next - 1

    def _take_back(self, version: int) -> None:
        """Slots of which no update would be taken any more."""
        oldest = version - self._max_staleness
        busy, self._busy = self._busy, []
        for entry in busy:
            _, device, arrival = entry
            if arrival.base_version >= oldest:
                heapq.heappush(self._busy, entry)
            else:
                self._idle.append(device)
                heapq.heappush(self._returned, arrival.slot)


def devices_of(run: RunSpec) -> Devices[Parameters] | None:
    """As many devices as the run lets be at work at once; None when its rounds do not overlap."""
    strategy = run.make_strategy()
    overlapping = asynchronous(strategy)
    if overlapping is None:
        return None
    slots = strategy.agents_per_round
    speeds = speeds_of(run.seed, overlapping.concurrency, overlapping.speed_spread)
    return Devices(speeds, run.rounds * slots, slots, overlapping.max_staleness)


def speeds_of(seed: int, count: int, spread: float) -> list[float]:
    """`count` speeds with median 1, near log-normal: e**(spread * z).

    z is the sum of twelve uniform draws less six, which is near a normal variable of variance 1 and
    exact in float64, so that the speeds are the same on every processor.
    """
    return [portable_exp(spread * _deviate(seed, device)) for device in range(count)]


def _deviate(seed: int, device: int) -> float:
    draws = RandomStream(seed, Purpose.DEVICE_SPEED, 0, device).uniform(_DRAWS)
    return float(sum(draws.tolist())) - _DRAWS / 2
