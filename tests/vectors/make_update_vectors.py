"""Writes update.json: what a selected update's bytes are, and what a reader makes of bytes.

    python tests/vectors/make_update_vectors.py

The codec below is docs/formats/update.md taken literally, entry by entry; nothing is asked of an
implementation. What is refused is stated by hand.
"""

from __future__ import annotations

import json
import math
import random
import re
import struct
from fractions import Fraction
from pathlib import Path
from typing import Any

OUTPUT = Path(__file__).with_name("update.json")
SEED = 20261122
ALL, BITMAP, GAPS, INDICES = range(4)
FLOAT32, FLOAT16, INT8 = range(3)
NAMES = ("float32", "float16", "int8")
SIZES = (4, 2, 1)

Json = dict[str, Any]
Numbers = list[float]


# ---- The format, literally ----


def float32(number: float) -> float:
    """The nearest float32, ties to even."""
    return float(struct.unpack("<f", struct.pack("<f", number))[0])


def float16(number: float) -> float:
    """The nearest float16 that is finite, ties to even."""
    clamped = min(max(number, -65504.0), 65504.0)
    return float(struct.unpack("<e", struct.pack("<e", clamped))[0])


def gap(number: int) -> bytes:
    """LEB128: seven bits a byte, the low ones first, bit 7 set in all but the last."""
    done = b""
    while number >= 128:
        done += bytes([number % 128 + 128])
        number //= 128
    return done + bytes([number])


def write_positions(positions: int, chosen: list[int], count: int) -> bytes:
    """Which entries there are."""
    if positions == ALL:
        return b""
    if positions == BITMAP:
        return sum(1 << index for index in chosen).to_bytes((count + 7) // 8, "little")
    if positions == GAPS:
        before = [-1, *chosen]
        return b"".join(gap(i - before[n] - 1) for n, i in enumerate(chosen))
    return b"".join(index.to_bytes(2 if count <= 65536 else 4, "little") for index in chosen)


def write_values(precision: int, values: Numbers, scale: float) -> bytes:
    """The values, as they are stored."""
    if precision == INT8:
        return struct.pack(f"<f{len(values)}b", scale, *(int(v) for v in values))
    return struct.pack(f"<{len(values)}{'fe'[precision]}", *values)


def head(positions: int, precision: int, entries: int, zero: int = 0) -> bytes:
    """A header."""
    return struct.pack("<BBHI", positions, precision, zero, entries)


def scale_of(largest: float) -> float:
    """The smallest float32 of which 127 are at least the largest value, at most 2^121."""
    if largest == 0.0:
        return 1.0
    scale = float32(largest / 127)
    if Fraction(scale) * 127 < Fraction(largest):
        bits = struct.unpack("<I", struct.pack("<f", scale))[0]
        scale = struct.unpack("<f", struct.pack("<I", bits + 1))[0]
    return min(scale, 2.0**121)


def step(value: float, scale: float, draw: float) -> int:
    """Stochastic rounding to a whole number of scales."""
    exact = value / scale  # float64
    below = math.floor(exact)
    return max(-127, min(127, below + (draw < exact - below)))


def encode(change: Numbers, fraction: float, precision: int, draws: Numbers) -> bytes:
    """An update."""
    entries = min(math.ceil(fraction * len(change)), len(change))
    largest = sorted(range(len(change)), key=lambda index: -abs(change[index]))[:entries]
    chosen = sorted(index for index in largest if change[index] != 0.0)
    values, scale = [change[index] for index in chosen], 1.0
    if precision == FLOAT16:
        values = [float16(value) for value in values]
    if precision == INT8:
        scale = scale_of(max((abs(value) for value in values), default=0.0))
        rounded = zip(values, draws, strict=True)
        values = [float(step(value, scale, draw)) for value, draw in rounded]
    sent = {i: v for i, v in zip(chosen, values, strict=True) if v != 0.0}
    return shortest(sent, precision, scale, len(change))


def shortest(sent: dict[int, float], precision: int, scale: float, count: int) -> bytes:
    """The positions with the fewest bytes, the first of equals."""
    forms = []
    for positions in (ALL, BITMAP, GAPS, INDICES):
        indices = list(range(count)) if positions == ALL else list(sent)
        values = [sent.get(index, 0.0) for index in indices]
        data = head(positions, precision, len(indices))
        data += write_positions(positions, indices, count)
        forms.append(data + write_values(precision, values, scale))
    return min(forms, key=len)


# ---- Encoding: id, comment, change, fraction, precision ----


def encodings() -> list[Json]:
    """What an encoder must write, byte for byte, and what its reader must get."""
    cases = [*_small(), *_each_form(), *_halves(), *_steps(), *_random()]
    return [_encoding(*case) for case in cases]


Case = tuple[str, str, Numbers, float, int]


def _small() -> list[Case]:
    x = [0.5, -2.0, 0.25, 1.0, -0.125, 0.0, 4.0, -8.0]
    zeros, minus = [0.0] * 9, [-0.0, 0.0, 1.0]
    one = [("one_entry", "The smallest update.", [1.5], 1.0, precision) for precision in range(3)]
    return [
        *((f"{name}_{NAMES[p]}", text, v, f, p) for name, text, v, f, p in one),
        ("half", "The four largest of eight.", x, 0.5, FLOAT32),
        ("smallest_fraction", "At least one entry.", x, 1e-300, FLOAT32),
        ("rounded_up", "A fraction of an entry is one.", x, 0.26, FLOAT32),
        ("everything", "All but the zero.", x, 1.0, FLOAT32),
        ("no_change", "Nothing to send: a header.", zeros, 0.5, FLOAT32),
        ("no_change_int8", "Nothing to send: the scale is 1.", zeros, 1.0, INT8),
        ("minus_zero", "-0 is zero, and is not sent.", minus, 1.0, FLOAT32),
        ("fewer_than_allowed", "Zeros are not sent though there is room.", minus, 0.6, FLOAT16),
        ("ties", "Of equals the first ones.", [1.0, -1.0] * 8, 0.25, FLOAT32),
        ("ties_after_larger", "A larger one, then the first.", [1.0] * 9 + [-2.0], 0.3, FLOAT32),
    ]


def _each_form() -> list[Case]:
    def sparse(count: int, indices: tuple[int, ...]) -> Numbers:
        change = [0.0] * count
        for place, index in enumerate(indices):
            change[index] = (-1.0) ** place * (place + 1)
        return change

    edges = (0, 128, 257, 16641, 16642)
    return [
        ("all", "Nearly all: positions would cost more.", [1.0] * 15 + [0.0], 1.0, INT8),
        ("bitmap", "Every other entry.", sparse(40, tuple(range(0, 40, 2))), 1.0, FLOAT32),
        ("bitmap_of_nine", "Spare bits are zero.", sparse(9, (2, 3, 8)), 1.0, FLOAT32),
        ("gaps", "A few of many.", sparse(300, (7, 8, 135, 264, 299)), 1.0, FLOAT32),
        ("gaps_of_each_length", "127, 128, 16,383 and 0 between.", sparse(17000, edges), 1.0, INT8),
        (
            "indices",
            "A gap of three bytes, an index of two.",
            sparse(65536, (65535,)),
            1.0,
            FLOAT32,
        ),
        ("gap_of_three", "An index would take four.", sparse(65537, (65536,)), 1.0, FLOAT32),
    ]


def _halves() -> list[Case]:
    ulp = 2.0**-10
    even = [1 + ulp / 2, 1 + 3 * ulp / 2, 1 + ulp / 2 + 2.0**-20, -1 - ulp / 2]
    small = [2.0**-24, 2.0**-25, float32(1.01 * 2.0**-25), 2.0**-26, 3 * 2.0**-25, 2.0**-14]
    large = [65504.0, 65519.0, 65520.0, -1e38, 65488.0]
    return [
        ("float16_ties", "To even.", even, 1.0, FLOAT16),
        ("float16_subnormal", "What becomes zero is not sent.", small, 1.0, FLOAT16),
        ("float16_all_vanish", "A header is left.", [1e-30, -1e-30], 1.0, FLOAT16),
        ("float16_clamped", "Nothing becomes infinite.", large, 1.0, FLOAT16),
    ]


def _steps() -> list[Case]:
    tiny, huge = 2.0**-149, float32(3.4028234e38)
    return [
        ("int8_whole", "Whole steps need no luck.", [127.0, -127.0, 1.0, -64.0], 1.0, INT8),
        ("int8_between", "Steps and parts.", [12.7, 0.33, -0.04, 3.3, -7.77, 0.05], 1.0, INT8),
        ("int8_subnormal", "The scale is rounded up, to 2^-149.", [tiny, -5 * tiny], 1.0, INT8),
        ("int8_huge", "The scale is 2^121, and values are clamped.", [huge, -huge, 1.0], 1.0, INT8),
    ]


def _random() -> list[Case]:
    numbers = random.Random(SEED)
    change = [float32(numbers.gauss(0, 0.01) ** 3) for _ in range(200)]
    return [
        (f"random_{percent}_{NAMES[precision]}", "Random.", change, percent / 100, precision)
        for precision in (FLOAT32, FLOAT16, INT8)
        for percent in (1, 5, 25, 100)
    ]


def _encoding(name: str, comment: str, values: Numbers, fraction: float, precision: int) -> Json:
    change = [float32(value) for value in values]
    entries = min(math.ceil(fraction * len(change)), len(change))
    needed = min(entries, sum(value != 0.0 for value in change)) if precision == INT8 else 0
    numbers = random.Random(name)
    draws = [numbers.getrandbits(53) * 2.0**-53 for _ in range(needed)]
    given = {
        "change": sparse(change),
        "fraction": fraction.hex(),
        "precision": NAMES[precision],
        "noise": [draw.hex() for draw in draws],
    }
    data = encode(change, fraction, precision, draws)
    return _vector(name, comment, "encode", given, {"update": data.hex()})


# ---- Decoding: id, comment, bytes, count, change or nothing ----


def decodings() -> list[Json]:
    """What a reader takes, also when no encoder of ours wrote it, and what it refuses."""
    taken = [_vector(n, c, "valid", {"update": d.hex(), "count": m}, {"change": sparse(x)})
             for n, c, d, m, x in valid()]  # fmt: skip
    return taken + [
        _vector(name, comment, "invalid", {"update": data.hex(), "count": count}, {"refused": True})
        for name, comment, data, count in invalid()
    ]


ONE = struct.pack("<f", 1.0)


def update(
    positions: int, precision: int, where: bytes, values: Numbers, scale: float = 1
) -> bytes:
    """An update with any positions."""
    written = write_values(precision, values, scale)
    return head(positions, precision, len(values)) + where + written


def valid() -> list[tuple[str, str, bytes, int, Numbers]]:
    """Forms that are not the shortest, and edges of the values."""
    x = [0.0, 1.0, 0.0, -2.0]
    forms = [
        (f"form_{p}", "The same in each form.", update(p, FLOAT32, where, [1.0, -2.0]), 4, x)
        for p, where in ((BITMAP, b"\x0a"), (GAPS, b"\x01\x01"), (INDICES, b"\x01\0\x03\0"))
    ]
    u32 = (65536).to_bytes(4, "little")
    far = [0.0] * 65536 + [3.0]
    half, steps = [65504.0, -(2.0**-24)], [127.0, -127.0, 1.0, 0.0]
    least, most = 2.0**-149, 2.0**121
    return [
        *forms,
        ("all_with_zeros", "Zeros may be sent.", update(ALL, FLOAT32, b"", x), 4, x),
        ("zero_sent", "Also one alone.", update(GAPS, FLOAT16, b"\x02", [0.0]), 4, [0.0] * 4),
        ("indices_u32", "Above 65,536 entries.", update(INDICES, FLOAT32, u32, [3.0]), 65537, far),
        ("empty_bitmap", "No entry.", head(BITMAP, FLOAT16, 0) + b"\0", 4, [0.0] * 4),
        ("empty_indices", "No entry.", head(INDICES, FLOAT32, 0), 4, [0.0] * 4),
        ("float16_edges", "Largest and least.", update(ALL, FLOAT16, b"", half), 2, half),
        (
            *("scale_least", "2^-149.", update(ALL, INT8, b"", steps, least)),
            *(4, [value * least for value in steps]),
        ),
        (
            *("scale_most", "2^121.", update(ALL, INT8, b"", steps, most)),
            *(4, [value * most for value in steps]),
        ),
        (
            *("scale_rounds", "127 * 0.1 is rounded to float32."),
            *(update(ALL, INT8, b"", steps, float32(0.1)), 4),
            [float32(value * float32(0.1)) for value in steps],
        ),
    ]


def invalid() -> list[tuple[str, str, bytes, int]]:
    """What no encoder writes."""
    return [*_headers(), *_all_and_bitmap(), *_gaps(), *_indices(), *_values()]


def _headers() -> list[tuple[str, str, bytes, int]]:
    good = update(GAPS, FLOAT32, b"\x01", [1.0])
    return [
        ("nothing", "No bytes.", b"", 4),
        ("header_cut", "Seven bytes.", good[:7], 4),
        ("only_a_header", "Nothing after it.", good[:8], 4),
        ("positions_4", "Not known.", head(4, 0, 1) + b"\x01" + ONE, 4),
        ("positions_255", "Not known.", head(255, 0, 0), 4),
        ("precision_3", "Not known.", head(GAPS, 3, 0), 4),
        ("zero_set_low", "Bytes 2 and 3 are zero.", head(GAPS, 0, 0, 1), 4),
        ("zero_set_high", "Bytes 2 and 3 are zero.", head(GAPS, 0, 0, 256), 4),
        ("entries_big_endian", "The low byte first.", b"\x02\0\0\0\0\0\0\x01\x01" + ONE, 4),
        ("too_many", "More entries than there are.", head(ALL, INT8, 5) + ONE + b"\1" * 5, 4),
        ("far_too_many", "2^32 - 1 entries.", head(GAPS, 0, 0xFFFFFFFF) + b"\x01" + ONE, 4),
        ("too_long", "Above 4 n + 12 bytes.", good + bytes(20), 4),
        ("dense", "Another encoding.", struct.pack("<4f", 1, 2, 3, 4), 4),
        ("trailing", "A byte too many.", good + b"\0", 4),
        ("cut", "A byte too few.", good[:-1], 4),
    ]


def _all_and_bitmap() -> list[tuple[str, str, bytes, int]]:
    def bits(where: bytes, entries: int) -> bytes:
        return update(BITMAP, FLOAT16, where, [1.0] * entries)

    return [
        ("all_but_one", "Fewer than all.", update(ALL, FLOAT16, b"", [1.0] * 3), 4),
        ("all_trailing", "A byte too many.", update(ALL, FLOAT16, b"\0", [1.0] * 4), 4),
        ("all_cut", "A byte too few.", update(ALL, FLOAT16, b"", [1.0] * 4)[:-1], 4),
        ("spare_bit", "Bit 4 of four entries, besides.", bits(b"\x13", 3), 4),
        ("spare_bit_only", "Bit 7 of four entries.", bits(b"\x80", 1), 4),
        ("bitmap_of_fewer", "One bit for two.", bits(b"\x01", 2), 4),
        ("bitmap_of_more", "Two bits for one.", bits(b"\x03", 1), 4),
        ("bitmap_none", "No bitmap.", bits(b"", 1), 4),
        ("bitmap_short", "One byte for nine entries.", bits(b"\x01", 1), 9),
        ("bitmap_long", "Two bytes for eight entries.", bits(b"\x01\0", 1), 8),
    ]


def _gaps() -> list[tuple[str, str, bytes, int]]:
    def gaps(where: bytes, entries: int) -> bytes:
        return update(GAPS, FLOAT32, where, [1.0] * entries)

    return [
        ("gap_padded", "Zero in two bytes.", gaps(b"\x80\0", 1), 4),
        ("gap_padded_later", "One in two bytes.", gaps(b"\0\x81\0", 2), 4),
        ("gap_of_five", "Zero in five bytes.", gaps(b"\x80\x80\x80\x80\0", 1), 4),
        ("gap_of_five_large", "2^28.", gaps(b"\x80\x80\x80\x80\x01", 1), 4),
        ("gap_unfinished", "Bit 7 set in the last byte.", gaps(b"\x01\x80", 2), 4),
        ("gap_never_finished", "And in all of them.", gaps(b"\x81", 1), 4),
        ("gap_beyond", "Entry 4 of four.", gaps(b"\x04", 1), 4),
        ("gaps_beyond", "Entry 4 of four, at last.", gaps(b"\x02\x01", 2), 4),
        ("gap_far_beyond", "2^28 - 1.", gaps(b"\xff\xff\xff\x7f", 1), 4),
        ("gaps_of_fewer", "One gap for two.", gaps(b"\x01", 2), 4),
        ("gaps_of_more", "Two gaps for one.", gaps(b"\x01\0", 1), 4),
        ("gaps_for_none", "A gap for no entry.", gaps(b"\0", 0), 4),
    ]


def _indices() -> list[tuple[str, str, bytes, int]]:
    def indices(size: int, *chosen: int) -> bytes:
        where = b"".join(index.to_bytes(size, "little") for index in chosen)
        return update(INDICES, FLOAT32, where, [1.0] * len(chosen))

    return [
        ("index_beyond", "Entry 4 of four.", indices(2, 4), 4),
        ("index_far_beyond", "Entry 65,535 of four.", indices(2, 1, 65535), 4),
        ("index_twice", "One entry twice.", indices(2, 1, 1), 4),
        ("indices_fall", "In another order.", indices(2, 2, 1), 4),
        ("indices_wide", "Four bytes up to 65,536.", indices(4, 1), 65536),
        ("indices_narrow", "Two bytes above 65,536.", indices(2, 1), 65537),
        ("index_u32_beyond", "Entry 2^32 - 1.", indices(4, 1, 2**32 - 1), 65537),
        ("index_cut", "One and a half.", update(INDICES, FLOAT32, b"\0\0\1", [1.0] * 2), 4),
        ("index_more", "One index too many.", update(INDICES, FLOAT32, b"\0\0\1\0", [1.0]), 4),
    ]


def _values() -> list[tuple[str, str, bytes, int]]:
    def scaled(bits: int, where: bytes = b"\x01") -> bytes:
        return head(GAPS, INT8, 1) + where + bits.to_bytes(4, "little") + b"\x05"

    bad = (("nan", math.nan), ("inf", math.inf), ("minus_inf", -math.inf))
    cases = [
        (f"{name}_{NAMES[p]}", "Not finite.", update(ALL, p, b"", [1.0, value]), 2)
        for p in (FLOAT32, FLOAT16)
        for name, value in bad
    ]
    scales = (
        *(("zero", 0), ("minus_zero", 0x80000000), ("negative", 0xBF800000), ("inf", 0x7F800000)),
        *(("nan", 0x7FC00000), ("above_most", 0x7C000001), ("big_endian", 0x0000803F | 1 << 31)),
    )
    cases += [(f"scale_{name}", "Not a scale.", scaled(bits), 4) for name, bits in scales]
    return [
        *cases,
        ("scale_bad_for_none", "Also for no entry.", head(GAPS, INT8, 0) + bytes(4), 4),
        ("scale_missing", "No scale.", head(GAPS, INT8, 0), 4),
        ("minus_128", "-127 is the least.", head(ALL, INT8, 1) + ONE + b"\x80", 1),
    ]


# ---- The file ----


def sparse(change: Numbers) -> Json:
    """A change as its length and the entries that are not +0."""
    told = [[str(i), v.hex()] for i, v in enumerate(change) if v or math.copysign(1, v) < 0]
    return {"count": len(change), "entries": dict(told)}


def _vector(name: str, comment: str, flag: str, given: Json, expected: Json) -> Json:
    about = {"id": name, "comment": comment, "flags": [flag], "generator": Path(__file__).name}
    return {**about, "seed": SEED, "input": given, "expected": expected}


def main() -> None:
    """Write the file."""
    document = {
        "schema": "update.schema.json",
        "encodings": encodings(),
        "decodings": decodings(),
    }
    OUTPUT.write_text(_text(document), "utf-8")


def _text(document: Json) -> str:
    """Indented JSON in which a list or an object of plain values takes one line."""
    text = json.dumps(document, indent=1) + "\n"
    plain = r"\[[^][{}]+\]|(?<=\"entries\": )\{[^{}]+\}"
    return re.sub(plain, lambda values: re.sub(r"\s+", " ", values[0]), text)


if __name__ == "__main__":
    main()
