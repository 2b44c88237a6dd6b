"""Grey PNG images to arrays: as much of the specification (W3C, third edition) as Omniglot needs.

Bit depths 1 and 8, greyscale without alpha, not interlaced, all five row filters. Everything else
is refused. Sizes are checked before anything is decompressed.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from tinyfleet.errors import InvalidInput

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_HEADER = struct.Struct(">IIBBBBB")
_MAX_SIDE = 1024


def decode_grey_png(data: bytes) -> npt.NDArray[np.uint8]:
    """`(height, width) uint8`, 0 = black, 255 = white. Raises InvalidInput for anything else."""
    chunks = list(_chunks(data))
    if not chunks or chunks[0][0] != b"IHDR" or len(chunks[0][1]) != _HEADER.size:
        raise InvalidInput("PNG has no header")
    width, height, depth, colour, method, filtering, interlaced = _HEADER.unpack(chunks[0][1])
    if depth not in (1, 8) or (colour, method, filtering, interlaced) != (0, 0, 0, 0):
        raise InvalidInput("PNG must be greyscale of 1 or 8 bits and not interlaced")
    if not (1 <= width <= _MAX_SIDE and 1 <= height <= _MAX_SIDE):
        raise InvalidInput(f"PNG must have sides of 1 to {_MAX_SIDE} pixels, got {width}x{height}")
    stride = (width * depth + 7) // 8
    packed = b"".join(body for kind, body in chunks if kind == b"IDAT")
    rows = _unfilter(_inflate(packed, height * (stride + 1)), height, stride)
    if depth == 1:
        return np.unpackbits(rows, axis=1, count=width) * np.uint8(255)
    return rows


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    if data[:8] != _SIGNATURE:
        raise InvalidInput("not a PNG image")
    at = 8
    while at + 12 <= len(data):
        (size,) = struct.unpack_from(">I", data, at)
        kind, body = data[at + 4 : at + 8], data[at + 8 : at + 8 + size]
        if len(body) != size or data[at + 8 + size : at + 12 + size] != _crc(kind, body):
            raise InvalidInput("PNG is damaged")
        yield kind, body
        at += 12 + size
        if kind == b"IEND":
            return
    raise InvalidInput("PNG is cut short")


def _crc(kind: bytes, body: bytes) -> bytes:
    return zlib.crc32(body, zlib.crc32(kind)).to_bytes(4, "big")


def _inflate(packed: bytes, size: int) -> bytes:
    try:
        raw = zlib.decompressobj().decompress(packed, size + 1)
    except zlib.error:
        raise InvalidInput("PNG is damaged") from None
    if len(raw) != size:
        raise InvalidInput("PNG has the wrong amount of pixels")
    return raw


def _unfilter(raw: bytes, height: int, stride: int) -> npt.NDArray[np.uint8]:
    """Rows without their filters. At 8 bits or fewer the left neighbour is one byte away."""
    lines = np.frombuffer(raw, np.uint8).reshape(height, stride + 1)
    if not lines[:, 0].any():
        return lines[:, 1:].copy()
    above = bytes(stride)
    rows = []
    for line in lines:
        above = _unfilter_row(int(line[0]), line[1:].tobytes(), above)
        rows.append(np.frombuffer(above, np.uint8))
    return np.stack(rows)


def _unfilter_row(kind: int, line: bytes, above: bytes) -> bytes:
    if kind > 4:
        raise InvalidInput(f"PNG has the unknown row filter {kind}")
    row = bytearray()
    left = corner = 0
    for value, up in zip(line, above, strict=True):
        guess = (0, left, up, (left + up) // 2, _paeth(left, up, corner))[kind]
        left, corner = (value + guess) & 0xFF, up
        row.append(left)
    return bytes(row)


def _paeth(left: int, up: int, corner: int) -> int:
    estimate = left + up - corner
    far = (abs(estimate - left), abs(estimate - up), abs(estimate - corner))
    return (left, up, corner)[far.index(min(far))]
