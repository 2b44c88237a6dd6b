"""Writes link.json: what every implementation of the serial link must make of bytes, and answer.

    python tests/vectors/make_link_vectors.py

What is expected is stated here by hand, case by case; nothing is asked of an implementation. The
encoder below is docs/formats/link.md taken literally, byte by byte.
"""

from __future__ import annotations

import json
import random
import re
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

OUTPUT = Path(__file__).with_name("link.json")
SEED = 20261121
VERSION, BLOCK, WINDOW, LONGEST = 1, 252, 3 * 252, 269
IDENTIFY, WRITE, COMMIT, READ, TRAIN, RESULT = 0x01, 0x03, 0x04, 0x05, 0x06, 0x08
DATA, ACK, POLL, RESPONSE, WRONG_VERSION = 0x40, 0x41, 0x42, 0x80, 0xFF
AGAIN, ENDED = 1, 2
NOT_IDENTIFIED, NO_TRANSFER = 3, 11
OVERLONG, MALFORMED, CORRUPT = ({"event": name} for name in ("overlong", "malformed", "corrupt"))

Json = dict[str, Any]


# ---- The format, literally ----


def u16(value: int) -> bytes:
    """Two bytes, the low one first."""
    return value.to_bytes(2, "little")


def u32(value: int) -> bytes:
    """Four bytes, the low one first."""
    return value.to_bytes(4, "little")


def cobs(data: bytes) -> bytes:
    """COBS without a delimiter."""
    done, group = bytearray(), bytearray()
    for byte in data:
        if len(group) == 254:
            done += bytes([255]) + group
            group.clear()
        if byte == 0:
            done += bytes([len(group) + 1]) + group
            group.clear()
        else:
            group.append(byte)
    return bytes(done + bytes([len(group) + 1]) + group)


def head(type: int, sequence: int, length: int, version: int = VERSION) -> bytes:
    """A header."""
    return bytes([version, type]) + u16(sequence) + u16(length)


def on_wire(body: bytes, crc: int | None = None) -> bytes:
    """Header and payload as they are sent, with another checksum than theirs if one is given."""
    return cobs(body + u32(zlib.crc32(body) if crc is None else crc)) + b"\0"


def wire(type: int, sequence: int, payload: bytes = b"", version: int = VERSION) -> bytes:
    """A frame as it is sent."""
    return on_wire(head(type, sequence, len(payload), version) + payload)


def good(type: int, sequence: int, payload: bytes = b"") -> Json:
    """The event of a good frame."""
    return {"event": "frame", "type": type, "sequence": sequence, "payload": payload.hex()}


def other(version: int, sequence: int) -> Json:
    """The event of an intact frame of another version."""
    return {"event": "wrong_version", "version": version, "sequence": sequence}


def crc32c(data: bytes) -> int:
    """Castagnoli's checksum, which is not ours."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def draw(count: int, fits: Callable[[bytes], bool], seed: int = SEED) -> bytes:
    """The first random bytes, none of them zero, that fit."""
    numbers = random.Random(seed)
    while True:
        data = bytes(numbers.randint(1, 255) for _ in range(count))
        if fits(data):
            return data


def no_zero_after_header(payload: bytes) -> bool:
    """Whether the payload and its checksum are one run without a zero."""
    body = head(DATA, 0x0101, len(payload)) + payload
    return 0 not in payload + u32(zlib.crc32(body))


# ---- Frames: id, comment, bytes, events ----


def frames() -> list[Json]:
    """All vectors of the reader; a valid one is also what an encoder must write."""
    flagged = (("valid", valid_frames()), ("stream", streams()), ("invalid", invalid_frames()))
    return [_frame(flag, *case) for flag, cases in flagged for case in cases]


def _frame(flag: str, name: str, comment: str, data: bytes, events: list[Json]) -> Json:
    return _vector(name, comment, flag, {"wire": data.hex()}, {"events": events})


def _vector(name: str, comment: str, flag: str, given: Json, expected: Json) -> Json:
    about = {"id": name, "comment": comment, "flags": [flag], "generator": Path(__file__).name}
    return {**about, "seed": SEED, "input": given, "expected": expected}


Case = tuple[str, str, bytes, list[Json]]


def _one(name: str, comment: str, *frame: Any) -> Case:
    return name, comment, wire(*frame), [good(*frame)]


def valid_frames() -> list[Case]:
    """One frame each, as an encoder writes it."""
    numbers = random.Random(SEED)
    kinds = [*range(0x01, 0x0C), 0x3F, DATA, ACK, POLL, 0x81, 0xBF, 0xC2, WRONG_VERSION, 0x00, 0x7F]
    cases = [_one(f"type_{kind:02x}", f"Type 0x{kind:02X}, no payload.", kind, 7) for kind in kinds]
    cases += [
        _one(f"sequence_{number:04x}", f"Sequence {number}.", COMMIT, number, b"\x01\x02\x03\x04")
        for number in (0, 1, 0x00FF, 0x0100, 0x7FFF, 0xFFFF)
    ]
    cases += [
        _one(f"zeros_{count}", f"{count} zeros: a code byte each.", DATA, 9, bytes(count))
        for count in (1, 2, 255, 256)
    ]
    cases += [
        _one(f"random_{count}", f"{count} random bytes.", DATA, 258, numbers.randbytes(count))
        for count in (1, 5, 17, 64, 128, 255, 256)
    ]
    for run in (253, 254, 255, 256):
        payload = draw(run - 4, no_zero_after_header)
        comment = f"The frame ends with a run of {run} bytes that are not zero."
        cases.append(_one(f"run_{run}_at_the_end", comment, DATA, 0x0101, payload))
    cases += [
        _one(
            *("run_254_then_zero", "254 bytes that are not zero, then a zero."),
            *(DATA, 0x0101, b"\x55" * 253 + b"\0\x55\x55"),
        ),
        _one(
            "all_ff", "The greatest payload of bytes that look like codes.", DATA, 5, b"\xff" * 256
        ),
        _one(
            "all_01",
            "The greatest payload of bytes that look like zeros' codes.",
            DATA,
            5,
            b"\x01" * 256,
        ),
        _one(
            *("longest", "The longest frame on the wire: 269 bytes with its delimiter."),
            *(DATA, 0x0101, draw(256, lambda data: len(wire(DATA, 0x0101, data)) == 269)),
        ),
        _one(
            "ack", "An ACK: next, limit, AGAIN.", ACK, 300, u32(504) + u32(504 + WINDOW) + b"\x01"
        ),
    ]
    return cases


A = (COMMIT, 0x1234, b"ABCDABCD")
B = (WRITE, 0x1235, b"abcdefgh")
TWO = [good(*A), good(*B)]


def streams() -> list[Case]:
    """Good frames among other bytes."""
    run = draw(250, no_zero_after_header)
    full = (DATA, 0x0101, run)
    return [
        ("two_frames", "One after the other.", wire(*A) + wire(*B), TWO),
        ("delimiter_first", "A sender may put a delimiter in front.", b"\0" + wire(*A), [good(*A)]),
        (
            "delimiters",
            "Empty frames are ignored.",
            b"\0" * 9 + wire(*A) + b"\0" * 300 + wire(*B),
            TWO,
        ),
        ("frame_twice", "A frame that came twice is two frames.", wire(*A) * 2, [good(*A)] * 2),
        (
            *(
                "end_after_full_group",
                "A full group at the end, then an empty one: needless, not wrong.",
            ),
            *(wire(*full)[:-1] + b"\x01\0", [good(*full)]),
        ),
        (
            "garbage_first",
            "Noise before a frame.",
            b"\x99noise\0" + wire(*A),
            [MALFORMED, good(*A)],
        ),
        (
            *("garbage_between", "Noise with a delimiter between two frames."),
            *(wire(*A) + b"\xff\xfe\xfd\0" + wire(*B), [good(*A), MALFORMED, good(*B)]),
        ),
        (
            *(
                "noise_swallows_a_frame",
                "Noise without a delimiter costs the frame after it, no more.",
            ),
            *(b"\xfe" * 40 + wire(*A) + wire(*B), [MALFORMED, good(*B)]),
        ),
        (
            *("after_overlong", "The reader recovers at the delimiter of what was too long."),
            *(b"\x01" * 999 + b"\0" + wire(*A), [OVERLONG, good(*A)]),
        ),
        (
            *(
                "overlong_swallows_a_frame",
                "A frame in the middle of what is too long is no frame.",
            ),
            *(b"\x01" * 269 + wire(*A) + wire(*B), [OVERLONG, good(*B)]),
        ),
        (
            *("each_kind", "One of each kind, then a good frame."),
            b"\x01" * 269
            + b"\0"
            + b"\x09\0"
            + on_wire(head(*A[:2], 0), 0)
            + wire(*A, 9)
            + wire(*B),
            [OVERLONG, MALFORMED, CORRUPT, other(9, 0x1234), good(*B)],
        ),
    ]


def invalid_frames() -> list[Case]:
    """Bytes that hold no good frame."""
    return [*_nothing(), *_lengths(), *_not_cobs(), *_corrupt(), *_versions()]


def _nothing() -> list[Case]:
    return [
        ("one_delimiter", "An empty frame.", b"\0", []),
        ("many_delimiters", "Empty frames.", b"\0" * 1000, []),
        ("unfinished", "A frame whose delimiter has not come.", wire(*A)[:-1], []),
        ("unfinished_overlong", "Too long already, but not at its end.", b"\x02" * 400, []),
    ]


def _lengths() -> list[Case]:
    body = head(*A[:2], len(A[2])) + A[2]
    long = head(DATA, 1, 257) + bytes(257)
    cases: list[Case] = [
        (
            "bytes_268",
            "As many bytes as fit, decoding to 267 zeros.",
            b"\x01" * 268 + b"\0",
            [CORRUPT],
        ),
        ("bytes_269", "One byte more than fits.", b"\x01" * 269 + b"\0", [OVERLONG]),
        ("bytes_270", "Two bytes more than fit.", b"\x01" * 270 + b"\0", [OVERLONG]),
        ("payload_257", "Intact but for a payload above 256 bytes.", on_wire(long), [MALFORMED]),
        ("decodes_to_nothing", "A code and no byte.", b"\x01\0", [MALFORMED]),
        ("decodes_to_one", "Two codes: one zero.", b"\x01\x01\0", [MALFORMED]),
        ("only_a_checksum", "The checksum of no bytes.", on_wire(b""), [MALFORMED]),
        (
            "nine_bytes",
            "The checksum is right, the header cut short.",
            on_wire(body[:5]),
            [MALFORMED],
        ),
        (
            "nine_bytes_of_version_2",
            "Too short for any version.",
            on_wire(b"\x02" * 5),
            [MALFORMED],
        ),
    ]
    for length in (0, 7, 9, 256, 257, 0xFFFF):
        what = on_wire(head(*A[:2], length) + A[2])
        cases.append(
            (f"length_{length}_for_8", "The length field is not what is there.", what, [MALFORMED])
        )
    what = on_wire(head(*A[:2], 1))
    return [*cases, ("length_1_for_0", "The length field is not what is there.", what, [MALFORMED])]


def _not_cobs() -> list[Case]:
    sent = wire(*A)
    return [
        ("lone_code", "A group of 254 bytes that is not there.", b"\xff\0", [MALFORMED]),
        ("group_too_long", "The last group is one byte short.", b"\x02A\x03B\0", [MALFORMED]),
        ("byte_lost", "A byte of the last group was lost.", sent[:-6] + sent[-5:], [MALFORMED]),
        ("end_lost", "The last byte was lost.", sent[:-2] + b"\0", [MALFORMED]),
        ("byte_twice", "A letter of the last group came twice.", sent[:10] + sent[9:], [MALFORMED]),
        (
            "delimiter_inside",
            "A byte became a delimiter.",
            sent[:9] + b"\0" + sent[10:],
            [MALFORMED] * 2,
        ),
        (
            "first_code_raised",
            "The first group reaches into the second.",
            b"\xf0" + sent[1:],
            [MALFORMED],
        ),
    ]


def _corrupt() -> list[Case]:
    body = head(*A[:2], len(A[2])) + A[2]
    right, sent = zlib.crc32(body), wire(*A)
    cases: list[Case] = [
        ("delimiter_lost", "Two frames became one.", sent[:-1] + wire(*B), [CORRUPT]),
        ("checksum_zero", "No checksum.", on_wire(body, 0), [CORRUPT]),
        (
            "checksum_of_payload",
            "The header left out of it.",
            on_wire(body, zlib.crc32(A[2])),
            [CORRUPT],
        ),
        (
            "checksum_not_inverted",
            "Without the final xor.",
            on_wire(body, right ^ 0xFFFFFFFF),
            [CORRUPT],
        ),
        ("checksum_castagnoli", "Another polynomial.", on_wire(body, crc32c(body)), [CORRUPT]),
        (
            *("checksum_big_endian", "The high byte first."),
            *(on_wire(body, int.from_bytes(u32(right), "big")), [CORRUPT]),
        ),
        ("zeros_10", "Ten zeros, whose checksum is not zero.", b"\x01" * 11 + b"\0", [CORRUPT]),
        (
            "wrong_version_corrupt",
            "Also another version.",
            on_wire(b"\x02" + body[1:], right),
            [CORRUPT],
        ),
        (
            "wrong_length_corrupt",
            "Also a wrong length.",
            on_wire(head(*A[:2], 3) + A[2], right),
            [CORRUPT],
        ),
    ]
    for place in (1, 2, 3, 4, 8, 12, len(sent) - 2):
        spoilt = bytearray(sent)
        spoilt[place] ^= 0x80
        cases.append(
            (f"bit_flipped_{place}", f"The top bit of byte {place}.", bytes(spoilt), [CORRUPT])
        )
    return cases


def _versions() -> list[Case]:
    cases: list[Case] = [
        (
            f"version_{version}",
            f"Intact, of version {version}.",
            wire(*A, version),
            [other(version, 0x1234)],
        )
        for version in (0, 2, 0x81, 255)
    ]
    odd = on_wire(b"\x02\x77\x34\x12\xff\xff??")
    large = on_wire(b"\x03\x01\x02\x03" + bytes(259))
    return [
        *cases,
        ("version_2_other_header", "Its length field need not be ours.", odd, [other(2, 0x1234)]),
        (
            "version_3_large",
            "As large as any version can be: 267 bytes.",
            large,
            [other(3, 0x0302)],
        ),
    ]


# ---- Sessions: what a device answers ----


def content(start: int, count: int) -> bytes:
    """Bytes start.. of every transfer: byte i is (i + i // 256) mod 256."""
    return bytes((i + i // 256) % 256 for i in range(start, start + count))


class Script:
    """A session, step by step: what is done to the device and what it must send for it."""

    def __init__(self, sequence: int = 100) -> None:
        self.sequence = sequence
        self.application: list[Json] = []
        self.steps: list[Json] = []
        self.sent: list[list[str]] = []
        self.consumed: list[int] = []
        self.ends_at = 0xFFFFFFFF  # the device wants no more once it has the block there
        self.transfer, self.total = 0, 0
        self.counters = dict.fromkeys(
            ("overlong", "malformed", "corrupt", "wrong_version", "stale", "blocks_again"), 0
        )

    def step(self, note: str, do: Json, *sent: bytes) -> None:
        """Do something; the device sends exactly that."""
        self.steps.append({"note": note, **do})
        self.sent.append([frame.hex() for frame in sent])

    def take(self, note: str, data: bytes, *sent: bytes, counts: str = "") -> None:
        """The device receives bytes; `counts` names the counter that goes up."""
        if counts:
            self.counters[counts] += 1
        self.step(note, {"do": "receive", "wire": data.hex()}, *sent)

    def command(
        self,
        command: int,
        payload: bytes = b"",
        response: bytes = bytes(4),
        opens: Json | None = None,
        identify_as: int | None = None,
        late: bool = False,
    ) -> None:
        """The host's next command, executed; `late` when there is no room for the response."""
        self.sequence = (self.sequence + 1) % 65536 if identify_as is None else identify_as
        answer = {"command": command, "payload": payload.hex(), "response": response.hex()}
        self.application.append(answer | ({"opens": opens} if opens else {}))
        if opens:
            self.transfer, self.total = self.sequence, opens["total"]
        sent = () if late else (self.response(),)
        self.take(f"command 0x{command:02X}", wire(command, self.sequence, payload), *sent)

    def identify(self, sequence: int | None = None) -> None:
        """An IDENTIFY that succeeds."""
        self.command(IDENTIFY, u32(77), bytes(84), identify_as=sequence or self.sequence)

    def repeat(self) -> bytes:
        """The last command again."""
        last = self.application[-1]
        return wire(last["command"], self.sequence, bytes.fromhex(last["payload"]))

    def response(self) -> bytes:
        """The last command's response."""
        last = self.application[-1]
        return wire(last["command"] | RESPONSE, self.sequence, bytes.fromhex(last["response"]))

    def open(self, direction: str, total: int, next: int = 0) -> None:
        """A command that opens a transfer."""
        opens = {"direction": direction, "total": total, "next": next}
        command = {"in": WRITE, "out": READ, "count": TRAIN}[direction]
        self.command(command, b"please", opens=opens)

    def data(self, offset: int) -> bytes:
        """One of the open transfer's blocks."""
        count = min(BLOCK, self.total - offset)
        return wire(DATA, self.transfer, u32(offset) + content(offset, count))

    def ack(self, next: int, flags: int = 0, limit: int | None = None) -> bytes:
        """An ACK of the open transfer; by default with the device's limit."""
        limit = min(next + WINDOW, self.total) if limit is None else limit
        return wire(ACK, self.transfer, u32(next) + u32(limit) + bytes([flags]))

    def takes_block(self, offset: int, flags: int = 0) -> None:
        """A block that is consumed and acknowledged."""
        self.consumed.append(offset)
        end = min(offset + BLOCK, self.total)
        self.take(f"DATA at {offset}", self.data(offset), self.ack(end, flags))

    def done(self, name: str, comment: str) -> Json:
        """The vector."""
        given: Json = {
            "application": self.application,
            "steps": self.steps,
            "ends_at": self.ends_at,
        }
        expected = {"sent": self.sent, "consumed": self.consumed, "counters": self.counters}
        return _vector(name, comment, "session", given, expected)


def refusal(type: int, sequence: int, status: int) -> bytes:
    """A response that is only a status."""
    return wire(type | RESPONSE, sequence, bytes([status, 0, 0, 0]))


def sessions() -> list[Json]:
    """All vectors of the device's half."""
    makers = [value for name, value in globals().items() if name.startswith("session_")]
    return [
        make(Script()).done(make.__name__.removeprefix("session_"), make.__doc__) for make in makers
    ]


def session_identify_and_commands(s: Script) -> Script:
    """Commands in order, each executed and answered once."""
    s.identify()
    s.command(COMMIT, u32(1))
    s.command(RESULT, response=bytes(36))
    return s


def session_repeated_command(s: Script) -> Script:
    """A command that comes again gets the same response and is not executed again."""
    s.identify()
    s.command(COMMIT, u32(1), b"\x05\x01\x02\x03\x04")
    for _ in range(3):
        s.take("the same command again", s.repeat(), s.response())
    s.command(RESULT)
    s.take("and the next again", b"\0" + s.repeat(), s.response())
    return s


def session_identify_again(s: Script) -> Script:
    """IDENTIFY is taken with any sequence, each time that it comes, and sets the sequence."""
    s.identify(500)
    s.identify(500)
    s.command(COMMIT, u32(1))
    s.identify(7)
    s.take("the old count goes on", wire(RESULT, 502), counts="stale")
    s.command(RESULT)
    return s


def session_stale_commands(s: Script) -> Script:
    """Commands that are neither the next nor the last are dropped."""
    s.identify(100)
    s.command(COMMIT, u32(1))
    for note, kind, sequence in (
        ("one back", COMMIT, 100),
        ("two on", COMMIT, 103),
        ("the last one's sequence, another type", RESULT, 101),
        ("half way round", COMMIT, 101 + 32768),
    ):
        s.take(note, wire(kind, sequence, u32(1)), counts="stale")
    s.command(RESULT)
    return s


def session_sequence_wraps(s: Script) -> Script:
    """0 follows 65535."""
    s.identify(65534)
    s.command(COMMIT, u32(1))
    s.command(RESULT)
    s.command(COMMIT, u32(2))
    return s


def session_not_identified(s: Script) -> Script:
    """After a reset, only IDENTIFY is taken; that is how the host learns of the reset."""
    s.take("a command", wire(COMMIT, 5, u32(1)), refusal(COMMIT, 5, NOT_IDENTIFIED))
    s.take("again", wire(COMMIT, 5, u32(1)), refusal(COMMIT, 5, NOT_IDENTIFIED))
    s.take("sequence 1, as after 0", wire(RESULT, 1), refusal(RESULT, 1, NOT_IDENTIFIED))
    s.take("a POLL", wire(POLL, 4), refusal(POLL, 4, NOT_IDENTIFIED))
    s.take("a block", wire(DATA, 4, u32(0) + b"abc"), counts="stale")
    s.take("an ACK", wire(ACK, 4, u32(0) + u32(BLOCK) + b"\0"), counts="stale")
    s.command(IDENTIFY, u32(0), b"\x01\0\0\0", identify_as=9)
    s.take("the IDENTIFY failed", wire(COMMIT, 10, u32(1)), refusal(COMMIT, 10, NOT_IDENTIFIED))
    s.identify(5)
    s.command(COMMIT, u32(1))
    return s


def session_transfer_in(s: Script) -> Script:
    """Each block is consumed and acknowledged; the last one is shorter."""
    s.identify()
    s.open("in", 4 * BLOCK + 10)
    for offset in range(0, s.total, BLOCK):
        s.takes_block(offset)
    s.command(COMMIT, u32(1))
    return s


def session_transfer_in_resumed(s: Script) -> Script:
    """A transfer continues where an earlier one stopped."""
    s.identify()
    s.open("in", 4 * BLOCK, 2 * BLOCK)
    s.take("a block of before", s.data(BLOCK), s.ack(2 * BLOCK), counts="blocks_again")
    s.takes_block(2 * BLOCK)
    s.takes_block(3 * BLOCK)
    return s


def session_gap(s: Script) -> Script:
    """After a gap, AGAIN is said once; and once more when there is another further on."""
    s.identify()
    s.open("in", 9 * BLOCK)
    s.takes_block(0)
    s.take("the block after next", s.data(2 * BLOCK), s.ack(BLOCK, AGAIN), counts="blocks_again")
    s.take("and the one after", s.data(3 * BLOCK), s.ack(BLOCK), counts="blocks_again")
    s.takes_block(BLOCK)
    s.take("another gap", s.data(3 * BLOCK), s.ack(2 * BLOCK, AGAIN), counts="blocks_again")
    s.open("in", 3 * BLOCK)
    s.take("another transfer's gap", s.data(BLOCK), s.ack(0, AGAIN), counts="blocks_again")
    s.takes_block(0)
    return s


def session_block_twice(s: Script) -> Script:
    """A block that was taken before is dropped, and acknowledged without AGAIN."""
    s.identify()
    s.open("in", 3 * BLOCK)
    s.takes_block(0)
    s.take("the same again", s.data(0), s.ack(BLOCK), counts="blocks_again")
    s.takes_block(BLOCK)
    s.take("the first again", s.data(0), s.ack(2 * BLOCK), counts="blocks_again")
    s.takes_block(2 * BLOCK)
    s.take("the last again", s.data(2 * BLOCK), s.ack(3 * BLOCK), counts="blocks_again")
    return s


def session_poll(s: Script) -> Script:
    """POLL asks for an ACK with AGAIN, of the open transfer only."""
    s.identify()
    s.take("none is open", wire(POLL, 100), refusal(POLL, 100, NO_TRANSFER))
    s.open("in", 2 * BLOCK)
    s.take("before a block", wire(POLL, s.transfer), s.ack(0, AGAIN))
    s.takes_block(0)
    s.take("after one", wire(POLL, s.transfer), s.ack(BLOCK, AGAIN))
    s.take("of another transfer", wire(POLL, 100), refusal(POLL, 100, NO_TRANSFER))
    s.take("with a payload", wire(POLL, s.transfer, b"?"), counts="stale")
    s.takes_block(BLOCK)
    s.take("when all has come", wire(POLL, s.transfer), s.ack(2 * BLOCK, AGAIN))
    s.command(COMMIT, u32(1))
    s.take("once it is closed", wire(POLL, s.transfer), refusal(POLL, s.transfer, NO_TRANSFER))
    s.open("out", 2 * BLOCK)
    s.take("of a transfer out", wire(POLL, s.transfer), refusal(POLL, s.transfer, NO_TRANSFER))
    return s


def session_gap_after_poll(s: Script) -> Script:
    """A POLL makes the host go back; a gap after that is a new one."""
    s.identify()
    s.open("in", 9 * BLOCK)
    s.take("a gap", s.data(BLOCK), s.ack(0, AGAIN), counts="blocks_again")
    s.take("the host asks", wire(POLL, s.transfer), s.ack(0, AGAIN))
    s.take("lost again", s.data(BLOCK), s.ack(0, AGAIN), counts="blocks_again")
    s.take("and the one after", s.data(2 * BLOCK), s.ack(0), counts="blocks_again")
    s.takes_block(0)
    return s


def session_other_transfers_blocks(s: Script) -> Script:
    """Blocks of another transfer than the open one are dropped, without an answer."""
    s.identify()
    s.open("in", 2 * BLOCK)
    old = s.data(0)
    s.takes_block(0)
    s.open("in", 2 * BLOCK)
    s.take("a block of the one before", old, counts="stale")
    s.take("its ACK", wire(ACK, s.transfer - 1, u32(0) + u32(9) + b"\0"), counts="stale")
    s.takes_block(0)
    s.command(COMMIT, u32(1))
    s.take("a block once all are closed", s.data(BLOCK), counts="stale")
    return s


def session_impossible_blocks(s: Script) -> Script:
    """Blocks that the transfer does not have are dropped, without an answer."""
    s.identify()
    s.open("in", 2 * BLOCK + 100)

    def block(offset: int, count: int) -> bytes:
        return wire(DATA, s.transfer, u32(offset) + content(offset, count))

    for note, offset, count in (
        ("no bytes", 0, 0),
        ("a short one in the middle", 0, 251),
        ("not at a block's start", 1, 252),
        ("the last one, too long", 2 * BLOCK, 101),
        ("the last one, too short", 2 * BLOCK, 99),
        ("after the end", 3 * BLOCK, 252),
        ("close to the end of all offsets", 252 * 17043521, 252),
    ):
        s.take(note, block(offset, count), counts="stale")
    s.take("no offset", wire(DATA, s.transfer, b"abc"), counts="stale")
    s.take("no payload", wire(DATA, s.transfer), counts="stale")
    s.takes_block(0)
    return s


def session_transfer_in_ended(s: Script) -> Script:
    """The device wants no more: ENDED from then on, also for what was on its way."""
    s.identify()
    s.ends_at = BLOCK
    s.open("in", 9 * BLOCK)
    s.takes_block(0)
    s.takes_block(BLOCK, ENDED)
    s.take("on its way", s.data(2 * BLOCK), s.ack(2 * BLOCK, ENDED))
    s.take("and after it", s.data(3 * BLOCK), s.ack(2 * BLOCK, ENDED))
    s.take("the host asks", wire(POLL, s.transfer), s.ack(2 * BLOCK, AGAIN | ENDED))
    s.command(RESULT, response=bytes(36))
    return s


def session_empty_transfers(s: Script) -> Script:
    """A transfer of no bytes is complete at once."""
    s.identify()
    s.open("in", 0)
    s.take("the host asks", wire(POLL, s.transfer), s.ack(0, AGAIN))
    s.take("a block", wire(DATA, s.transfer, u32(0) + b"a"), counts="stale")
    s.open("out", 0)
    s.take("an ACK", s.ack(0, limit=WINDOW))
    return s


def session_transfer_out(s: Script) -> Script:
    """Nothing before the first ACK, then whole blocks up to the limit."""
    s.identify()
    s.open("out", 4 * BLOCK + 9)
    s.take("two blocks", s.ack(0, limit=2 * BLOCK), s.data(0), s.data(BLOCK))
    s.take("no more room", s.ack(BLOCK, limit=2 * BLOCK))
    s.take("one more", s.ack(BLOCK, limit=3 * BLOCK), s.data(2 * BLOCK))
    s.take("a lower limit is not heard", s.ack(2 * BLOCK, limit=0))
    s.take(
        "a limit after the end",
        s.ack(3 * BLOCK, limit=0xFFFFFFFF),
        s.data(3 * BLOCK),
        s.data(4 * BLOCK),
    )
    s.take("all is there", s.ack(s.total, limit=s.total))
    s.take("said again", s.ack(s.total, AGAIN, limit=s.total))
    s.command(RESULT)
    return s


def session_transfer_out_again(s: Script) -> Script:
    """AGAIN goes back to what the host lacks."""
    s.identify()
    s.open("out", 4 * BLOCK)
    limit = s.total
    s.take("all", s.ack(0, limit=limit), *(s.data(k * BLOCK) for k in range(4)))
    s.take(
        "the second was lost",
        s.ack(BLOCK, AGAIN, limit=limit),
        *(s.data(k * BLOCK) for k in (1, 2, 3)),
    )
    s.take(
        "lost again; a lower limit takes nothing back",
        s.ack(BLOCK, AGAIN, limit=0),
        *(s.data(k * BLOCK) for k in (1, 2, 3)),
    )
    s.take("an old ACK", s.ack(0, AGAIN, limit=limit), counts="stale")
    s.take("the last was lost", s.ack(3 * BLOCK, AGAIN, limit=limit), s.data(3 * BLOCK))
    s.take("between blocks", s.ack(3 * BLOCK + 1, AGAIN, limit=limit), counts="stale")
    s.take("after the end", s.ack(5 * BLOCK, limit=limit), counts="stale")
    s.take("cut short", wire(ACK, s.transfer, u32(s.total) + u32(limit)), counts="stale")
    long = wire(ACK, s.transfer, u32(s.total) + u32(limit) + bytes(2))
    s.take("too long", long, counts="stale")
    s.take(
        "another transfer's",
        wire(ACK, s.transfer + 1, u32(s.total) + u32(limit) + b"\0"),
        counts="stale",
    )
    s.take("all is there", s.ack(s.total, limit=limit))
    return s


def session_transfer_out_ended(s: Script) -> Script:
    """The host wants no more."""
    s.identify()
    s.open("out", 9 * BLOCK)
    s.take("one block", s.ack(0, limit=BLOCK), s.data(0))
    s.take("enough", s.ack(BLOCK, ENDED, limit=9 * BLOCK))
    s.take("too late", s.ack(BLOCK, AGAIN, limit=9 * BLOCK))
    s.take("a block to the sender", s.data(BLOCK), counts="stale")
    return s


def session_count(s: Script) -> Script:
    """A transfer without bytes: POLL asks how far the device is; its limit is its next."""
    s.identify()
    s.open("count", 1000)
    s.take("the host asks", wire(POLL, s.transfer), s.ack(0, AGAIN, 0))
    s.step("one sample", {"do": "advance", "value": 1})
    s.take("the host asks", wire(POLL, s.transfer), s.ack(1, AGAIN, 1))
    s.take("a block", wire(DATA, s.transfer, u32(0) + content(0, BLOCK)), counts="stale")
    s.step("999 samples", {"do": "advance", "value": 999})
    s.step("diverged", {"do": "end"})
    s.step("the pump says so", {"do": "pump"}, s.ack(999, ENDED, 999))
    s.step("it has ended already", {"do": "end"})
    s.step("which needs no word", {"do": "pump"})
    s.take("the host asks", wire(POLL, s.transfer), s.ack(999, AGAIN | ENDED, 999))
    return s


def session_failed_command(s: Script) -> Script:
    """An unsuccessful command is taken like any other, and closes the transfer of before."""
    s.identify()
    s.open("in", 2 * BLOCK)
    s.command(0x3F, b"what", b"\x02\0\0\0")
    s.take("a block", s.data(0), counts="stale")
    s.take("again", s.repeat(), s.response())
    opens = {"direction": "in", "total": BLOCK, "next": 0}
    s.command(WRITE, b"", b"\x06\0\0\0", opens=opens)
    s.take("opened, then failed", s.data(0), counts="stale")
    s.take("the host asks", wire(POLL, s.transfer), refusal(POLL, s.transfer, NO_TRANSFER))
    return s


def session_not_for_devices(s: Script) -> Script:
    """Types that no host sends are dropped: an echo must not be answered."""
    s.identify()
    for kind in (0x00, 0x43, 0x7F, 0x80, 0x81, 0xC0, 0xC1, 0xC2, 0xFE, WRONG_VERSION):
        s.take(f"type 0x{kind:02X}", wire(kind, s.sequence, bytes(4)), counts="stale")
    s.command(COMMIT, u32(1))
    return s


def session_bad_bytes(s: Script) -> Script:
    """Noise is counted and changes nothing; another version is told ours."""
    s.identify()
    s.take("too long", b"\x01" * 300 + b"\0", counts="overlong")
    s.take("malformed", b"\x09\x09\0", counts="malformed")
    s.take("corrupt", on_wire(head(COMMIT, s.sequence + 1, 0), 5), counts="corrupt")
    answer = wire(WRONG_VERSION, 4000, bytes([VERSION]))
    s.take("another version", wire(COMMIT, 4000, b"", 2), answer, counts="wrong_version")
    s.take("empty frames", b"\0\0\0")
    s.command(COMMIT, u32(1))
    return s


def session_no_room(s: Script) -> Script:
    """What there is no room for is owed, the newest of each kind, and sent by a later pump."""
    s.identify()
    s.step("the line is full", {"do": "room", "value": 0})
    opens = {"direction": "in", "total": 9 * BLOCK, "next": 0}
    s.command(WRITE, b"", opens=opens, late=True)
    s.step("still full", {"do": "pump"})
    for offset in (0, BLOCK):
        s.consumed.append(offset)
        s.take("a block", s.data(offset))
    s.take("a gap", s.data(3 * BLOCK), counts="blocks_again")
    s.take("a block again, which takes no AGAIN back", s.data(0), counts="blocks_again")
    s.take("another transfer", wire(POLL, 1))
    s.step("room for one", {"do": "room", "value": 16})
    s.step("the response goes first", {"do": "pump"}, s.response())
    s.step("room for all", {"do": "room", "value": 4096})
    s.step(
        *("then the rest", {"do": "pump"}),
        *(refusal(POLL, 1, NO_TRANSFER), s.ack(2 * BLOCK, AGAIN)),
    )
    s.step("nothing is left", {"do": "pump"})
    return s


def session_no_room_for_an_ack(s: Script) -> Script:
    """What is owed for a transfer is no longer owed once a command has closed it."""
    s.identify()
    s.open("in", 2 * BLOCK)
    s.step("the line is full", {"do": "room", "value": 0})
    s.consumed.append(0)
    s.take("a block", s.data(0))
    s.command(COMMIT, u32(1), late=True)
    s.step("room for all", {"do": "room", "value": 4096})
    s.step("only the response", {"do": "pump"}, s.response())
    return s


def session_no_room_for_blocks(s: Script) -> Script:
    """A transfer out sends as many blocks as there is room for, and goes on later."""
    s.identify()
    s.open("out", 3 * BLOCK)
    s.step("room for one block", {"do": "room", "value": 300})
    s.take("all are wanted", s.ack(0, limit=s.total), s.data(0))
    s.step("no room", {"do": "pump"})
    if len(s.data(BLOCK)) != LONGEST:
        raise AssertionError("choose another sequence: the block shall take the most room there is")
    s.step("one byte less than it takes", {"do": "room", "value": LONGEST - 1})
    s.step("is not enough", {"do": "pump"})
    s.step("as many as it takes", {"do": "room", "value": LONGEST})
    s.step("are enough", {"do": "pump"}, s.data(BLOCK))
    s.step("room for more", {"do": "room", "value": 4096})
    s.step("the rest", {"do": "pump"}, s.data(2 * BLOCK))
    return s


# ---- The file ----


def main() -> None:
    """Write the file."""
    document = {"schema": "link.schema.json", "frames": frames(), "sessions": sessions()}
    OUTPUT.write_text(_text(document), "utf-8")


def _text(document: Json) -> str:
    """Indented JSON in which a list of plain values takes one line."""
    text = json.dumps(document, indent=1) + "\n"
    return re.sub(r"\[[^][{}]+\]", lambda values: re.sub(r"\s+", " ", values[0]), text)


if __name__ == "__main__":
    main()
