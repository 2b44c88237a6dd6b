"""Consistent Overhead Byte Stuffing: any bytes as bytes without zeros, one longer in 254.

The code is Cheshire and Baker's (IEEE/ACM Transactions on Networking 7(2), 1999). Work is done per
zero and per 254 bytes, never per byte.
"""

from __future__ import annotations

Bytes = bytes | bytearray | memoryview

_RUN = 254  # the longest run of bytes that one code byte announces
_CODES = [bytes([length + 1]) for length in range(_RUN + 1)]


def cobs_encode(data: Bytes) -> bytes:
    """`data` without zeros: at most ceil(len / 254) bytes longer, at least one byte."""
    runs = bytes(data).split(b"\0")
    if max(map(len, runs)) < _RUN:
        return b"".join([_CODES[len(run)] + run for run in runs])
    last = _encode_run(runs[-1])
    # A full run implies no zero after it, so the data's end needs no code of its own.
    if len(runs[-1]) >= _RUN and len(runs[-1]) % _RUN == 0:
        last = last[:-1]
    return b"".join([*map(_encode_run, runs[:-1]), last])


def _encode_run(run: bytes) -> bytes:
    full = len(run) - len(run) % _RUN
    pieces = [_CODES[_RUN] + run[at : at + _RUN] for at in range(0, full, _RUN)]
    return b"".join([*pieces, _CODES[len(run) - full], run[full:]])


def cobs_decode(data: bytes) -> bytes | None:
    """What `data`, without zeros, encodes; None when a run is longer than what is left."""
    pieces = []
    at, end = 0, len(data)
    while at < end:
        code = data[at]
        following = at + code
        if code == 0 or following > end:
            return None
        pieces.append(data[at + 1 : following])
        if code <= _RUN and following < end:
            pieces.append(b"\0")
        at = following
    return b"".join(pieces) if pieces else None
