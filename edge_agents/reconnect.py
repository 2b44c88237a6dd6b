"""When to try again: exponential backoff with full jitter, and one log line per change of state.

Full jitter (a uniform draw between 0 and the growing bound) spreads a fleet that lost its
coordinator all at once evenly over the bound, so that its return is not met by everybody at once.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from tinyfleet.logs import fields
from tinyfleet.readings import Level, Reading

FIRST_PAUSE_S = 0.1  # our choice: a service that restarts is back within a second

LONG_AWAY_S = 30.0  # our choice: a restart takes less, and what takes longer is an error


@dataclass(frozen=True)
class Clock:
    """Time and chance as the agent sees them; tests bring their own.

    now: monotonic seconds. draw: uniform in [0, 1).
    """

    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    draw: Callable[[], float] = random.random


class Backoff:
    """Pauses between attempts: the n-th is uniform in [0, min(ceiling, 0.1 * 2**n)) seconds."""

    def __init__(self, ceiling_s: float, clock: Clock) -> None:
        self._ceiling_s = ceiling_s
        self._clock = clock
        self._bound_s = FIRST_PAUSE_S

    def reset(self) -> None:
        """The other side answered: start again with short pauses."""
        self._bound_s = FIRST_PAUSE_S

    def next_pause_s(self) -> float:
        """Length of the next pause in seconds; each call doubles the bound up to the ceiling."""
        bound = min(self._bound_s, self._ceiling_s)
        self._bound_s = min(2.0 * bound, self._ceiling_s)
        return bound * self._clock.draw()

    async def pause(self) -> None:
        """Wait for `next_pause_s`."""
        await self._clock.sleep(self.next_pause_s())


class Reachability:
    """Whether a peer is reached; says so in the log when, and only when, that changes."""

    def __init__(self, peer: str, log: logging.Logger, clock: Clock) -> None:
        self._peer = peer
        self._log = log
        self._clock = clock
        self._reached = False
        self._reason = ""
        self._since = clock.now()

    def reached(self, address: str, **about: object) -> None:
        """The peer answered. about: what else the line says of it."""
        if not self._reached:
            self._log.info(f"{self._peer} reached", extra=fields(address=address, **about))
        self._reached, self._reason = True, ""
        self._since = self._clock.now()

    def lost(self, address: str, reason: str) -> None:
        """The peer is not there, for `reason`."""
        if self._reached:
            self._since = self._clock.now()
        if self._reached or not self._reason:
            phrase = f"connection to the {self._peer} lost" if self._reached else f"no {self._peer}"
            self._log.warning(
                f"{phrase}, trying again", extra=fields(address=address, reason=reason)
            )
        self._reached, self._reason = False, reason

    def reading(self, about: str, age: str, values: Mapping[str, object]) -> Reading:
        """How the peer is. age: the name of one value more: how long that has been so, seconds."""
        age_s = self._clock.now() - self._since
        told = {age: age_s, **values}
        if self._reached:
            return Reading(about, Level.OK, f"{self._peer} reached", told)
        level = Level.WARN if age_s < LONG_AWAY_S else Level.ERROR
        reason = f": {self._reason}" if self._reason else ""
        return Reading(about, level, f"no {self._peer}, trying again{reason}", told)

    @property
    def missing_s(self) -> float:
        """For how long the peer has not been reached, in seconds; 0 while it is."""
        return 0.0 if self._reached else self._clock.now() - self._since
