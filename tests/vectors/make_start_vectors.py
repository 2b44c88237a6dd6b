"""Writes start.json: what a start's bytes are, and what a reader makes of bytes.

    python tests/vectors/make_start_vectors.py

The format below is docs/formats/start.md taken literally, parameter by parameter, in exact
fractions; nothing is asked of an implementation. What is refused is stated by hand.
"""

from __future__ import annotations

import json
import random
import re
import struct
from fractions import Fraction
from pathlib import Path
from typing import Any

OUTPUT = Path(__file__).with_name("start.json")
SEED = 20261130
BITMAP, GAPS, INDICES = 1, 2, 3
NAMES = ("float32", "float16", "int8")
FLOAT32, FLOAT16, INT8 = range(3)

Json = dict[str, Any]
Numbers = list[float]
Stored = tuple[list[int], Numbers]  # the e of each layer, the values


# ---- The format, literally ----


def float32(number: float) -> float:
    """The nearest float32, ties to even."""
    return float(struct.unpack("<f", struct.pack("<f", number))[0])


def float16(number: float) -> float:
    """The nearest float16 that is finite, ties to even."""
    clamped = min(max(number, -65504.0), 65504.0)
    return float(struct.unpack("<e", struct.pack("<e", clamped))[0])


def exponent(largest: float) -> int:
    """The least e with 127 * 2^e >= largest, -126 to 121."""
    e = -126
    while e < 121 and 127 * Fraction(2) ** e < Fraction(largest):
        e += 1
    return e


def layers_of(values: Numbers, sizes: list[int]) -> list[Numbers]:
    """The parameters of each layer."""
    starts = [sum(sizes[:place]) for place in range(len(sizes))]
    return [values[a : a + size] for a, size in zip(starts, sizes, strict=True)]


def stored(precision: int, sizes: list[int], parameters: Numbers) -> Stored:
    """What of the parameters travels."""
    if precision == FLOAT32:
        return [], list(parameters)
    if precision == FLOAT16:
        return [], [float16(value) for value in parameters]
    layers = layers_of(parameters, sizes)
    exponents = [exponent(max(abs(value) for value in layer)) for layer in layers]
    steps = [
        float(max(-127, min(127, round(Fraction(value) / Fraction(2) ** e))))  # ties to even
        for layer, e in zip(layers, exponents, strict=True)
        for value in layer
    ]
    return exponents, steps


def start_of(precision: int, sizes: list[int], held: Stored) -> Numbers:
    """What a device trains from."""
    if precision != INT8:
        return held[1]
    pairs = zip(layers_of(held[1], sizes), held[0], strict=True)
    return [value * 2.0**e if value else 0.0 for layer, e in pairs for value in layer]


def write_values(precision: int, values: Numbers) -> bytes:
    """Values, as they are stored."""
    if precision == INT8:
        return struct.pack(f"<{len(values)}b", *(int(value) for value in values))
    return struct.pack(f"<{len(values)}{'fe'[precision]}", *values)


def write_whole(precision: int, now: Stored) -> bytes:
    """All of a start."""
    return struct.pack(f"<{len(now[0])}b", *now[0]) + write_values(precision, now[1])


def gap(number: int) -> bytes:
    """LEB128: seven bits a byte, the low ones first, bit 7 set in all but the last."""
    done = b""
    while number >= 128:
        done += bytes([number % 128 + 128])
        number //= 128
    return done + bytes([number])


def write_positions(positions: int, chosen: list[int], count: int) -> bytes:
    """Which entries there are; no vector here has more than 65,536 parameters."""
    if positions == BITMAP:
        return sum(1 << index for index in chosen).to_bytes((count + 7) // 8, "little")
    if positions == GAPS:
        before = [-1, *chosen]
        return b"".join(gap(i - before[n] - 1) for n, i in enumerate(chosen))
    return b"".join(index.to_bytes(2, "little") for index in chosen)


def head(positions: int, precision: int, entries: int, zero: int = 0) -> bytes:
    """A header."""
    return struct.pack("<BBHI", positions, precision, zero, entries)


def write_changes(precision: int, before: Stored, now: Stored) -> bytes | None:
    """What turns one start into the other; None where all of it is no longer."""
    count = len(now[1])
    old, new = ([write_values(precision, [v]) for v in one[1]] for one in (before, now))
    chosen = [index for index in range(count) if old[index] != new[index]]
    values = write_values(precision, [now[1][index] for index in chosen])
    exponents = struct.pack(f"<{len(now[0])}b", *now[0])
    forms = [
        head(p, precision, len(chosen)) + exponents + write_positions(p, chosen, count) + values
        for p in (BITMAP, GAPS, INDICES)
    ]
    shortest = min(forms, key=len)
    return shortest if len(shortest) < len(write_whole(precision, now)) else None


# ---- Encoding: id, comment, precision, sizes, parameters, those of the start that is held ----

Case = tuple[str, str, int, list[int], Numbers, Numbers]


def encodings() -> list[Json]:
    """What an encoder must write, byte for byte, and what a device must start from."""
    cases = [*_exact(), *_halves(), *_steps(), *_random()]
    return [_encoding(*case) for case in cases]


def _exact() -> list[Case]:
    x, y = [0.5, -2.0, 0.25, 1.0, -0.125, 0.0, 4.0, -8.0], [float(n) for n in range(1, 301)]
    few = [-v if n in (7, 8, 135, 264, 299) else v for n, v in enumerate(y)]
    half = [-v if n % 2 else v for n, v in enumerate(y)]
    return [
        ("one_parameter", "The smallest start: changes are never shorter.", 0, [1], [1.5], [2.0]),
        ("nothing_changed", "A header.", 0, [8], x, x),
        ("one_changed", "A header, a gap, a value.", 0, [8], x, [*x[:6], 3.0, -8.0]),
        ("all_changed", "All of it is shorter.", 0, [8], x, [v + 1 for v in x]),
        ("minus_zero", "0 and -0 differ.", 0, [8], x, [*x[:5], -0.0, *x[6:]]),
        ("gaps", "A few of many.", 0, [200, 100], y, few),
        ("bitmap", "Every other one.", 0, [200, 100], y, half),
        ("bitmap_float16", "Every other one.", 1, [200, 100], y, half),
        ("bitmap_int8", "Every other one.", 2, [200, 100], y, half),
        ("no_shorter", "Changes as long as all: all.", 0, [4], [1, 2, 3, 4], [0, 2, 3, 4]),
        ("equally_long", "Changes of the same length: all.", 1, [11], y[:11], [*y[:7], 0, 0, 0, 0]),
    ]  # fmt: skip


def _halves() -> list[Case]:
    ulp = 2.0**-10
    edges = [1 + ulp / 2, 1 + 3 * ulp / 2, -1 - ulp / 2, 2.0**-25, 2.0**-24, -1e-30, 65520.0, -1e38]
    near = [v + ulp / 8 for v in edges[:3]] + edges[3:]
    return [
        ("float16_edges", "Ties, subnormals, clamped.", 1, [8], edges, [0.0] * 8),
        ("float16_same", "Changes that rounding hides.", 1, [3], [1, 2, 3], [1.0001, 2, 3]),
        ("float16_ties_broken", "A little more.", 1, [8], near, edges),
    ]


def _steps() -> list[Case]:
    ties = [127.0, 0.5, 1.5, 2.5, -0.5, -1.5, 126.5, -126.5]
    tiny, huge = 2.0**-149, float32(3.4028234e38)
    wide, zeros = [1.0, -1.0, 0.3, 100.0, 0.4, 0.6, -0.0], [0.0] * 19
    return [
        ("int8_ties", "To even.", 2, [8], ties, [0.0] * 8),
        ("int8_just_fits", "127 steps of 1.", 2, [2], [127.0, 1.0], [127.0, 2.0]),
        ("int8_just_not", "Steps of 2.", 2, [2], [float32(127.00001), 1.0], [127.0, 1.0]),
        ("int8_power", "A power of two is 64 steps.", 2, [3], [64.0, -1.0, 0.7], [1.0, 2.0, 3.0]),
        ("int8_layers", "An e for each.", 2, [2, 1, 4], wide, [2 * v for v in wide]),
        ("int8_zeros", "e is -126.", 2, [3, 2], [0.0, -0.0, 0.0, 1.0, 2.0], [0.0] * 5),
        ("int8_least", "Nothing below 2^-126.", 2, [3], [tiny, -(2.0**-120), 2.0**-126], [0.0] * 3),
        ("int8_most", "e is 121: clamped.", 2, [3], [huge, -huge, 2.0**120], [0.0] * 3),
        ("int8_e_moves", "Only e and a step.", 2, [20], [65.0, *zeros], [63.0, *zeros]),
        ("int8_hidden", "Less than half a step.", 2, [20], [100.0] * 20, [100.4] * 20),
    ]  # fmt: skip


def _random() -> list[Case]:
    numbers = random.Random(SEED)
    sizes = [80, 3, 117]
    before = [numbers.gauss(0, 0.2) for _ in range(200)]
    moved = [v + numbers.gauss(0, 0.01) * (numbers.random() < 0.25) for v in before]
    return [
        (f"random_{NAMES[precision]}", "A quarter moved.", precision, sizes, moved, before)
        for precision in (FLOAT32, FLOAT16, INT8)
    ]


def _encoding(
    name: str, comment: str, precision: int, sizes: list[int], now: Numbers, held: Numbers
) -> Json:
    now, held = [float32(value) for value in now], [float32(value) for value in held]
    before, after = (stored(precision, sizes, values) for values in (held, now))
    changes = write_changes(precision, before, after)
    given = {
        "precision": NAMES[precision],
        "sizes": sizes,
        "parameters": hexes(now),
        "held": hexes(held),
    }
    expected = {
        "whole": write_whole(precision, after).hex(),
        "changes": None if changes is None else changes.hex(),
        "start": hexes(start_of(precision, sizes, after)),
    }
    return _vector(name, comment, "encode", given, expected)


# ---- Decoding: id, comment, precision, sizes, held (whole) or nothing, bytes ----

Bytes = tuple[str, str, int, list[int], bytes | None, bytes]
HELD = struct.pack("<20f", *range(20))
STEPS = struct.pack("<2b20b", -3, 0, *range(20))
TWO = [12, 8]


def decodings() -> list[Json]:
    """What a reader takes, also when no encoder of ours wrote it, and what it refuses."""
    ones = [1.0, *range(1, 20)]
    eleven = [0.0, 0.0, *range(2, 20)]
    forms = [
        (f"form_{p}", "In each form.", 0, [20], HELD, changes(p, FLOAT32, [0], [1.0]), ones)
        for p in (BITMAP, GAPS, INDICES)
    ]
    steps = [n * 2.0**-3 if n < 12 else n * 2.0 for n in range(20)]
    edges = struct.pack("<2b20b", -126, 121, *[127] * 12, *[-127] * 8)
    far = [127 * 2.0**-126] * 12 + [-127 * 2.0**121] * 8
    taken = [
        *forms,
        ("same", "It may be sent.", 0, [20], HELD, changes(GAPS, 0, [1], [0.0]), eleven),
        ("e_only", "No step.", 2, TWO, STEPS, head(GAPS, INT8, 0) + b"\xfd\x01", steps),
        ("empty_bitmap", "No entry.", 0, [20], HELD, head(BITMAP, 0, 0) + bytes(3), [*range(20)]),
        ("edges", "Largest e and steps.", 2, TWO, None, edges, far),
        ("minus_zero", "As it came.", 1, [2], None, b"\0\x80\xff\x7b", [-0.0, 65504.0]),
    ]  # fmt: skip
    return [
        _vector(name, comment, "valid", _given(*rest), {"start": hexes([float(v) for v in start])})
        for name, comment, *rest, start in taken
    ] + [
        _vector(name, comment, "invalid", _given(*rest), {"refused": True})
        for name, comment, *rest in [*_bad_wholes(), *_bad_headers(), *_bad_rest()]
    ]


def changes(positions: int, precision: int, chosen: list[int], values: Numbers) -> bytes:
    """Changes of 20 parameters without e."""
    where = write_positions(positions, chosen, 20)
    return head(positions, precision, len(values)) + where + write_values(precision, values)


def _bad_wholes() -> list[Bytes]:
    nan, inf, half_inf = (bytes.fromhex(text) for text in ("0000c07f", "000080ff", "007c"))
    return [
        ("nothing", "No bytes.", 0, [20], None, b""),
        ("cut", "A byte too few.", 0, [20], None, HELD[:-1]),
        ("trailing", "A byte too many.", 0, [20], None, HELD + b"\0"),
        ("other_precision", "float32 for int8.", 2, TWO, None, HELD),
        ("no_exponents", "Steps only.", 2, TWO, None, STEPS[2:]),
        ("changes_for_whole", "A header in it.", 0, [20], None, changes(GAPS, 0, [0], [1.0])),
        ("nan", "Not finite.", 0, [20], None, nan + HELD[4:]),
        ("infinity", "Not finite.", 0, [20], None, HELD[4:] + inf),
        ("half_infinity", "Not finite.", 1, [2], None, half_inf + b"\0\0"),
        ("step_minus_128", "One step too far.", 2, TWO, None, STEPS[:-1] + b"\x80"),
        ("e_too_low", "-127.", 2, TWO, None, b"\x81" + STEPS[1:]),
        ("e_too_high", "122.", 2, TWO, None, b"\x00\x7a" + STEPS[2:]),
    ]


def _bad_headers() -> list[Bytes]:
    good = changes(GAPS, 0, [0], [1.0])
    long = head(BITMAP, 2, 9) + bytes(2) + b"\xff\1\0" + bytes(9)
    return [
        ("no_header", "No bytes.", 0, [20], HELD, b""),
        ("header_cut", "Seven bytes.", 0, [20], HELD, good[:7]),
        ("positions_0", "All is sent whole.", 0, [20], HELD, head(0, 0, 0)),
        ("positions_0_whole", "As long as all.", 0, [20], HELD, head(0, 0, 20) + HELD),
        ("positions_4", "Not known.", 0, [20], HELD, head(4, 0, 1) + good[8:]),
        ("precision_3", "Not known.", 0, [20], HELD, head(GAPS, 3, 1) + good[8:]),
        ("not_the_plans", "float16.", 0, [20], HELD, changes(GAPS, 1, [0], [1.0])),
        ("zero_set", "Bytes 2 and 3 are zero.", 0, [20], HELD, head(GAPS, 0, 1, 256) + good[8:]),
        ("too_many", "21 of 20.", 2, TWO, STEPS, head(GAPS, 2, 21) + b"\0\0"),
        ("far_too_many", "2^32 - 1.", 0, [20], HELD, head(GAPS, 0, 0xFFFFFFFF) + good[8:]),
        ("as_long_as_whole", "22 bytes.", 2, TWO, STEPS, long),
    ]  # fmt: skip


def _bad_rest() -> list[Bytes]:
    good = changes(GAPS, 0, [3, 9], [1.0, 2.0])
    steps = head(GAPS, INT8, 1) + b"\0\0" + b"\3"
    return [
        ("changes_cut", "A byte too few.", 0, [20], HELD, good[:-1]),
        ("changes_trailing", "A byte too many.", 0, [20], HELD, good + b"\0"),
        ("gap_padded", "Zero in two bytes.", 0, [20], HELD, good[:8] + b"\x80\0" + good[9:]),
        ("gap_beyond", "Entry 20.", 0, [20], HELD, good[:8] + b"\x14" + good[9:]),
        ("bitmap_of_more", "Two bits.", 0, [20], HELD, head(BITMAP, 0, 1) + b"\3\0\0" + HELD[:4]),
        ("spare_bit", "Bit 20.", 0, [20], HELD, head(BITMAP, 0, 1) + b"\0\0\x10" + HELD[:4]),
        ("indices_fall", "9, 3.", 0, [20], HELD, head(INDICES, 0, 2) + b"\t\0\3\0" + good[10:]),
        ("change_nan", "Not finite.", 0, [20], HELD, good[:-4] + b"\0\0\xc0\x7f"),
        ("change_minus_128", "One step too far.", 2, TWO, STEPS, steps + b"\x80"),
        ("change_without_e", "None.", 2, TWO, STEPS, steps[:8] + b"\3\1"),
        ("change_e_too_low", "-127.", 2, TWO, STEPS, steps[:8] + b"\x81\0\3\1"),
    ]


def _given(precision: int, sizes: list[int], held: bytes | None, data: bytes) -> Json:
    return {
        "precision": NAMES[precision],
        "sizes": sizes,
        "held": None if held is None else held.hex(),
        "data": data.hex(),
    }


def hexes(numbers: Numbers) -> list[str]:
    """Numbers that keep all their bits."""
    return [number.hex() for number in numbers]


def _vector(name: str, comment: str, flag: str, given: Json, expected: Json) -> Json:
    return {
        "id": name,
        "comment": comment,
        "flags": [flag],
        "generator": Path(__file__).name,
        "seed": SEED,
        "input": given,
        "expected": expected,
    }


def main() -> None:
    """Write the file."""
    document = {"schema": "start.schema.json", "encodings": encodings(), "decodings": decodings()}
    text = json.dumps(document, indent=1)
    text = re.sub(r"\[\s+((?:[^][{}]|\n)*?)\s+\]", _on_one_line, text)
    OUTPUT.write_text(text + "\n", "utf-8")


def _on_one_line(match: re.Match[str]) -> str:
    return "[" + re.sub(r"\s*\n\s*", " ", match[1]) + "]"


if __name__ == "__main__":
    main()
