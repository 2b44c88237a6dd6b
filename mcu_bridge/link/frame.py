"""Frames: a header, a payload and a checksum between zeros (docs/formats/link.md, section 1)."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import NamedTuple

from mcu_bridge.link.cobs import Bytes, cobs_decode, cobs_encode

# MUST match firmware/link/link.h
LINK_VERSION = 1
MAX_PAYLOAD = 256
MAX_WIRE = 269  # bytes, the delimiter among them
BLOCK = 252  # bytes of a transfer in one DATA frame

IDENTIFY = 0x01
LAST_COMMAND = 0x3F
DATA = 0x40
ACK = 0x41
POLL = 0x42
RESPONSE = 0x80  # added to a command's type, and to POLL's
WRONG_VERSION = 0xFF

_HEAD = struct.Struct("<BBHH")
_CRC = struct.Struct("<I")
_LEAST = _HEAD.size + _CRC.size


class Frame(NamedTuple):
    """A frame that arrived whole. Of another version than ours, only `version` means anything."""

    version: int
    type: int
    sequence: int
    payload: bytes


def encode_frame(type: int, sequence: int, payload: Bytes, version: int = LINK_VERSION) -> bytes:
    """The frame as it goes on the line, delimiter included; `payload` has at most 256 bytes."""
    if len(payload) > MAX_PAYLOAD:
        raise ValueError(f"a payload of {len(payload)} bytes; a frame holds {MAX_PAYLOAD}")
    body = _HEAD.pack(version, type, sequence, len(payload)) + payload
    return cobs_encode(body + _CRC.pack(zlib.crc32(body))) + b"\0"


@dataclass
class ReaderCounters:
    """What a FrameReader has seen: good frames, and bad ones by kind."""

    frames: int = 0
    overlong: int = 0
    malformed: int = 0
    corrupt: int = 0
    wrong_version: int = 0

    @property
    def spoiled(self) -> int:
        """Frames that a line has made of no use."""
        return self.overlong + self.malformed + self.corrupt


class FrameReader:
    """Cuts a stream of bytes into frames; what is not a frame is counted and dropped."""

    def __init__(self) -> None:
        self.counters = ReaderCounters()
        self._partial = b""
        self._skipping = False  # inside of a frame that is too long already

    def take(self, data: bytes) -> list[Frame]:
        """The frames that `data` completes, in order; at most 268 bytes wait for a delimiter."""
        *ended, rest = data.split(b"\0")
        frames = []
        for piece in ended:
            frame = self._end(piece)
            if frame is not None:
                frames.append(frame)
        self._keep(rest)
        return frames

    def _keep(self, piece: bytes) -> None:
        if self._skipping:
            return
        self._partial += piece
        if len(self._partial) >= MAX_WIRE:
            self._partial, self._skipping = b"", True

    def _end(self, piece: bytes) -> Frame | None:
        self._keep(piece)
        encoded, self._partial = self._partial, b""
        if self._skipping:
            self._skipping = False
            self.counters.overlong += 1
            return None
        return self._decode(encoded) if encoded else None

    def _decode(self, encoded: bytes) -> Frame | None:
        body = cobs_decode(encoded)
        if body is None or len(body) < _LEAST:
            self.counters.malformed += 1
            return None
        if zlib.crc32(body[: -_CRC.size]) != int.from_bytes(body[-_CRC.size :], "little"):
            self.counters.corrupt += 1
            return None
        version, kind, sequence, length = _HEAD.unpack_from(body)
        payload = body[_HEAD.size : -_CRC.size]
        if version != LINK_VERSION:
            self.counters.wrong_version += 1
        elif length != len(payload) or length > MAX_PAYLOAD:
            self.counters.malformed += 1
            return None
        else:
            self.counters.frames += 1
        return Frame(version, kind, sequence, payload)
