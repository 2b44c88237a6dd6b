"""A service as a ROS 2 lifecycle node: configure opens its store, activate listens.

Deactivated, it does not listen and its streams have ended; what it keeps stays open, and activated
again it goes on, on the same address.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from services.hosting.server import Service, announce, check_loopback, serving
from services.hosting.settings import ServiceSettings
from tinyfleet.ros.lifecycle import HostedNode
from tinyfleet.ros.process import run_node


def host(name: str, settings: type[Any], build: Callable[[Any], Service]) -> None:
    """Entry point of a service's node; see `tinyfleet.ros.process.run_node`."""
    run_node(f"tinyfleet-{name}-node", name, settings, lambda node: ServicePart(node, build))


class ServicePart:
    """See `tinyfleet.ros.lifecycle.Part`."""

    def __init__(self, node: HostedNode[Any], build: Callable[[Any], Service]) -> None:
        self._node = node
        self._build = build
        self._settings: ServiceSettings | None = None
        self._service: Service | None = None
        self._listening = contextlib.AsyncExitStack()

    async def configure(self, settings: ServiceSettings) -> None:
        check_loopback(settings.listen)
        self._service = self._build(settings)
        self._settings = settings

    async def activate(self) -> None:
        settings, service = self._opened()
        async with contextlib.AsyncExitStack() as stack:
            address = await stack.enter_async_context(serving(settings, service))
            announce(settings.port_file, address)
            await service.start()
            self._listening = stack.pop_all()
        self._settings = replace(settings, listen=address)  # a free port stays the same one

    async def deactivate(self) -> None:
        await self._listening.aclose()

    async def cleanup(self) -> None:
        _, service = self._opened()
        self._settings = self._service = None
        await service.close()

    async def ended(self) -> None:
        await asyncio.Event().wait()  # a service goes on until it is told otherwise

    def _opened(self) -> tuple[ServiceSettings, Service]:
        assert self._settings is not None  # noqa: S101 - the lifecycle configures first
        assert self._service is not None  # noqa: S101
        return self._settings, self._service
