"""A service as a ROS 2 lifecycle node: configure opens its store, activate listens.

Deactivated, it does not listen and its streams have ended; what it keeps stays open, and activated
again it goes on, on the same address.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from services.hosting.errors import NotReady
from services.hosting.server import Service, announce, check_listen, serving
from services.hosting.settings import ServiceSettings
from tinyfleet.readings import Reading
from tinyfleet.ros.lifecycle import HostedNode
from tinyfleet.ros.process import run_node


def host(
    name: str,
    settings: type[Any],
    build: Callable[[Any], Service],
    *,
    has_models: bool = False,
) -> None:
    """Entry point of a service's node; see `tinyfleet.ros.process.run_node`.

    has_models: whether the service that `build` makes has a `checkpoint`, to be called by ROS.
    """

    def part(node: HostedNode[Any]) -> ServicePart:
        part = ServicePart(node, build)
        if has_models:
            node.add_trigger("~/checkpoint", part.checkpoint)
        return part

    run_node(f"tinyfleet-{name}-node", name, settings, part)


class ServicePart:
    """See `tinyfleet.ros.lifecycle.Part`."""

    def __init__(self, node: HostedNode[Any], build: Callable[[Any], Service]) -> None:
        self._node = node
        self._build = build
        self._settings: ServiceSettings | None = None
        self._service: Service | None = None
        self._listening = contextlib.AsyncExitStack()
        node.add_readings(self._readings)

    async def configure(self, settings: ServiceSettings) -> None:
        check_listen(settings.listen, settings.tls)
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

    async def checkpoint(self) -> str:
        """The path of a file with the newest model."""
        if self._service is None or self._service.checkpoint is None:
            raise NotReady(f"the node is {self._node.state}: configure it first")
        return str(await self._service.checkpoint())

    def _readings(self) -> Iterable[Reading]:
        return self._service.readings() if self._service is not None else ()

    def _opened(self) -> tuple[ServiceSettings, Service]:
        assert self._settings is not None  # noqa: S101 - the lifecycle configures first
        assert self._service is not None  # noqa: S101
        return self._settings, self._service
