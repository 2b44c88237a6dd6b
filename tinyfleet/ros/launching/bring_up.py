"""Brings the nodes of a launch up by events, keeps them up, and ends the launch with the reason.

A process starts: its node is configured; it is inactive: it is activated. An event can be lost
while two processes find each other, and after a kill the graph still shows the services of the dead
process. So until its node is active each is also asked for its state, and told once it answers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from launch import Action, Event, EventHandler, LaunchContext
from launch.actions import OpaqueFunction, Shutdown
from launch.event_handlers import OnProcessExit, OnProcessStart
from launch.events import matches_action
from launch.logging import get_logger
from launch_ros.event_handlers import OnStateTransition
from launch_ros.events.lifecycle import ChangeState
from launch_ros.ros_adapters import get_ros_node
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import GetState

from tinyfleet.ros.launching.processes import Command, NodeProcess

POLL_S = 0.5  # our choice
ANSWER_S = 1.0  # our choice: longest wait for a node that says its state
REPEAT_S = 5.0  # our choice: a node still in the same state after so long is told again
MAX_EARLY_EXITS = 3  # our choice: in a row, before it was active; then starting it again is no use
# Ended well, or by the Ctrl-C of someone while Python was still starting.
CLEAN = (0, -2, 130)
_NEXT = {
    "unconfigured": ("configure", Transition.TRANSITION_CONFIGURE),
    "inactive": ("activate", Transition.TRANSITION_ACTIVATE),
}
# What a transition that was refused looks like: from, to.
_REFUSED = {
    ("configuring", "unconfigured"): "be configured",
    ("activating", "inactive"): "be activated",
}


class LaunchFailed(RuntimeError):
    """A launch cannot go on; raised inside it, this makes its exit code 1."""


class AllActive(Event):
    """Every node that `owner` brings up has been active."""

    name = "tinyfleet.AllActive"

    def __init__(self, owner: BringUp) -> None:
        super().__init__()
        self.owner = owner


@dataclass
class _Progress:
    """How far the process of a node has come.

    process: counts the node's processes. driven: whether it is to be told what comes next. told:
    when it was told which transition. early_exits: of processes before they were active, in a row.
    """

    node: NodeProcess
    client: Any
    process: int = 0
    driven: bool = False
    active: bool = False
    told: dict[str, float] = field(default_factory=dict)
    early_exits: int = 0

    def begin(self, driven: bool) -> None:
        """Another process of the node has started."""
        self.process += 1
        self.driven = driven
        self.told.clear()


class BringUp(Action):
    """Brings `nodes` up, each after those it needs, and keeps them; then starts `then`.

    autostart: whether they are told to configure and activate; else somebody else tells them. The
    launch ends well when `then` does. It fails and says why when a node cannot be configured or
    activated, when one dies that is not started again, and when `then` fails.
    """

    def __init__(
        self, nodes: Sequence[NodeProcess], autostart: bool, then: Command | None = None
    ) -> None:
        super().__init__()
        self.nodes = nodes
        self.autostart = autostart
        self.then = then
        self._progress: dict[Any, _Progress] = {}
        self._waiting_for = set(nodes)
        self._log = get_logger("tinyfleet")

    def execute(self, context: LaunchContext) -> None:
        ros = get_ros_node(context)
        for node in self.nodes:
            client = ros.create_client(GetState, f"{node.node_name}/get_state")
            self._progress[node] = _Progress(node, client)
        for handler in self._handlers():
            context.register_event_handler(handler)

    def _handlers(self) -> list[EventHandler]:
        is_ours = self._progress.__contains__
        handlers = [
            OnProcessStart(target_action=is_ours, on_start=self._started),
            OnStateTransition(
                matcher=lambda event: (
                    is_ours(getattr(event, "action", None)) and hasattr(event, "goal_state")
                ),
                entities=[OpaqueFunction(function=self._moved)],
            ),
            OnProcessExit(target_action=is_ours, on_exit=self._exited),
        ]
        if self.then is not None:
            handlers += [
                EventHandler(
                    matcher=lambda event: getattr(event, "owner", None) is self,
                    entities=[self.then],
                ),
                OnProcessExit(target_action=self.then, on_exit=self._finished),
            ]
        return handlers

    def _started(self, event: Any, context: LaunchContext) -> None:
        progress = self._progress[event.action]
        progress.begin(self.autostart)
        # Never cancelled: launch takes a cancelled future for its own end.
        context.add_completion_future(
            context.asyncio_loop.create_task(self._watch(progress, progress.process, context))
        )

    async def _watch(self, progress: _Progress, process: int, context: LaunchContext) -> None:
        while not (context.is_shutdown or progress.active or progress.process != process):
            state = await _ask(progress.client, context)
            if state is not None and progress.process == process and not context.is_shutdown:
                self._saw(progress, state, context)
            await asyncio.sleep(POLL_S)

    def _moved(self, context: LaunchContext) -> None:
        """A node says that it has changed its state."""
        event = context.locals.event
        progress = self._progress[event.action]
        refused = _REFUSED.get((event.start_state, event.goal_state))
        if event.goal_state == "errorprocessing":
            refused = "go on: it met an error"
        if refused and progress.driven:
            raise LaunchFailed(f"{progress.node.label} cannot {refused}; its log says why")
        self._saw(progress, event.goal_state, context)

    def _saw(self, progress: _Progress, state: str, context: LaunchContext) -> None:
        if progress.driven and state in _NEXT and not self._must_wait(progress.node, state):
            self._tell(progress, state, context)
        if state == "active" and not progress.active:
            # From now on its state is its user's affair: who pauses it means it.
            progress.active, progress.driven, progress.early_exits = True, False, 0
            self._is_active(progress.node, context)

    def _must_wait(self, node: NodeProcess, state: str) -> bool:
        return state == "inactive" and not all(self._progress[n].active for n in node.needs)

    def _tell(self, progress: _Progress, state: str, context: LaunchContext) -> None:
        """Have it do what comes next in `state`, unless it was told just now."""
        now, (name, transition) = context.asyncio_loop.time(), _NEXT[state]
        if now < progress.told.get(name, -REPEAT_S) + REPEAT_S:
            return
        progress.told[name] = now
        matcher = matches_action(progress.node)
        context.emit_event_sync(
            ChangeState(lifecycle_node_matcher=matcher, transition_id=transition)
        )

    def _is_active(self, node: NodeProcess, context: LaunchContext) -> None:
        self._log.info(f"{node.label} is active")
        if node in self._waiting_for:
            self._waiting_for.remove(node)
            if not self._waiting_for:
                self._log.info(f"all {len(self.nodes)} nodes are active")
                context.emit_event_sync(AllActive(self))

    def _exited(self, event: Any, context: LaunchContext) -> None:
        progress, code = self._progress[event.action], event.returncode
        name = progress.node.label
        progress.early_exits += not progress.active
        progress.active = False
        if context.is_shutdown:
            if code not in CLEAN:
                raise LaunchFailed(f"{name} did not end well: exit code {code}")
        elif not progress.node.respawns:
            if code not in CLEAN:
                raise LaunchFailed(f"{name} died: exit code {code}; use_respawn is off")
        elif progress.early_exits >= MAX_EARLY_EXITS:
            raise LaunchFailed(f"{name} died {MAX_EARLY_EXITS} times before it was active: {code}")
        else:
            self._log.info(f"{name} is started again")

    def _finished(self, event: Any, context: LaunchContext) -> Shutdown | None:
        if context.is_shutdown:
            return None
        if event.returncode != 0:
            raise LaunchFailed(f"the run failed: exit code {event.returncode}; its log says why")
        return Shutdown(reason="the run is over")


async def _ask(client: Any, context: LaunchContext) -> str | None:
    """The state of a node by name, None when it does not answer."""
    answer = asyncio.Event()
    loop = context.asyncio_loop
    request = client.call_async(GetState.Request())
    request.add_done_callback(lambda _: loop.call_soon_threadsafe(answer.set))
    try:
        await asyncio.wait_for(answer.wait(), ANSWER_S)
        return str(request.result().current_state.label)
    except TimeoutError:
        if not context.is_shutdown:
            client.remove_pending_request(request)
        return None
