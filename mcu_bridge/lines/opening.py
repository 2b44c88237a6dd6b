"""Opens the line that a URL names."""

from __future__ import annotations

from mcu_bridge.lines.emulated import open_emulated
from mcu_bridge.lines.protocol import Line
from mcu_bridge.lines.tcp import open_tcp
from mcu_bridge.lines.terminal import open_serial, open_terminal
from mcu_bridge.lines.url import parse_url


async def open_line(url: str) -> Line:
    """The open line; `emulated://` builds the firmware first, which takes seconds when it is new.

    Raises InvalidInput for a bad URL or a missing tool, LineLost when nothing is there, Refused
    when another program has it.
    """
    place = parse_url(url)
    if place.kind == "serial":
        return open_serial(place.text, place.target, place.baud)
    if place.kind == "pty":
        return open_terminal(place.text, place.target)
    if place.kind == "tcp":
        return await open_tcp(place.text, place.target, place.port)
    return await open_emulated(place.target, place.text)
