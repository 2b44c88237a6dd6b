"""What a launch does when nodes come up, refuse, die and come back; without processes."""

from types import SimpleNamespace
from typing import Any

import pytest


class Context:
    """A launch context with a clock of its own, which keeps the events it was given."""

    def __init__(self) -> None:
        self.now = 0.0
        self.is_shutdown = False
        self.events: list[Any] = []
        self.asyncio_loop = SimpleNamespace(time=lambda: self.now)
        self.locals = SimpleNamespace()

    def emit_event_sync(self, event: Any) -> None:
        self.events.append(event)

    def told(self) -> list[int]:
        """The transitions that nodes were told, oldest first."""
        return [e.options["transition_id"] for e in self.events if "transition_id" in e.options]


class Fleet:
    """Nodes of a launch that has started their processes."""

    def __init__(self, launching: SimpleNamespace, autostart: bool = True, respawn: bool = True):
        self.context = Context()
        self.failed = launching.bring_up.LaunchFailed
        made = launching.processes.NodeProcess
        names = ("coordinator", "agent_1")
        self.nodes = [
            made(python="python", module="module", name=name, respawn=respawn) for name in names
        ]
        self.run = launching.processes.Command(cmd=["run"])
        self.bring_up = launching.bring_up.BringUp(self.nodes, autostart, then=self.run)
        for node in self.nodes:
            progress = launching.bring_up._Progress(node, client=None)
            progress.begin(autostart)
            self.bring_up._progress[node] = progress

    def moves(self, number: int, start: str, goal: str) -> None:
        event = SimpleNamespace(action=self.nodes[number], start_state=start, goal_state=goal)
        self.context.locals.event = event
        self.bring_up._moved(self.context)

    def answers(self, number: int, state: str) -> None:
        self.bring_up._saw(self.bring_up._progress[self.nodes[number]], state, self.context)

    def comes_up(self, number: int) -> None:
        self.answers(number, "unconfigured")
        self.moves(number, "configuring", "inactive")
        self.moves(number, "activating", "active")

    def exits(self, number: int, code: int) -> None:
        event = SimpleNamespace(action=self.nodes[number], returncode=code)
        self.bring_up._exited(event, self.context)

    def starts_again(self, number: int) -> None:
        self.bring_up._progress[self.nodes[number]].begin(True)

    def all_active(self) -> int:
        return sum(type(event).__name__ == "AllActive" for event in self.context.events)


@pytest.fixture
def fleet(launching: SimpleNamespace) -> Fleet:
    return Fleet(launching)


def test_node_is_configured_and_then_activated(fleet: Fleet) -> None:
    fleet.answers(0, "unconfigured")
    assert fleet.context.told() == [1]
    fleet.moves(0, "configuring", "inactive")
    assert fleet.context.told() == [1, 3]


def test_node_that_is_seen_twice_is_told_once(fleet: Fleet) -> None:
    fleet.answers(0, "unconfigured")
    fleet.moves(0, "unconfigured", "configuring")
    fleet.moves(0, "configuring", "inactive")
    fleet.answers(0, "inactive")
    assert fleet.context.told() == [1, 3]


def test_node_that_did_not_hear_it_is_told_again(fleet: Fleet) -> None:
    fleet.answers(0, "unconfigured")
    fleet.context.now = 4.9
    fleet.answers(0, "unconfigured")
    assert fleet.context.told() == [1]
    fleet.context.now = 5.0
    fleet.answers(0, "unconfigured")
    assert fleet.context.told() == [1, 1]


def test_node_is_activated_after_those_that_it_needs(fleet: Fleet) -> None:
    coordinator, agent = fleet.nodes
    agent.needs = [coordinator]
    fleet.answers(1, "unconfigured")
    fleet.answers(1, "inactive")
    assert fleet.context.told() == [1]
    fleet.comes_up(0)
    fleet.answers(1, "inactive")
    assert fleet.context.told() == [1, 1, 3, 3]


def test_run_starts_once_when_all_are_active(fleet: Fleet) -> None:
    fleet.comes_up(0)
    assert fleet.all_active() == 0
    fleet.comes_up(1)
    assert fleet.all_active() == 1
    fleet.exits(1, -9)
    fleet.starts_again(1)
    fleet.comes_up(1)
    assert fleet.all_active() == 1


def test_respawned_node_is_configured_and_activated_again(fleet: Fleet) -> None:
    fleet.comes_up(1)
    fleet.exits(1, -9)
    fleet.starts_again(1)
    fleet.answers(1, "unconfigured")
    fleet.answers(1, "inactive")
    assert fleet.context.told() == [1, 3, 1, 3]


def test_node_that_somebody_pauses_stays_paused(fleet: Fleet) -> None:
    fleet.comes_up(1)
    fleet.moves(1, "deactivating", "inactive")
    fleet.moves(1, "cleaningup", "unconfigured")
    assert fleet.context.told() == [1, 3]


@pytest.mark.parametrize(
    ("start", "goal", "reason"),
    [
        ("configuring", "unconfigured", "agent_1 cannot be configured"),
        ("activating", "inactive", "agent_1 cannot be activated"),
        ("configuring", "errorprocessing", "agent_1 cannot go on"),
    ],
)
def test_node_that_refuses_ends_the_launch_with_the_reason(
    fleet: Fleet, start: str, goal: str, reason: str
) -> None:
    with pytest.raises(fleet.failed, match=reason):
        fleet.moves(1, start, goal)


def test_without_autostart_nobody_is_told_and_the_run_waits_for_others(
    launching: SimpleNamespace,
) -> None:
    fleet = Fleet(launching, autostart=False)
    fleet.comes_up(0)
    fleet.moves(1, "configuring", "unconfigured")  # whoever asked for it is answered
    fleet.comes_up(1)
    assert fleet.context.told() == []
    assert fleet.all_active() == 1


def test_node_that_dies_before_it_is_active_is_given_up_after_three_times(fleet: Fleet) -> None:
    for _ in range(2):
        fleet.exits(1, 1)
        fleet.starts_again(1)
    with pytest.raises(fleet.failed, match="agent_1 died 3 times before it was active"):
        fleet.exits(1, 1)


def test_node_that_was_active_may_die_as_often_as_it_likes(fleet: Fleet) -> None:
    for _ in range(10):
        fleet.comes_up(1)
        fleet.exits(1, -9)
        fleet.starts_again(1)


def test_without_respawn_a_death_ends_the_launch_and_a_good_end_does_not(
    launching: SimpleNamespace,
) -> None:
    fleet = Fleet(launching, respawn=False)
    fleet.comes_up(0)
    fleet.exits(0, 0)
    fleet.comes_up(1)
    with pytest.raises(fleet.failed, match="agent_1 died: exit code -9"):
        fleet.exits(1, -9)


def test_node_that_ends_badly_when_told_to_is_a_failure(fleet: Fleet) -> None:
    fleet.comes_up(0)
    fleet.comes_up(1)
    fleet.context.is_shutdown = True
    fleet.exits(0, 0)
    with pytest.raises(fleet.failed, match="agent_1 did not end well: exit code -9"):
        fleet.exits(1, -9)


def test_launch_ends_with_its_run_and_fails_with_it(fleet: Fleet) -> None:
    ended = fleet.bring_up._finished(SimpleNamespace(returncode=0), fleet.context)
    assert type(ended).__name__ == "Shutdown"
    with pytest.raises(fleet.failed, match="the run failed: exit code 4"):
        fleet.bring_up._finished(SimpleNamespace(returncode=4), fleet.context)
    fleet.context.is_shutdown = True
    assert fleet.bring_up._finished(SimpleNamespace(returncode=5), fleet.context) is None


def test_processes_have_a_session_of_their_own_and_end_with_the_launch(
    launching: SimpleNamespace,
) -> None:
    guard = launching.processes.guarded()["prefix"][0].split()
    assert guard == ["setsid", "setpriv", "--pdeathsig", "TERM", "--"]


def test_transition_that_the_end_of_the_launch_cuts_short_is_no_failure(
    launching: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def without_client(self: Any, request: Any, context: Context) -> None:
        raise ValueError("the client is gone")

    made = launching.processes.NodeProcess
    base = made.__mro__[-3]  # above it are Recorded and object
    assert base.__name__ == "LifecycleNode"
    monkeypatch.setattr(base, "_call_change_state", without_client, raising=False)
    node = made(python="python", module="module", name="agent", respawn=True)
    context = Context()
    with pytest.raises(ValueError, match="the client is gone"):
        node._call_change_state(None, context)
    context.is_shutdown = True
    node._call_change_state(None, context)
