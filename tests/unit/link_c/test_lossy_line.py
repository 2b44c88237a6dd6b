"""Over a line that loses, doubles and damages, every command is done once and every byte arrives.

The host here is the least that docs/formats/link.md allows: one timer, which runs out when nothing
is under way any more.
"""

import random
from itertools import islice

import pytest
from device_model import (
    ACK,
    AGAIN,
    BLOCK,
    DATA,
    IDENTIFY,
    POLL,
    RESPONSE,
    WINDOW,
    Application,
    block_bytes,
    numbers,
    u32,
)
from link_in_c import Session, encode, needs, read

pytestmark = needs("gcc")


class Line:
    """A device behind a line that treats `rate` of all frames badly, each way."""

    def __init__(self, link, rate, seed):
        self.link = link
        self.random = random.Random(seed)
        self.rate = rate
        self.application = Application()
        self.session = Session(link, self.application)

    def _carry(self, wire):
        if self.random.random() >= self.rate:
            return wire
        place = self.random.randrange(len(wire))
        fate = self.random.randrange(5)
        flipped = bytes([wire[place] ^ 1 << self.random.randrange(8)])
        return [
            b"",
            wire * 2,
            wire[:place] + flipped + wire[place + 1 :],
            wire[:place] + wire[place + 1 :],
            wire[:place] + wire[place:] * 2,
        ][fate]

    def exchange(self, *frames):
        """Send frames; returns the good ones that come back."""
        for frame in frames:
            self.session.receive(self._carry(encode(self.link, *frame)))
        back = b"".join(self._carry(wire) for wire in self.session.take_sent())
        events = [event for event in read(self.link, back) if event["event"] == "frame"]
        return [(e["type"], e["sequence"], bytes.fromhex(e["payload"])) for e in events]

    def command(self, type, sequence, payload):
        """Repeats the command until its response comes; returns whatever else came with that."""
        for _ in range(200):
            answers = self.exchange((type, sequence, payload))
            if any(answer[:2] == (type | RESPONSE, sequence) for answer in answers):
                return
        pytest.fail("no response after 200 repeats")


def send(line, transfer, total):
    """The host's half of a transfer in: go back when told to, POLL when nothing comes."""
    done, limit, position = 0, min(WINDOW, total), 0
    for _ in range(20_000):
        if done == total:
            return
        starts = list(islice(range(position, limit, BLOCK), 3))
        position = min(starts[-1] + BLOCK, total) if starts else position
        blocks = [(DATA, transfer, numbers(at) + block_bytes(at, total)) for at in starts]
        answers = line.exchange(*blocks or [(POLL, transfer, b"")])
        for kind, sequence, payload in answers:
            if (kind, sequence) == (ACK, transfer):
                done, limit = max(done, u32(payload)), max(limit, u32(payload, 4))
                position = u32(payload) if payload[8] & AGAIN else max(position, done)
    pytest.fail(f"{done} of {total} bytes after 20,000 turns")


def receive(line, transfer, total):
    """The host's half of a transfer out: an ACK for what came, with AGAIN when nothing did."""
    got, flags = b"", 0
    for _ in range(20_000):
        if len(got) == total:
            return got
        limit = min(len(got) + 8 * BLOCK, total)
        answers = line.exchange((ACK, transfer, numbers(len(got), limit) + bytes([flags])))
        before = len(got)
        for kind, sequence, payload in answers:
            if (kind, sequence) == (DATA, transfer) and u32(payload) == len(got):
                got += payload[4:]
        flags = AGAIN if len(got) == before else 0
    return pytest.fail(f"{len(got)} of {total} bytes after 20,000 turns")


@pytest.mark.parametrize("rate", [0.0, 0.05, 0.3, 0.6])
def test_transfers_both_ways_are_whole_and_commands_done_once(link, rate, seed):
    line, sequence = Line(link, rate, seed), 65530  # wraps on the way
    total = 40 * BLOCK + 77
    line.command(IDENTIFY, sequence, b"x")
    commands = []
    for letter in (b"i", b"o", b"i", b"o", b"x", b"i", b"x", b"o"):
        sequence = (sequence + 1) % 65536
        payload = letter + numbers(total, 0, 2**32 - 1)
        commands.append((5, payload))
        line.command(5, sequence, payload)
        if letter == b"i":
            line.application.consumed.clear()
            send(line, sequence, total)
            assert line.session.complete()
            data = b"".join(line.application.consumed)
        elif letter == b"o":
            data = receive(line, sequence, total)
        assert data == b"".join(block_bytes(at, total) for at in range(0, total, BLOCK))
    assert [done for done in line.application.executed if done[0] != IDENTIFY] == commands
