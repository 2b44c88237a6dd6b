"""The selected encoding sends the largest entries, loses what it says, believes nobody."""

import math
import struct

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from streams import GivenNoise

from tinyfleet.codec.positions import (
    Positions,
    decode_positions,
    encode_positions,
    positions_bytes,
)
from tinyfleet.codec.selected import (
    MAX_OVERHEAD_BYTES,
    decode_update,
    encode_selected,
    largest_bytes,
)
from tinyfleet.codec.selection import entries_of, select_largest
from tinyfleet.codec.values import PRECISIONS
from tinyfleet.errors import InvalidInput
from tinyfleet.randomness import Purpose, RandomStream

FLOATS = st.floats(allow_nan=False, allow_infinity=False, width=32)
FEW_FLOATS = st.sampled_from([0.0, -0.0, 1.0, -1.0, 2.0, -2.0, 2.0**-149])
COUNTS = st.integers(1, 300)
CHANGES = st.one_of(
    arrays.arrays(np.float32, COUNTS, elements=FLOATS, fill=FLOATS),
    arrays.arrays(np.float32, COUNTS, elements=FEW_FLOATS, fill=FEW_FLOATS),
)
FRACTIONS = st.floats(0.0, 1.0, exclude_min=True) | st.sampled_from([0.01, 0.05, 0.25, 1.0])
LARGEST = float(np.finfo(np.float32).max)


def noise_of(seed=1):
    return RandomStream(seed, Purpose.UPLOAD, 0, 0)


def chosen_by_sorting(change, fraction):
    """The change with its ceil(fraction * n) largest entries only; ties to the lower index."""
    entries = min(math.ceil(fraction * len(change)), len(change))
    kept = np.argsort(-np.abs(change), kind="stable")[:entries]
    wanted = np.zeros_like(change)
    wanted[kept] = change[kept]
    return wanted


# ---- What is sent ----


@given(CHANGES, FRACTIONS)
def test_the_selection_is_that_of_a_stable_sort_by_magnitude(change, fraction):
    entries = entries_of(fraction, len(change))
    assert entries == min(math.ceil(fraction * len(change)), len(change)) >= 1
    wanted = np.flatnonzero(chosen_by_sorting(change, fraction))
    assert select_largest(change, entries).tolist() == wanted.tolist()


@given(CHANGES, FRACTIONS)
def test_float32_brings_the_largest_entries_to_the_bit_and_zeros_else(change, fraction):
    back = decode_update(encode_selected(change, fraction, "float32", None), len(change))
    assert back.dtype == np.float32
    wanted = chosen_by_sorting(change, fraction) + np.float32(0)  # -0 is not sent
    assert back.tobytes() == wanted.tobytes()


@given(CHANGES, FRACTIONS)
def test_float16_is_the_nearest_one_that_is_finite(change, fraction):
    back = decode_update(encode_selected(change, fraction, "float16", None), len(change))
    wanted = chosen_by_sorting(change, fraction).clip(-65504, 65504)
    assert (back == wanted.astype(np.float16).astype(np.float32)).all()
    # Half a unit in the last of 11 bits, or half of the least subnormal.
    allowed = np.maximum(np.abs(wanted.astype(np.float64)) * 2.0**-11, 2.0**-25)
    assert (np.abs(back.astype(np.float64) - wanted) <= allowed).all()


@given(CHANGES, FRACTIONS, st.integers(0, 99))
def test_int8_is_off_by_less_than_a_step_of_a_127th_of_the_largest(change, fraction, seed):
    back = decode_update(encode_selected(change, fraction, "int8", noise_of(seed)), len(change))
    wanted = chosen_by_sorting(change, fraction).astype(np.float64)
    largest = np.abs(wanted).max()
    # The scale is rounded up to a float32, at least 2^-149; the product once more. Near the largest
    # float32 values are clamped to 127 * 2^121, 2^-7 of the largest below it: a step too.
    step = max(largest / 127 * (1 + 2.0**-23), 2.0**-149)
    rounding = largest * 2.0**-24
    assert (np.abs(back - wanted) <= step + rounding).all()
    assert (np.sign(back) * np.sign(wanted) >= 0).all()


@given(CHANGES, FRACTIONS, st.sampled_from(PRECISIONS))
def test_what_was_decoded_is_encoded_to_no_more_bytes(change, fraction, precision):
    data = encode_selected(change, fraction, precision, noise_of())
    back = decode_update(data, len(change))
    assert len(encode_selected(back, fraction, precision, noise_of(2))) <= len(data)


@given(CHANGES, st.sampled_from(PRECISIONS))
def test_a_change_of_zero_needs_no_values(change, precision):
    zeros = np.zeros_like(change)
    data = encode_selected(zeros, 1.0, precision, noise_of())
    assert len(data) == (12 if precision == "int8" else 8)
    assert not decode_update(data, len(zeros)).any()


@given(CHANGES, FRACTIONS, st.sampled_from(PRECISIONS))
def test_no_update_is_larger_than_foretold(change, fraction, precision):
    data = encode_selected(change, fraction, precision, noise_of())
    assert len(data) <= largest_bytes(len(change), fraction, precision)
    assert len(data) <= 4 * len(change) + MAX_OVERHEAD_BYTES


def test_the_foretold_size_is_reached():
    change = np.ones(9, np.float32)
    for fraction, precision in [(0.4, "float32"), (1.0, "float16"), (0.4, "int8")]:
        change[::2] = 0 if fraction < 1 else 1
        data = encode_selected(change, fraction, precision, GivenNoise(np.zeros(9)))
        foretold = largest_bytes(9, fraction, precision)
        assert foretold - 2 <= len(data) <= foretold  # gaps may be shorter than the bitmap


def test_one_entry_at_least_is_sent():
    assert entries_of(1e-300, 7) == 1
    assert entries_of(1.0, 7) == 7
    assert entries_of(np.nextafter(0.5, 1), 8) == 5


# ---- Stochastic rounding ----


def test_int8_is_right_on_average(seed):
    """Each entry: 4,000 roundings, each off by r(1-r) of variance at most a quarter of a step."""
    change = np.array([1.27, 0.004, -0.004, 0.0125, -0.6789, 0.00001], np.float32)
    count, repeats = len(change), 4000
    total = np.zeros(count)
    noise = noise_of(seed)
    for _ in range(repeats):
        total += decode_update(encode_selected(change, 1.0, "int8", noise), count)
    step = 1.27 / 127
    error = np.abs(total / repeats - change.astype(np.float64)) / step
    deviation = 0.5 / math.sqrt(repeats)
    assert (error < 5 * deviation).all()  # 5 sigma: one false alarm in a few hundred thousand runs
    assert abs(total[1]) > 0  # a nearest rounding would never send 0.4 steps


def test_int8_rounds_up_exactly_as_often_as_the_part_says():
    change = np.array([127.0, 0.25, -0.25], np.float32)
    draws = (np.arange(1000) + 0.5) / 1000
    ups = [
        decode_update(encode_selected(change, 1.0, "int8", GivenNoise([0.5, u, u])), 3)
        for u in draws
    ]
    assert sum(back[1] for back in ups) == 250
    assert sum(back[2] for back in ups) == -250
    assert all(back[0] == 127 for back in ups)


def test_int8_takes_one_draw_for_each_entry_that_is_sent():
    change = np.array([3.0, 0.0, 1.0, -2.0], np.float32)
    noise = GivenNoise([0.5] * 4)
    encode_selected(change, 0.75, "int8", noise)
    assert noise.left == 1
    encode_selected(change, 0.75, "float16", noise)
    assert noise.left == 1


def test_the_same_key_rounds_to_the_same_bytes(seed):
    change = np.random.default_rng(seed).standard_normal(500).astype(np.float32)
    first, again, other = (encode_selected(change, 0.5, "int8", noise_of(n)) for n in (1, 1, 2))
    assert first == again != other


def test_int8_without_noise_is_refused():
    with pytest.raises(InvalidInput, match="noise"):
        encode_selected(np.ones(3, np.float32), 1.0, "int8", None)


# ---- Positions ----

INDEX_SETS = st.integers(1, 70_000).flatmap(
    lambda count: st.tuples(
        st.just(count), st.lists(st.integers(0, count - 1), unique=True, max_size=40).map(sorted)
    )
)


@given(INDEX_SETS, st.sampled_from([Positions.BITMAP, Positions.GAPS, Positions.INDICES]))
@example((16_000_000, [0, 127, 256, 16640, 2_113_792, 15_999_999]), Positions.GAPS)
@example((65_536, [65_535]), Positions.INDICES)
@example((65_537, [65_536]), Positions.INDICES)
@settings(max_examples=60)
def test_positions_come_back_in_each_form_with_the_foretold_size(case, positions):
    count, indices = case[0], np.array(case[1], np.int64)
    data = np.frombuffer(encode_positions(positions, indices, count), np.uint8)
    assert data.size == positions_bytes(indices, count)[positions]
    assert decode_positions(positions, data, len(indices), count).tolist() == case[1]


@given(st.binary(max_size=12), st.integers(0, 12), st.integers(1, 70_000), st.data())
def test_positions_that_are_accepted_are_what_an_encoder_writes(data, entries, count, draw):
    positions = draw.draw(st.sampled_from(Positions))
    raw = np.frombuffer(data, np.uint8)
    try:
        indices = decode_positions(positions, raw, min(entries, count), count)
    except InvalidInput:
        return
    assert encode_positions(positions, indices, count) == data


@pytest.mark.parametrize(
    ("stride", "precision", "positions"),
    [
        (1, "float32", Positions.ALL),
        (2, "float32", Positions.BITMAP),
        (3, "int8", Positions.BITMAP),
        (7, "float32", Positions.BITMAP),
        (9, "float32", Positions.GAPS),
        (100, "int8", Positions.GAPS),
        (20_000, "float16", Positions.INDICES),
    ],
)
def test_the_shortest_form_is_chosen(stride, precision, positions):
    change = np.zeros(60_003, np.float32)
    change[stride - 1 :: stride] = 127.0
    data = encode_selected(change, 1.0, precision, GivenNoise(np.zeros(60_003)))
    assert data[0] == positions
    assert (decode_update(data, len(change)) == change).all()


# ---- Refusals ----


@pytest.mark.parametrize("wrong", [np.zeros(3), np.zeros((3, 1), np.float32)])
def test_only_float32_vectors_are_encoded(wrong):
    with pytest.raises(InvalidInput, match="float32 vector"):
        encode_selected(wrong, 0.5, "float32", None)


@pytest.mark.parametrize("fraction", [0.0, -0.1, 1.0001, math.nan, math.inf])
def test_fractions_out_of_range_are_refused(fraction):
    with pytest.raises(InvalidInput, match="fraction"):
        encode_selected(np.ones(3, np.float32), fraction, "float32", None)


def test_unknown_precisions_are_refused_with_a_suggestion():
    with pytest.raises(InvalidInput, match="did you mean 'int8'"):
        encode_selected(np.ones(3, np.float32), 0.5, "int9", None)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_number_that_is_not_finite_is_not_encoded(bad, precision):
    with pytest.raises(InvalidInput, match="finite"):
        encode_selected(np.array([1.0, bad], np.float32), 0.5, precision, noise_of())


@pytest.mark.parametrize("count", [0, -1, 10**9])
def test_counts_out_of_range_are_refused(count):
    with pytest.raises(InvalidInput, match="1 to 16000000 entries"):
        decode_update(bytes(8), count)


def test_an_empty_vector_is_refused():
    with pytest.raises(InvalidInput, match="got 0"):
        encode_selected(np.zeros(0, np.float32), 1.0, "float16", None)


def test_what_was_decoded_cannot_be_changed_not_even_through_its_bytes():
    data = bytearray(encode_selected(np.ones(3, np.float32), 1.0, "float16", None))
    back = decode_update(memoryview(data), 3)
    data[-1] ^= 0xFF
    assert back.tolist() == [1.0, 1.0, 1.0]
    with pytest.raises(ValueError, match="read-only"):
        back[0] = 2.0


def test_a_lie_about_the_entries_takes_no_memory(monkeypatch):
    """Sizes are checked before anything of the vector's size is made."""
    made = []
    monkeypatch.setattr(np, "zeros", lambda *shape, **_: made.append(shape))
    for positions in Positions:
        with pytest.raises(InvalidInput):
            decode_update(struct.pack("<BBHI", positions, 0, 0, 15_999_999) + bytes(9), 16_000_000)
    assert not made


def accepted_or_refused(data, count):
    """What anybody may send: a finite change, or one line."""
    try:
        change = decode_update(data, count)
    except InvalidInput:
        return
    assert change.shape == (count,)
    assert change.dtype == np.float32
    assert np.isfinite(change).all()


HEADERS = st.builds(
    lambda positions, precision, entries: struct.pack("<BBHI", positions, precision, 0, entries),
    st.integers(0, 3),
    st.integers(0, 2),
    st.integers(0, 20),
)


@given(st.binary(max_size=80), st.integers(1, 20))
def test_any_bytes_are_decoded_or_refused(data, count):
    accepted_or_refused(data, count)


@given(HEADERS, st.binary(max_size=60), st.integers(1, 20))
@settings(max_examples=300)
def test_any_bytes_after_a_good_header_are_decoded_or_refused(header, rest, count):
    accepted_or_refused(header + rest, count)


@pytest.mark.slow
@given(CHANGES, FRACTIONS, st.sampled_from(PRECISIONS), st.data())
@settings(max_examples=300)
def test_spoilt_updates_are_decoded_or_refused(change, fraction, precision, draw):
    data = bytearray(encode_selected(change, fraction, precision, noise_of()))
    for _ in range(draw.draw(st.integers(1, 3))):
        where = draw.draw(st.integers(0, len(data) - 1))
        match draw.draw(st.sampled_from(["flip", "cut", "add", "set"])):
            case "flip":
                data[where] ^= 1 << draw.draw(st.integers(0, 7))
            case "set":
                data[where] = draw.draw(st.integers(0, 255))
            case "add":
                data.insert(where, draw.draw(st.integers(0, 255)))
            case "cut" if len(data) > 1:
                del data[where]
    accepted_or_refused(bytes(data), len(change))


@given(CHANGES, FRACTIONS, st.sampled_from(PRECISIONS), st.binary(min_size=1, max_size=4))
def test_other_lengths_are_refused(change, fraction, precision, extra):
    data = encode_selected(change, fraction, precision, noise_of())
    for wrong in (data[:-1], data + extra, b""):
        with pytest.raises(InvalidInput):
            decode_update(wrong, len(change))


def test_the_largest_float32_survives_int8():
    change = np.array([LARGEST, -LARGEST, LARGEST / 2], np.float32)
    back = decode_update(encode_selected(change, 1.0, "int8", noise_of()), 3)
    assert np.isfinite(back).all()
    assert back[0] == -back[1] == 127 * 2.0**121
