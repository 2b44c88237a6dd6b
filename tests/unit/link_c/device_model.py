"""The rules of a device's session (docs/formats/link.md), as short as Python can say them."""

from dataclasses import dataclass, field

DATA, ACK, POLL, RESPONSE = 0x40, 0x41, 0x42, 0x80
AGAIN, ENDED = 1, 2
IDENTIFY, BLOCK, WINDOW = 1, 252, 756


def u32(data, at=0):
    return int.from_bytes(data[at : at + 4], "little")


def numbers(*values):
    return b"".join(value.to_bytes(4, "little") for value in values)


def block_bytes(offset, total):
    """What is at `offset` of every transfer."""
    return bytes((i + i // 256) % 256 for i in range(offset, min(offset + BLOCK, total)))


@dataclass
class Transfer:
    """The open one."""

    id: int
    direction: str
    total: int
    next: int
    limit: int = 0
    position: int = 0
    ended: bool = False
    gap_told: bool = False


@dataclass
class DeviceModel:
    """`take` says which frames (type, sequence, payload) a device sends for one, given room.

    A command's payload opens a transfer: a letter (i, o, c, or another for none), then its total,
    its next and the block that is the last one wanted, 4 bytes each. Status: the payload's length.
    """

    identified: bool = False
    last: tuple[int, int] = (0, 0)
    response: bytes = b""
    transfer: Transfer | None = None
    wanted: int = 0
    executed: list = field(default_factory=list)
    consumed: list = field(default_factory=list)
    stale: int = 0
    again: int = 0

    def take(self, type, sequence, payload):
        if 1 <= type <= 0x3F:
            sent = self._command(type, sequence, payload)
        elif type == POLL and not payload:
            sent = self._poll(sequence)
        else:
            mine = self.transfer is not None and self.transfer.id == sequence
            rule = {(DATA, "in"): self._data, (ACK, "out"): self._ack}.get(
                (type, self.transfer.direction if mine else None)
            )
            sent = rule(payload) if rule else None
        if sent is None:
            self.stale += 1
        return sent or []

    def _command(self, type, sequence, payload):
        if type != IDENTIFY and not self.identified:
            return [(type | RESPONSE, sequence, b"\x03\0\0\0")]
        if type == IDENTIFY or sequence == (self.last[1] + 1) % 65536:
            self._execute(type, sequence, payload)
        elif (type, sequence) != self.last:
            return None
        return [(type | RESPONSE, sequence, self.response)]

    def _execute(self, type, sequence, payload):
        self.executed.append((type, payload))
        self.last = (type, sequence)
        self.response = response_to(payload)
        self.transfer = None
        if self.response[0] == 0:
            self.identified |= type == IDENTIFY
            self.transfer = self._opened(sequence, payload)

    def _opened(self, sequence, payload):
        direction = {b"i": "in", b"o": "out", b"c": "count"}.get(payload[:1])
        if direction is None:
            return None
        total, start, self.wanted = (u32(payload, at) for at in (1, 5, 9))
        return Transfer(sequence, direction, total, start if direction == "in" else 0)

    def _acknowledge(self, flags=0):
        t = self.transfer
        limit = t.next if t.direction == "count" else min(t.next + WINDOW, t.total)
        flags |= ENDED if t.ended else 0
        return [(ACK, t.id, numbers(t.next, limit) + bytes([flags]))]

    def _poll(self, sequence):
        t = self.transfer
        if not self.identified:
            return [(POLL | RESPONSE, sequence, b"\x03\0\0\0")]
        if t is None or t.id != sequence or t.direction == "out":
            return [(POLL | RESPONSE, sequence, b"\x0b\0\0\0")]
        t.gap_told = False
        return self._acknowledge(AGAIN)

    def _data(self, payload):
        t, offset = self.transfer, u32(payload)
        here = min(BLOCK, t.total - offset)
        if len(payload) < 5 or offset % BLOCK or len(payload) - 4 != here:
            return None
        if t.ended:
            return self._acknowledge()
        if offset != t.next:
            self.again += 1
            told, t.gap_told = t.gap_told, t.gap_told or offset > t.next
            return self._acknowledge(AGAIN if offset > t.next and not told else 0)
        self.consumed.append(payload[4:])
        t.ended = offset >= self.wanted
        t.next, t.gap_told = offset + here, False
        return self._acknowledge()

    def _ack(self, payload):
        t = self.transfer
        there, limit = u32(payload), u32(payload, 4)
        if len(payload) != 9 or not t.next <= there <= t.total:
            return None
        if there % BLOCK and there < t.total:
            return None
        t.next = there
        t.limit = max(t.limit, min(limit, t.total))
        t.position = there if payload[8] & AGAIN else max(t.position, there)
        t.ended |= bool(payload[8] & ENDED)
        starts = [] if t.ended else range(t.position, t.limit, BLOCK)
        t.position = max([t.position, *(min(at + BLOCK, t.total) for at in starts)])
        return [(DATA, t.id, numbers(at) + block_bytes(at, t.total)) for at in starts]

    def advance(self, value):
        if self.transfer is not None and self.transfer.direction == "count":
            self.transfer.next = min(value, self.transfer.total)

    def end(self):
        t = self.transfer
        if t is None or t.ended or t.direction == "out":
            return []
        t.ended = True
        return self._acknowledge()


def response_to(payload):
    """The response of the application of these tests, 4 to 96 bytes."""
    status = 1 if payload[:1] == b"!" or payload[13:14] == b"!" else 0
    return bytes([status, 0, 0, 0]) + payload[:92]


class Application:
    """The same in the way that a session asks."""

    def __init__(self):
        self.executed = []
        self.consumed = []
        self.total = self.wanted = 0

    def execute(self, session, command, payload):
        self.executed.append((command, payload))
        total, start, wanted = (u32(payload, at) for at in (1, 5, 9))
        opened = {
            b"i": lambda: session.open_in(total, start),
            b"o": lambda: session.open_out(total),
            b"c": lambda: session.open_count(total),
        }.get(payload[:1])
        if opened is not None:
            self.total, self.wanted = total, wanted
            opened()
        return response_to(payload)

    def consume(self, offset, data):
        self.consumed.append(data)
        return offset < self.wanted

    def produce(self, offset, count):
        data = block_bytes(offset, self.total)
        assert len(data) == count
        return data
