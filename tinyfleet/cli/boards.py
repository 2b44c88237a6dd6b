"""The boards of a local fleet: what they need is looked for before it starts, and built once.

The bridge to boards is loaded by name when it is needed: the core library stands without it.
"""

from __future__ import annotations

import asyncio
import importlib
import time
from typing import Any

from tinyfleet.cli.console import note
from tinyfleet.errors import InvalidInput

DEFAULT_BOARD = "emulated://mps2-an386"


def ready_boards(url: str, count: int) -> list[str]:
    """The URLs of `count` boards, with the firmware of emulated ones built; `[]` for none.

    Raises InvalidInput with what is missing (the bridge, the tool chain, the emulator) or wrong.
    """
    if count == 0:
        return []
    place = _part("lines.url").parse_url(url)
    if place.kind == "emulated":
        _build(place.target)
    elif count > 1:
        raise InvalidInput(
            f"{url} is one board: give --mcus 1, or start one tinyfleet-agent with a --device each"
        )
    else:
        asyncio.run(_look_at(url))
    return [url] * count


def _build(board: str) -> None:
    began = time.monotonic()
    note(f"firmware for {board}: looking for its image, building it where it is missing or old")
    image = _part("images").firmware_image(board)
    note(f"firmware for {board}: {image.name} is ready ({time.monotonic() - began:.1f} s)")


async def _look_at(url: str) -> None:
    """Say who is there; raises what the bridge raises when nobody is."""
    device = await _part("device").Device.connect(url)
    await device.close()
    note(f"{url} is {device.identity.board}, firmware {device.identity.firmware}")


def _part(name: str) -> Any:
    """A module of the bridge; raises InvalidInput where it is not part of this installation."""
    try:
        return importlib.import_module(f"mcu_bridge.{name}")
    except ModuleNotFoundError as error:
        raise InvalidInput(f"boards need {error.name}, which is not installed here") from None
