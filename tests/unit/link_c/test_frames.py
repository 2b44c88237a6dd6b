"""Whatever arrives, a reader gives out what was sent or nothing, and then takes the next frame."""

import zlib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from link_in_c import MAX_PAYLOAD, MAX_WIRE, encode, needs, read
from replay import FRAMES

pytestmark = needs("gcc")

PAYLOADS = st.one_of(
    st.binary(max_size=MAX_PAYLOAD),
    st.builds(
        lambda parts: b"".join(parts)[:MAX_PAYLOAD],
        st.lists(
            st.builds(lambda byte, n: bytes([byte]) * n, st.integers(0, 255), st.integers(1, 256))
        ),
    ),
)
SENT = st.tuples(st.integers(0, 255), st.integers(0, 65535), PAYLOADS)


def sent(type, sequence, payload):
    return {"event": "frame", "type": type, "sequence": sequence, "payload": payload.hex()}


def decoded(data):
    """COBS as the page has it, group by group; None when it is none."""
    out, at = b"", 0
    while at < len(data):
        code = data[at]
        group = data[at + 1 : at + code]
        if len(group) < code - 1:
            return None
        at += code
        out += group + (b"\0" if code < 255 and at < len(data) else b"")
    return out


def event_of(data):
    """The receiver's rules, in their order."""
    if len(data) > 268:
        return {"event": "overlong"}
    frame = decoded(data)
    if frame is None or len(frame) < 10:
        return {"event": "malformed"}
    number = lambda start, end: int.from_bytes(frame[start:end], "little")  # noqa: E731
    if zlib.crc32(frame[:-4]) != number(-4, None):
        return {"event": "corrupt"}
    if frame[0] != 1:
        return {"event": "wrong_version", "version": frame[0], "sequence": number(2, 4)}
    if number(4, 6) != len(frame) - 10 or number(4, 6) > MAX_PAYLOAD:
        return {"event": "malformed"}
    return sent(frame[1], number(2, 4), frame[6:-4])


def events_of(data):
    *ended, _ = data.split(b"\0")
    return [event_of(piece) for piece in ended if piece]


def test_the_rules_agree_with_the_vectors():
    for vector in FRAMES.values():
        assert events_of(bytes.fromhex(vector["input"]["wire"])) == vector["expected"]["events"]


@given(frame=SENT)
@example(frame=(0, 0, bytes(256)))
def test_a_frame_survives_the_wire(link, frame):
    wire = encode(link, *frame)
    assert wire.index(0) == len(wire) - 1 <= MAX_WIRE - 1
    assert read(link, wire) == [sent(*frame)]


NOISE = st.lists(
    st.one_of(
        st.binary(max_size=20),
        st.sampled_from([b"\0", b"\x01", b"\xff", b"\x02A\0"]),
        st.builds(lambda byte, n: bytes([byte]) * n, st.integers(1, 255), st.integers(260, 280)),
    ),
    max_size=30,
).map(b"".join)


@given(data=NOISE)
def test_any_bytes_are_judged_by_the_rules(link, data):
    assert read(link, data) == events_of(data)


@given(noise=NOISE, frame=SENT)
def test_a_frame_after_noise_and_a_delimiter_arrives(link, noise, frame):
    assert read(link, noise + b"\0" + encode(link, *frame))[-1] == sent(*frame)


def flip(wire, place, value):
    return wire[:place] + bytes([wire[place] ^ value]) + wire[place + 1 :]


CHANGES = {
    "flip": flip,
    "set": lambda wire, place, value: wire[:place] + bytes([value]) + wire[place + 1 :],
    "lose": lambda wire, place, value: wire[:place] + wire[place + value % 9 + 1 :],
    "double": lambda wire, place, value: wire[: place + value % 9 + 1] + wire[place:],
}


@given(
    frames=st.lists(SENT, min_size=1, max_size=4),
    changes=st.lists(
        st.tuples(st.sampled_from(sorted(CHANGES)), st.integers(0, 1100), st.integers(1, 255)),
        min_size=1,
        max_size=4,
    ),
)
def test_a_damaged_frame_is_never_taken_for_another(link, frames, changes):
    wire = b"".join(encode(link, *frame) for frame in frames)
    for change, place, value in changes:
        wire = CHANGES[change](wire, place % len(wire), value) or b"\0"
    good = [event for event in read(link, wire + b"\0") if event["event"] == "frame"]
    assert all(event in [sent(*frame) for frame in frames] for event in good)
    assert read(link, wire + b"\0") == events_of(wire + b"\0")


@given(data=st.binary(max_size=600), cut=st.integers(0, 600))
def test_the_checksum_is_zlibs_in_any_pieces(link, data, cut):
    first, second = data[:cut], data[cut:]
    crc = link.link_crc32(link.link_crc32(0, first, len(first)), second, len(second))
    assert crc == zlib.crc32(data)


def test_the_checksum_has_the_known_value(link):
    assert link.link_crc32(0, b"123456789", 9) == 0xCBF43926


@pytest.mark.parametrize("count", [65535, 65536, 65536 + 13, 2 * 65536 + 13])
def test_a_flood_without_delimiters_is_one_overlong_frame(link, count):
    """Counts that look like short frames when only 16 bits of them are kept."""
    wire = encode(link, 4, 7)
    flood = b"\x01" * (count - len(wire) + 1) + wire
    assert read(link, flood) == [{"event": "overlong"}]
    assert read(link, flood + wire) == [{"event": "overlong"}, sent(4, 7, b"")]


def test_a_payload_over_the_limit_is_not_encoded(link):
    assert encode(link, 4, 7, bytes(MAX_PAYLOAD + 1)) == b""
    assert len(encode(link, 4, 7, bytes(MAX_PAYLOAD))) == MAX_PAYLOAD + 12
