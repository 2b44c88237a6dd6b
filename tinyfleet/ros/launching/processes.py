"""Processes that a launch starts: they end in order, and with the launch, whatever ends that.

A Ctrl-C reaches every process of the terminal's foreground group at once, services before agents
that still deliver. So each gets a session of its own and is told by the launch alone, those that
others depend on last; and the kernel ends it should the launch be killed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from launch import LaunchContext
from launch.actions import ExecuteProcess
from launch.events import matches_action
from launch.events.process import ShutdownProcess
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import LifecycleNode

# Longer than the drain of a node (drain_s, 10 seconds at most by default).
PATIENCE_S = "15"  # our choice
RESPAWN_DELAY_S = 1.0  # our choice: a port and a lease on a folder are free again by then
_GUARD = "setsid setpriv --pdeathsig TERM -- "


def guarded() -> dict[str, Any]:
    """What every process is given: its session, its end, and time for it."""
    return {
        # A prefix of the launch file hides the user's own, so that one follows.
        "prefix": [_GUARD, LaunchConfiguration("launch-prefix", default="")],
        "sigterm_timeout": LaunchConfiguration("sigterm_timeout", default=PATIENCE_S),
        "output": "screen",
    }


class _EndsInOrder:
    """Mixed into an ExecuteProcess: told to end, it waits for the end of those in `users`."""

    users: Sequence[ExecuteProcess] = ()

    def _shutdown_process(self, context: LaunchContext, *, send_sigint: bool) -> Any:
        """Launch calls this on its own shutdown and on ShutdownProcess."""
        ends = [user.get_asyncio_future() for user in self.users]
        running = [end for end in ends if end is not None and not end.done()]
        if running:
            context.add_completion_future(
                context.asyncio_loop.create_task(self._end_after(running, context))
            )
            return None
        # Always: no signal of the terminal has reached it.
        return super()._shutdown_process(context, send_sigint=True)  # type: ignore[misc]

    async def _end_after(self, running: list[Any], context: LaunchContext) -> None:
        await asyncio.wait(running)
        await context.emit_event(ShutdownProcess(process_matcher=matches_action(self)))


class Command(_EndsInOrder, ExecuteProcess):
    """A program that runs once."""


class NodeProcess(_EndsInOrder, LifecycleNode):
    """A lifecycle node of TinyFleet in a process of its own: `python -m module`.

    `needs` are the nodes that are activated before it, `users` those that end before it.
    """

    def __init__(self, *, python: str, module: str, name: str, respawn: bool, **node: Any) -> None:
        super().__init__(
            executable=python,
            arguments=["-m", module],
            name=name,
            exec_name=name,
            respawn=respawn,
            respawn_delay=RESPAWN_DELAY_S,
            **node,
            **guarded(),
        )
        self.label = name
        self.module = module
        self.respawns = respawn
        self.needs: Sequence[NodeProcess] = ()

    def _call_change_state(self, request: Any, context: LaunchContext) -> None:
        """Launch calls this in a thread, which it leaves without a client when it ends."""
        try:
            super()._call_change_state(request, context)
        except Exception:
            if not context.is_shutdown:
                raise
