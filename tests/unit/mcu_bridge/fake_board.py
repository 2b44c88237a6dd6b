"""A board at the end of a line, in this process: the device's half of the link, by its rules.

Written from docs/formats/link.md alone, as the firmware is; it shares the frames with the host,
which the golden vectors check.
"""

import asyncio
import struct

from mcu_bridge.errors import LineLost
from mcu_bridge.link.frame import ACK, BLOCK, DATA, IDENTIFY, POLL, FrameReader, encode_frame

NOT_IDENTIFIED, NO_TRANSFER = 3, 11
TAKE, GIVE, COUNT, SILENCE = 0x10, 0x11, 0x12, 0x13  # commands of this board
WINDOW = 3 * BLOCK


class FakeBoard:
    """Executes TAKE {total u32, ended after u32}, GIVE {total u32}, COUNT {}; a Line to it.

    content: what came in, or what goes out. executed: the commands, each once. `lose` decides which
    frames that the host sends get lost, `lose_own` which of the board's.
    """

    name = "fake://board"

    def __init__(self):
        self.executed = []
        self.content = bytearray()
        self.lose = lambda frame: False
        self.lose_own = lambda kind: False
        self.silent = False
        self.version = 1
        self.counted = 0
        self.closed = False
        self.largest_write = 0
        self._to_host = asyncio.Queue()
        self._reader = FrameReader()
        self.restart()

    def restart(self):
        self.identified = False
        self.last = None  # sequence, type, response
        self.transfer = None
        self.direction = None

    # ---- the host's end

    async def read(self):
        if (data := await self._to_host.get()) is None:
            raise LineLost("fake://board: unplugged")
        return data

    async def write(self, data):
        if self.closed:
            raise LineLost("fake://board: unplugged")
        self.largest_write = max(self.largest_write, len(data))
        for frame in self._reader.take(data):
            if not self.lose(frame):
                self._take(frame)

    async def close(self):
        self.unplug()

    def unplug(self):
        self.closed = True
        self._to_host.put_nowait(None)

    # ---- the board's rules

    def _say(self, type, sequence, payload):
        if not self.silent and not self.lose_own(type):
            self._to_host.put_nowait(encode_frame(type, sequence, payload, self.version))

    def _take(self, frame):
        if frame.version != self.version:
            self._say(0xFF, frame.sequence, bytes([self.version]))
        elif frame.type < DATA:
            self._command(frame)
        elif frame.type == POLL:
            self._poll(frame)
        elif frame.sequence == self.transfer and frame.type == DATA and self.direction == "in":
            self._data(frame.payload)
        elif frame.sequence == self.transfer and frame.type == ACK and self.direction == "out":
            self._ack(*struct.unpack("<IIB", frame.payload))

    def _command(self, frame):
        kind, sequence = frame.type, frame.sequence
        if kind != IDENTIFY:
            if not self.identified:
                self._say(kind | 0x80, sequence, bytes([NOT_IDENTIFIED, 0, 0, 0]))
                return
            if self.last[:2] == (sequence, kind):
                self._say(kind | 0x80, sequence, self.last[2])
                return
            if sequence != (self.last[0] + 1) & 0xFFFF:
                return
        self.transfer = self.direction = None
        response = self._execute(kind, sequence, frame.payload)
        self.last = (sequence, kind, response)
        if kind != SILENCE:
            self._say(kind | 0x80, sequence, response)

    def _execute(self, type, sequence, payload):
        self.executed.append((type, payload))
        if type == IDENTIFY:
            self.identified = True
        if type in (TAKE, COUNT):
            self.transfer, self.direction = sequence, "in" if type == TAKE else "count"
            self.next, self.gap_told = 0, False
        if type == TAKE:
            self.total, self.ended_after = struct.unpack("<II", payload)
            self.content = bytearray()
            return struct.pack("<IIQ", 0, WINDOW, 0)
        if type == GIVE:
            (self.total,) = struct.unpack("<I", payload)
            self.transfer, self.direction, self.position, self.limit = sequence, "out", 0, 0
        return bytes(4)

    def _poll(self, frame):
        if not self.identified:
            self._say(POLL | 0x80, frame.sequence, bytes([NOT_IDENTIFIED, 0, 0, 0]))
        elif frame.sequence == self.transfer and self.direction == "in":
            self.gap_told = False
            self._say_ack(1)
        elif frame.sequence == self.transfer and self.direction == "count":
            self.counted += 7
            self._say(ACK, self.transfer, struct.pack("<IIB", self.counted, self.counted, 0))
        else:
            self._say(POLL | 0x80, frame.sequence, bytes([NO_TRANSFER, 0, 0, 0]))

    def _say_ack(self, flags):
        flags |= 2 if len(self.content) >= self.ended_after else 0
        self._say(ACK, self.transfer, struct.pack("<IIB", self.next, self.next + WINDOW, flags))

    def _data(self, payload):
        offset = int.from_bytes(payload[:4], "little")
        if offset == self.next and len(self.content) < self.ended_after:
            self.content += payload[4:]
            self.next = len(self.content)
            self.gap_told = False
            self._say_ack(0)
        elif offset < self.next:
            self._say_ack(0)
        elif not self.gap_told:
            self.gap_told = True
            self._say_ack(1)

    def _ack(self, next, limit, flags):
        self.limit = max(self.limit, limit)
        if flags & 1:
            self.position = next
        while self.identified and self.position < min(self.limit, self.total):
            block = self.content[self.position : min(self.position + BLOCK, self.total)]
            self._say(DATA, self.transfer, struct.pack("<I", self.position) + block)
            self.position += len(block)
