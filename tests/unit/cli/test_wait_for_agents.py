"""`tinyfleet run start --wait-for N` starts the run once N are attached, and not without them."""

from types import SimpleNamespace

import pytest

from tinyfleet.cli import run
from tinyfleet.errors import Refused


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class Fleet:
    """One more agent every `every` seconds, up to `most`."""

    def __init__(self, clock: Clock, every: float, most: int) -> None:
        self.clock, self.every, self.most, self.asked = clock, every, most, 0

    def list_agents(self, attached_only: bool) -> list[SimpleNamespace]:
        assert attached_only
        self.asked += 1
        return [SimpleNamespace()] * min(int(self.clock.now / self.every), self.most)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(run, "time", made)
    return made


def test_run_waits_until_all_are_attached(clock: Clock) -> None:
    run.wait_for_agents(Fleet(clock, every=10, most=5), 3)
    assert 30 <= clock.now < 30 + 2 * run.RECONNECT_S


def test_run_that_waits_for_nobody_does_not_ask(clock: Clock) -> None:
    fleet = Fleet(clock, every=10, most=5)
    run.wait_for_agents(fleet, 0)
    assert (fleet.asked, clock.now) == (0, 0.0)


def test_run_without_its_agents_is_refused_with_their_number(clock: Clock) -> None:
    with pytest.raises(Refused, match="2 of 3 agents are attached after 120 s"):
        run.wait_for_agents(Fleet(clock, every=10, most=2), 3)
