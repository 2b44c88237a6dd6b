"""What the agent's node hosts: configure reads settings and own data, activate attends.

Deactivated, the agent finishes what is in training, delivers it and leaves the fleet; activated
again it attends anew, and own data go on where they were. With `stream.type` it learns from a
topic instead, which it hears from configure to clean-up and learns from while active.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edge_agents.agent import Agent
from edge_agents.membership import NameMember
from edge_agents.settings import AgentSettings, completed
from edge_agents.topic.health import health
from edge_agents.topic.settings import StreamSettings
from tinyfleet.checkpoint import save_checkpoint
from tinyfleet.errors import Refused
from tinyfleet.readings import Reading
from tinyfleet.ros.lifecycle import HostedNode

if TYPE_CHECKING:  # the types of messages are loaded only where there is a topic
    from edge_agents.ros_topic import TopicPort

STREAM = "stream."


@dataclass
class _Configured:
    """What `configure` opened."""

    agent: Agent
    stream: StreamSettings
    port: TopicPort | None


class AgentPart:
    """See `tinyfleet.ros.lifecycle.Part`."""

    def __init__(self, node: HostedNode[AgentSettings]) -> None:
        self._node = node
        self._stream = node.declare_settings(StreamSettings, STREAM)
        self._configured: _Configured | None = None
        self._leave = asyncio.Event()
        self._running: asyncio.Task[None] | None = None
        node.add_readings(self._readings)
        node.add_trigger("~/checkpoint", self._write_checkpoint)
        for handler in logging.getLogger().handlers:
            handler.addFilter(NameMember())

    async def configure(self, settings: AgentSettings) -> None:
        complete, stream = completed(settings, os.environ), self._stream.read()
        port = self._port(stream)
        learning = port.learning if port else None
        # Own data may take a while to read.
        agent = await asyncio.to_thread(Agent, complete, learning)
        if port is not None:
            port.open()
        self._configured = _Configured(agent, stream, port)

    async def activate(self) -> None:
        assert self._configured is not None  # noqa: S101 - the lifecycle configures first
        self._leave = asyncio.Event()
        self._running = asyncio.create_task(self._configured.agent.run(self._leave))

    async def deactivate(self) -> None:
        running, self._running = self._running, None
        self._leave.set()
        if running is not None:
            await asyncio.wait([running])  # `ended` has said what went wrong, if anything did

    async def cleanup(self) -> None:
        configured, self._configured = self._configured, None
        if configured is not None and configured.port is not None:
            configured.port.close()

    async def ended(self) -> None:
        assert self._running is not None  # noqa: S101 - it is active
        await asyncio.shield(self._running)

    def _port(self, stream: StreamSettings) -> TopicPort | None:
        if not stream.type:
            return None
        from edge_agents.ros_topic import TopicPort

        return TopicPort(self._node, stream)

    def _readings(self) -> Iterable[Reading]:
        configured = self._configured
        if configured is None:
            return
        yield from configured.agent.readings()
        if configured.port is not None and self._running is not None:
            yield health(configured.port.learning.topic.reading(), configured.stream)

    async def _write_checkpoint(self) -> str:
        """The path of the file that holds the newest personalised model."""
        configured = self._configured
        personal = configured.agent.personal if configured else None
        newest = personal.newest if personal else None
        if configured is None or newest is None:
            raise Refused(
                "there is no model of this agent's own yet: it has one once it has learned from a "
                "topic, see stream.type, or trained a round with predict"
            )
        name = f"{self._node.get_name()}-{newest.run_id}-{newest.round}.tinyfleet"
        path = (configured.stream.checkpoint_dir / name).absolute()
        await asyncio.to_thread(save_checkpoint, path, newest.checkpoint())
        return str(path)
