"""The two ends of a transfer, without a line or a clock: what to send, and what arrived.

Blocks have 252 bytes, the last one may be shorter. The receiver takes them in order only; the
sender goes back when it is told to (docs/formats/link.md).
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from mcu_bridge.link.cobs import Bytes
from mcu_bridge.link.frame import ACK, BLOCK, DATA, encode_frame

AGAIN = 1  # flags of an ACK
ENDED = 2
WINDOW = 8 * BLOCK  # what a board may send ahead; our choice: 21 ms of a line at 1 Mbaud
_BATCH = 16  # blocks handed to the line at once, at most
_ENOUGH = 8  # blocks in a row without a loss make a line good; our choice
_WARY_FOR = 32  # blocks at most, whatever happens to them; our choice

_ACK = struct.Struct("<IIB")
_OFFSET = struct.Struct("<I")


class Ack(NamedTuple):
    """An ACK's payload: all below `next` is there, send up to `limit`."""

    next: int
    limit: int
    flags: int


def ack_from_bytes(payload: bytes) -> Ack | None:
    """The ACK, or None when the payload has another length."""
    return Ack(*_ACK.unpack(payload)) if len(payload) == _ACK.size else None


class Wariness:
    """Whether blocks go one by one: what follows a lost block is thrown away with it.

    Two losses close to each other begin it, blocks that come through end it, and so does its
    length: a line that is good again, but for an answer taken for another, is used in full.
    """

    def __init__(self) -> None:
        self._in_a_row = _ENOUGH
        self._left = 0

    def __bool__(self) -> bool:
        return self._left > 0

    def lost(self) -> None:
        """A block did not come through."""
        if not self and self._in_a_row < _ENOUGH:
            self._left = _WARY_FOR
        self._in_a_row = 0

    def came(self, count: int) -> None:
        """So many blocks have come through."""
        self._in_a_row += count
        self._left = 0 if self._in_a_row >= _ENOUGH else max(0, self._left - count)


class Polls:
    """Which answer to a POLL counts: the last one, as those before it tell of earlier times.

    Each POLL is answered once, in order, but an answer may be lost, and does not say to which
    POLL it is. Acting on an old one repeats blocks that are not missing.
    """

    def __init__(self) -> None:
        self._waiting = 0
        self._undecided = False

    def __bool__(self) -> bool:
        return self._waiting > 0

    def sent(self) -> None:
        self._waiting += 1

    def one_more(self) -> None:
        """An answer was taken for a later one's, which is yet to come."""
        self._waiting += bool(self._waiting)

    def answered(self) -> bool:
        """Whether no other answer is expected."""
        self._waiting = max(0, self._waiting - 1)
        self._undecided = self._waiting > 0
        return not self._undecided

    def silence(self) -> bool:
        """No other answer came: whether there was one that has to count instead."""
        undecided, self._undecided = self._undecided, False
        if undecided:
            self._waiting = 0
        return undecided


class Outgoing:
    """The sender's end: cuts `data[start:]` into blocks as far as the limit allows.

    On a bad line blocks go one by one, each with a POLL behind it (`wary`): its answer tells at
    once whether the block came, where the loss of a last block, or of one that was repeated, is
    else noticed only by the silence that follows.

    taken: bytes that the receiver has; sent: the furthest that was sent; repeated: blocks sent
    again.
    """

    def __init__(self, transfer: int, data: Bytes, start: int, limit: int) -> None:
        self._transfer = transfer
        self._data = memoryview(data).cast("B")
        self._limit = limit
        self._position = start
        self._went_back_to = start
        self._polled_at = start
        self._polls = Polls()
        self.wary = Wariness()
        self.taken = start
        self.sent = start
        self.repeated = 0
        self.ended = False

    @property
    def done(self) -> bool:
        """Whether all has been taken, or no more is wanted."""
        return self.ended or self.taken >= len(self._data)

    @property
    def ready(self) -> bool:
        """Whether there is a block that may be sent."""
        if self.wary and self._polls:
            return False
        return self._position < min(self._limit, len(self._data))

    @property
    def progress(self) -> tuple[int, int, bool]:
        """What changes when the receiver has moved on."""
        return self.taken, self._limit, self.ended

    def blocks(self) -> list[bytes]:
        """The next blocks that may be sent, as frames; each call goes on where the last ended."""
        frames: list[bytes] = []
        most = 1 if self.wary else _BATCH
        while self.ready and len(frames) < most:
            block = self._data[self._position : self._position + BLOCK]
            frames.append(
                encode_frame(DATA, self._transfer, _OFFSET.pack(self._position) + bytes(block))
            )
            self.repeated += self._position < self.sent
            self._position += len(block)
            self.sent = max(self.sent, self._position)
        return frames

    def take(self, ack: Ack) -> None:
        """Note an ACK; an impossible one does nothing."""
        if not self._is_possible(ack.next):
            return
        moved = ack.next > self.taken
        self.wary.came(-((self.taken - ack.next) // BLOCK))
        self.taken, self._limit = ack.next, max(self._limit, ack.limit)
        self.ended = self.ended or bool(ack.flags & ENDED)
        self._position = max(self._position, ack.next)
        if ack.flags & AGAIN:
            self._take_again(ack.next)
        elif self.wary and not moved and ack.next > self._went_back_to:
            self._polls.one_more()  # it had a block twice: that repeat was in vain

    def polled(self) -> None:
        """A POLL follows what was sent; its answer says AGAIN even when nothing is missing."""
        self._polls.sent()
        self._polled_at = self._position

    def silence(self) -> bool:
        """Nothing more has come; returns whether a POLL is needed to know what is missing."""
        if not self._polls.silence():
            return True
        self._go_back(self.taken)
        return not self.ready

    def _take_again(self, next: int) -> None:
        expected = bool(self._polls)
        if not self._polls.answered() or (expected and next >= self._polled_at):
            return  # what came after the POLL is on its way
        self._go_back(next)

    def _go_back(self, next: int) -> None:
        if next < self._position:
            self.wary.lost()
            self._position = self._went_back_to = next

    def _is_possible(self, next: int) -> bool:
        whole = next % BLOCK == 0 or next == len(self._data)
        return whole and self.taken <= next <= self.sent


class Incoming:
    """The receiver's end: puts blocks together, and knows what to acknowledge.

    On a bad line it lets the other side send one by one, as far as it has not allowed more before.
    """

    def __init__(self, transfer: int, total: int) -> None:
        self._transfer = transfer
        self._total = total
        self._content = bytearray()
        self._gap = False
        self._gap_told = False
        self._wary = Wariness()
        self._limit = 0
        self._alone = False
        self._last = -1  # where the block before was

    @property
    def taken(self) -> int:
        """Bytes that are there, from the start on."""
        return len(self._content)

    @property
    def done(self) -> bool:
        return self.taken >= self._total

    @property
    def allowed(self) -> int:
        """Up to where the next ACK lets the board send: the answer to that ACK ends here."""
        return min(self.taken + (BLOCK if self._wary else WINDOW), self._total)

    @property
    def one_by_one(self) -> bool:
        """Whether at most one block is on its way: a spoiled frame was that one.

        After a silence there is none but what is asked for then, and a repeat that nobody needed
        shows that there are more.
        """
        return self._alone and self._limit - self.taken <= BLOCK

    def content(self) -> bytes:
        """What has arrived."""
        return bytes(self._content)

    def take(self, payload: bytes) -> bool:
        """Take a DATA frame's payload; returns whether it was the block that comes next."""
        offset, block = int.from_bytes(payload[:4], "little"), payload[4:]
        if offset <= self._last:
            self._gap_told = False  # the board has gone back: what is missing now is lost anew
        self._last = offset
        if offset == self.taken and len(block) == min(BLOCK, self._total - offset) > 0:
            self._content += block
            self._wary.came(1)
            self._gap_told = self._gap = False
            return True
        self._alone = False
        if offset > self.taken and not self._gap_told:
            self._gap = self._gap_told = True
            self._wary.lost()
        return False

    def ack(self, again: bool = False) -> bytes:
        """The ACK for what is there, as a frame; asks to go back when there was a gap."""
        flags = AGAIN if again or self._gap else 0
        self._gap = False
        if again:
            self._alone = True
            self._wary.lost()
        self._limit = max(self._limit, self.allowed)
        return encode_frame(ACK, self._transfer, _ACK.pack(self.taken, self._limit, flags))
