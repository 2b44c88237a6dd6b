"""A line over TCP: a serial server, a board's own, or an emulator's."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

from mcu_bridge.errors import LineLost
from mcu_bridge.lines.descriptor import DescriptorLine

_CONNECT_S = 5.0  # our choice


async def open_tcp(name: str, host: str, port: int) -> DescriptorLine:
    """A connection that sends at once; raises LineLost when nobody accepts it within 5 s."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(_CONNECT_S):
            places = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            connection = await _connect(places)
    except TimeoutError:
        raise LineLost(f"{name}: no connection within {_CONNECT_S:g} s; is it running?") from None
    except OSError as error:
        raise LineLost(f"{name}: {error.strerror}; start it, or correct the address") from None
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return DescriptorLine(name, connection.detach(), "the connection has ended; start it again")


async def _connect(places: list[tuple[Any, ...]]) -> socket.socket:
    """A socket connected to the first place that accepts."""
    refused = OSError("no address")
    for family, kind, protocol, _, address in places:
        connection = socket.socket(family, kind, protocol)
        connection.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(connection, address)
        except OSError as error:
            connection.close()
            refused = error
        except BaseException:
            connection.close()
            raise
        else:
            return connection
    raise refused
