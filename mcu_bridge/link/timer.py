"""How long to wait for the other side before asking again, learned from how fast it answers."""

from __future__ import annotations

SHORTEST_S = 0.03  # our choice: ten times what an emulated board takes, and a busy host's hiccup
LONGEST_S = 5.0


class ReplyTimer:
    """When to ask again, and when to give up; times are seconds of the caller's clock.

    The wait is the smoothed time of an answer plus four deviations (RFC 6298), and doubles each
    time that it passes without progress. Without progress for `patience_s`, it is given up.
    """

    def __init__(self, first_s: float, patience_s: float, now: float) -> None:
        self.patience_s = patience_s
        self.give_up_at = now + patience_s
        self.lapses = 0  # in a row
        self._wait_s = first_s
        self._due = now + first_s
        self._smoothed_s: float | None = None
        self._deviation_s = 0.0
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
        """An answer could now be to either: it is not timed (Karn's rule)."""
        self._asked = None

    def moved(self, mark: int, now: float) -> None:
        """There was progress, up to `mark`."""
        if self._asked is not None and mark >= self._asked[0]:
            self._measure(now - self._asked[1])
            self._asked = None
        self.lapses = 0
        self._due = now + self._wait_s
        self.give_up_at = now + self.patience_s

    def heard(self, now: float) -> None:
        """The other side sends, if nothing new: to ask again now would only make it send more."""
        self._due = max(self._due, now + self._wait_s)

    def lapsed(self, now: float) -> bool:
        """Whether it is time to ask again; the next wait is then twice as long."""
        if now < self._due:
            return False
        self.lapses += 1
        self._asked = None
        self._due = now + min(LONGEST_S, self._wait_s * 2.0**self.lapses)
        return True

    def _measure(self, sample_s: float) -> None:
        if self._smoothed_s is None:
            self._smoothed_s, self._deviation_s = sample_s, sample_s / 2
        else:
            self._deviation_s += (abs(sample_s - self._smoothed_s) - self._deviation_s) / 4
            self._smoothed_s += (sample_s - self._smoothed_s) / 8
        self._wait_s = max(SHORTEST_S, self._smoothed_s + 4 * self._deviation_s)
