"""How much one bearer may ask for: calls that are open, and calls a second.

An agent needs far less: it has one stream to the coordinator, one to the aggregator, and sends a
batch of samples a second at most.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

MAX_BEARERS = 20_000  # our choice: remembered; those that have been quiet for longest go first


@dataclass(frozen=True)
class Limits:
    """Of one bearer; the defaults are our choice.

    open_calls: at the same time; an agent that speaks for 16 boards needs 34. rate: calls a second
    in the long run. burst: calls at once after a pause.
    """

    open_calls: int = 64
    rate: float = 50.0
    burst: float = 200.0


@dataclass(slots=True)
class _Account:
    tokens: float
    since: float
    open_calls: int = 0


class Limiter:
    """Counts by bearer, with a token bucket each: a call takes a token, of at most `burst`."""

    def __init__(self, limits: Limits, now: Callable[[], float] = time.monotonic) -> None:
        self._limits = limits
        self._now = now
        self._accounts: OrderedDict[str, _Account] = OrderedDict()

    def begin(self, bearer: str) -> str:
        """Why the bearer may not make another call now; "" when it may, and then `end` it."""
        limits, account = self._limits, self._account(bearer)
        if account.open_calls >= limits.open_calls:
            return f"{limits.open_calls} calls are open already: end some first"
        if account.tokens < 1.0:
            return f"more than {limits.rate:g} calls a second: slow down"
        account.tokens -= 1.0
        account.open_calls += 1
        return ""

    def end(self, bearer: str) -> None:
        """A call that was begun is over."""
        self._accounts[bearer].open_calls -= 1

    def _account(self, bearer: str) -> _Account:
        now, limits = self._now(), self._limits
        account = self._accounts.setdefault(bearer, _Account(limits.burst, now))
        self._accounts.move_to_end(bearer)
        earned = (now - account.since) * limits.rate
        account.tokens, account.since = min(account.tokens + earned, limits.burst), now
        if len(self._accounts) > MAX_BEARERS:
            self._forget_one()
        return account

    def _forget_one(self) -> None:
        quiet = next((name for name, one in self._accounts.items() if not one.open_calls), None)
        if quiet is not None:
            del self._accounts[quiet]
