"""What the device commands share: a connection that ends in order, and a board described."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import asdict
from typing import Any, TypeVar

import click

from mcu_bridge.cli.fault_words import fault_in_words
from mcu_bridge.device.client import Device
from mcu_bridge.device.identity import DeviceIdentity
from mcu_bridge.device.messages import DeviceCounters

Result = TypeVar("Result")
url_argument = click.argument("url", metavar="URL")


def run(work: Coroutine[Any, Any, Result]) -> Result:
    """What `work` gives; Ctrl-C ends it in order first, so no emulator is left behind."""
    return asyncio.run(work)


async def look_at(url: str) -> tuple[DeviceIdentity, DeviceCounters]:
    """Who the board at `url` is, and what it has counted."""
    async with await Device.connect(url) as device:
        return device.identity, await device.counters()


def identity_document(identity: DeviceIdentity) -> dict[str, Any]:
    """An identity for JSON, with the fault in words beside its numbers."""
    document = asdict(identity)
    if identity.fault is not None:
        document["fault"]["words"] = fault_in_words(identity.fault)
    return document
