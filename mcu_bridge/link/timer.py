"""How long to wait for the other side before asking again, learned from how fast it answers."""

from __future__ import annotations

LONGEST_S = 5.0  # between two questions of a transfer; our choice


class ReplyTime:
    """What an answer takes: its smoothed time plus four deviations (RFC 6298), in seconds.

    `wait_s` is `first_s` until something was measured, and never below `least_s`.
    """

    def __init__(self, first_s: float, least_s: float) -> None:
        self.wait_s = first_s
        self._least_s = least_s
        self._smoothed_s: float | None = None
        self._deviation_s = 0.0

    def measure(self, sample_s: float) -> None:
        """An answer took that long; do not tell of answers to a repeated question (Karn's rule)."""
        if self._smoothed_s is None:
            self._smoothed_s, self._deviation_s = sample_s, sample_s / 2
        else:
            self._deviation_s += (abs(sample_s - self._smoothed_s) - self._deviation_s) / 4
            self._smoothed_s += (sample_s - self._smoothed_s) / 8
        self.wait_s = max(self._least_s, self._smoothed_s + 4 * self._deviation_s)


class ReplyTimer:
    """When a transfer asks again, and when it gives up; times are seconds of the caller's clock.

    Each time that the wait passes and nothing has come it doubles. Without progress for
    `patience_s`, the transfer is given up.
    """

    def __init__(self, time: ReplyTime, patience_s: float, now: float) -> None:
        self.patience_s = patience_s
        self.give_up_at = now + patience_s
        self.lapses = 0  # in a row
        self._time = time
        self._due = now + time.wait_s
        self._asked: tuple[int, float] | None = None

    @property
    def until(self) -> float:
        """When to look again if nothing arrives."""
        return min(self._due, self.give_up_at)

    def asked(self, mark: int, now: float) -> None:
        """What an answer of at least `mark` will answer left now; one is timed at a time."""
        if self._asked is None:
            self._asked = (mark, now)

    def repeated(self) -> None:
        """An answer could now be to either: it is not timed."""
        self._asked = None

    def moved(self, mark: int, now: float) -> None:
        """There was progress, up to `mark`."""
        if self._asked is not None and mark >= self._asked[0]:
            self._time.measure(now - self._asked[1])
            self._asked = None
        self.lapses = 0
        self._due = now + self._time.wait_s
        self.give_up_at = now + self.patience_s

    def heard(self, now: float) -> None:
        """The other side says something, if nothing new: asked again now it would only say more.

        It is there, so the wait does not go on doubling: on a bad line the one block that is
        wanted may be lost many times in a row.
        """
        self.lapses = 0
        self._due = now + self._time.wait_s

    def lapsed(self, now: float) -> bool:
        """Whether it is time to ask again; the next wait is then twice as long."""
        if now < self._due:
            return False
        self.lapses += 1
        self._asked = None
        self._due = now + min(LONGEST_S, self._time.wait_s * 2.0**self.lapses)
        return True
