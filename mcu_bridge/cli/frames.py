"""The frames on a line, as they go by, in words."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass

from mcu_bridge.device.messages import Command
from mcu_bridge.errors import Status
from mcu_bridge.lines.protocol import Line
from mcu_bridge.link.frame import ACK, DATA, POLL, RESPONSE, WRONG_VERSION, Frame, FrameReader

_ACK_FLAGS = {1: "again", 2: "ended"}
_ACK = struct.Struct("<IIB")
_OFFSET = struct.Struct("<I")
_SHOWN_BYTES = 16
Seen = Callable[["SeenFrame"], None]


@dataclass(frozen=True)
class SeenFrame:
    """One frame that went by: to the board, or from it."""

    to_board: bool
    frame: Frame

    @property
    def kind(self) -> str:
        """The name of its type: COMMAND, COMMAND's response, DATA, ACK, ..."""
        code = self.frame.type
        if code in _KINDS:
            return _KINDS[code]
        known = code & ~RESPONSE
        if known not in Command.__members__.values():
            return f"type {code:#04x}"
        name = Command(known).name
        return f"{name} answer" if code & RESPONSE else name

    @property
    def content(self) -> str:
        """The payload in words where they are known, else its first bytes."""
        code, payload = self.frame.type, self.frame.payload
        if code == ACK and len(payload) == _ACK.size:
            at, limit, flags = _ACK.unpack(payload)
            said = [text for bit, text in _ACK_FLAGS.items() if flags & bit]
            return " ".join([f"next {at:,} limit {limit:,}", *said])
        if code == DATA and len(payload) > _OFFSET.size:
            (at,) = _OFFSET.unpack_from(payload)
            return f"bytes {at:,} to {at + len(payload) - _OFFSET.size:,}"
        if code & RESPONSE and payload:
            return f"{_status(payload[0])}{_hex(payload[4:])}"
        return _hex(payload).strip()


_KINDS = {DATA: "DATA", ACK: "ACK", POLL: "POLL", POLL | RESPONSE: "POLL answer"} | {
    WRONG_VERSION: "WRONG_VERSION"
}


def _status(value: int) -> str:
    return Status(value).name if value in Status.__members__.values() else f"status {value}"


def _hex(data: bytes) -> str:
    if not data:
        return ""
    more = " ..." if len(data) > _SHOWN_BYTES else ""
    return f" {data[:_SHOWN_BYTES].hex(' ', 4)}{more}"


class WatchedLine:
    """A line that shows every whole frame that passes; bad ones are not shown, but counted."""

    def __init__(self, line: Line, seen: Seen) -> None:
        self.name = line.name
        self.sent, self.received = FrameReader(), FrameReader()
        self._line, self._seen = line, seen

    async def read(self) -> bytes:
        data = await self._line.read()
        self._show(self.received, data, to_board=False)
        return data

    async def write(self, data: bytes) -> None:
        self._show(self.sent, data, to_board=True)
        await self._line.write(data)

    async def close(self) -> None:
        await self._line.close()

    def _show(self, reader: FrameReader, data: bytes, to_board: bool) -> None:
        for frame in reader.take(data):
            self._seen(SeenFrame(to_board, frame))
