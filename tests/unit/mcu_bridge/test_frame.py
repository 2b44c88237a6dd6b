"""Frames: the golden vectors, whole and in pieces, and what a bad line makes of them."""

import json
import re
from dataclasses import asdict
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcu_bridge.link import frame as frames
from mcu_bridge.link import transfer
from mcu_bridge.link.frame import FrameReader, encode_frame

ROOT = Path(__file__).parents[3]
VECTORS = json.loads((ROOT / "tests" / "vectors" / "link.json").read_text("utf-8"))["frames"]
BY_ID = {vector["id"]: vector for vector in VECTORS}
VALID = {name: vector for name, vector in BY_ID.items() if vector["flags"] == ["valid"]}
COUNTER = {"frame": "frames"}  # the other events have the counter's name

PAYLOADS = st.binary(max_size=256) | st.lists(st.sampled_from([b"\0", b"\xff"]), max_size=256).map(
    b"".join
)
HEADS = st.tuples(st.integers(0, 255), st.integers(0, 0xFFFF))


def expected_frames(vector):
    """What the reader gives out: of another version only that, and the sequence."""
    for event in vector["expected"]["events"]:
        if event["event"] == "frame":
            yield 1, event["type"], event["sequence"], bytes.fromhex(event["payload"])
        elif event["event"] == "wrong_version":
            yield event["version"], event["sequence"]


def seen_frames(found):
    for frame in found:
        yield tuple(frame) if frame.version == 1 else (frame.version, frame.sequence)


def expected_counters(vector):
    counters = dict.fromkeys(["frames", "overlong", "malformed", "corrupt", "wrong_version"], 0)
    for event in vector["expected"]["events"]:
        counters[COUNTER.get(event["event"], event["event"])] += 1
    return counters


def pieces(data, sizes):
    at = 0
    while at < len(data):
        size = next(sizes)
        yield data[at : at + size]
        at += size


@pytest.mark.parametrize("vector", VECTORS, ids=BY_ID)
@pytest.mark.parametrize("split", ["whole", "bytes", "random"])
def test_bytes_bring_about_the_events(vector, split, seed):
    random = Random(seed)
    sizes = {
        "whole": lambda: 10**9,
        "bytes": lambda: 1,
        "random": lambda: random.randrange(1, 40),
    }[split]
    reader = FrameReader()
    found = []
    for piece in pieces(bytes.fromhex(vector["input"]["wire"]), iter(sizes, 0)):
        found += reader.take(piece)
    assert list(seen_frames(found)) == list(expected_frames(vector))
    assert asdict(reader.counters) == expected_counters(vector)


@pytest.mark.parametrize("vector", VALID.values(), ids=VALID)
def test_a_valid_frame_is_encoded_as_it_is_there(vector):
    (event,) = vector["expected"]["events"]
    payload = bytes.fromhex(event["payload"])
    assert encode_frame(event["type"], event["sequence"], payload).hex() == vector["input"]["wire"]


@given(HEADS, PAYLOADS)
def test_a_frame_survives_the_round_trip(head, payload):
    wire = encode_frame(*head, payload)
    assert len(wire) <= frames.MAX_WIRE
    assert FrameReader().take(wire) == [(1, *head, payload)]


@given(HEADS, PAYLOADS, st.data())
def test_a_mutated_frame_is_never_taken_for_another(head, payload, data):
    wire = bytearray(encode_frame(*head, payload))
    kind = data.draw(st.sampled_from(["flip", "replace", "drop", "double", "insert", "cut"]))
    at = data.draw(st.integers(0, len(wire) - 1))
    if kind == "flip":
        wire[at] ^= 1 << data.draw(st.integers(0, 7))
    elif kind == "replace":
        length = data.draw(st.integers(1, 4))
        wire[at : at + length] = data.draw(st.binary(min_size=length, max_size=length))
    elif kind == "drop":
        del wire[at : at + data.draw(st.integers(1, 8))]
    elif kind == "double":
        wire.insert(at, wire[at])
    elif kind == "insert":
        wire[at:at] = data.draw(st.binary(min_size=1, max_size=4))
    else:
        del wire[at:]
    found = FrameReader().take(bytes(wire) + b"\0")
    assert found in ([], [(1, *head, payload)])


@given(st.binary(max_size=2000))
def test_noise_never_hides_the_frames_after_it(noise):
    reader = FrameReader()
    reader.take(noise + b"\0")
    assert reader.take(encode_frame(5, 6, b"after")) == [(1, 5, 6, b"after")]


def test_a_flood_without_delimiters_takes_no_memory():
    reader = FrameReader()
    for _ in range(100):
        assert reader.take(b"\x55" * 10_000) == []
        assert len(reader._partial) < frames.MAX_WIRE
    assert reader.take(b"\0" + encode_frame(1, 2, b"")) == [(1, 1, 2, b"")]
    assert reader.counters.overlong == 1


def test_a_payload_that_is_too_long_is_refused():
    with pytest.raises(ValueError, match="257 bytes; a frame holds 256"):
        encode_frame(1, 2, bytes(257))


def test_numbers_are_those_of_the_firmware():
    header = (ROOT / "mcu_bridge" / "firmware" / "link" / "link.h").read_text("utf-8")

    def number(name):
        return int(re.search(rf"\b{name}(?: =)? (0x[0-9A-F]+|\d+)u?\b", header)[1], 0)

    assert number("LINK_VERSION") == frames.LINK_VERSION
    assert number("LINK_MAX_PAYLOAD") == frames.MAX_PAYLOAD
    assert number("LINK_BLOCK") == frames.BLOCK
    assert number("LINK_DATA") == frames.DATA
    assert number("LINK_ACK") == frames.ACK
    assert number("LINK_POLL") == frames.POLL
    assert number("LINK_RESPONSE") == frames.RESPONSE
    assert number("LINK_IDENTIFY") == frames.IDENTIFY
    assert number("LINK_WRONG_VERSION_TYPE") == frames.WRONG_VERSION
    assert number("LINK_AGAIN") == transfer.AGAIN
    assert number("LINK_ENDED") == transfer.ENDED
