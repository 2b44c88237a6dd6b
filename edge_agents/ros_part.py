"""What the agent's node hosts: configure reads settings and own data, activate attends.

Deactivated, the agent finishes what is in training, delivers it and leaves the fleet; activated
again it attends anew, and own data go on where they were.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Iterable

from edge_agents.agent import Agent
from edge_agents.membership import NameMember
from edge_agents.settings import AgentSettings, completed
from tinyfleet.readings import Reading
from tinyfleet.ros.lifecycle import HostedNode


class AgentPart:
    """See `tinyfleet.ros.lifecycle.Part`."""

    def __init__(self, node: HostedNode[AgentSettings]) -> None:
        self._node = node
        self._agent: Agent | None = None
        self._leave = asyncio.Event()
        self._running: asyncio.Task[None] | None = None
        node.add_readings(self._readings)
        for handler in logging.getLogger().handlers:
            handler.addFilter(NameMember())

    def _readings(self) -> Iterable[Reading]:
        return self._agent.readings() if self._agent is not None else ()

    async def configure(self, settings: AgentSettings) -> None:
        complete = completed(settings, os.environ)
        self._agent = await asyncio.to_thread(Agent, complete)  # own data may take a while to read

    async def activate(self) -> None:
        assert self._agent is not None  # noqa: S101 - the lifecycle configures first
        self._leave = asyncio.Event()
        self._running = asyncio.create_task(self._agent.run(self._leave))

    async def deactivate(self) -> None:
        running, self._running = self._running, None
        self._leave.set()
        if running is not None:
            await asyncio.wait([running])  # `ended` has said what went wrong, if anything did

    async def cleanup(self) -> None:
        self._agent = None

    async def ended(self) -> None:
        assert self._running is not None  # noqa: S101 - it is active
        await asyncio.shield(self._running)
