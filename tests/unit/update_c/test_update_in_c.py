"""The firmware's encoder writes the bytes of the golden vectors and of the Python encoder."""

import ctypes

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from replay_update import ENCODINGS, replay
from update_in_c import PRECISIONS, encode, words_of

from tinyfleet.codec.selected import decode_update, encode_selected
from tinyfleet.codec.selection import entries_of, select_largest
from tinyfleet.randomness import Purpose, RandomStream

pytestmark = pytest.mark.needs_package("gcc", command="gcc")
any_float = st.floats(width=32, allow_nan=False, allow_infinity=False)
few_values = st.sampled_from([0.0, -0.0, 1.0, -1.0, 2.0**-149, 2.0**-25, 65519.0, 3.4e38, -3.4e38])
fractions = st.one_of(st.just(1.0), st.floats(0.0, 1.0, exclude_min=True))


@pytest.mark.parametrize("vector", ENCODINGS.values(), ids=ENCODINGS)
@pytest.mark.parametrize("step", [0, 1, 5], ids=["whole", "byte by byte", "five by five"])
def test_a_change_is_encoded_as_it_is_there(codec_with_given_noise, vector, step):
    replay(codec_with_given_noise, vector, step)


def assert_same(codec, change, fraction, precision, seed):
    noise = RandomStream(seed, Purpose.UPLOAD, 3, 4) if precision == "int8" else None
    words = words_of(RandomStream(seed, Purpose.UPLOAD, 3, 4))
    expected = encode_selected(change, fraction, precision, noise)
    entries = entries_of(fraction, len(change))
    assert encode(codec, change, entries, precision, words) == expected
    if noise is not None:
        assert tuple(words) == tuple(words_of(noise)), "both have taken as many draws"


@settings(max_examples=400)
@given(
    data=st.data(),
    count=st.integers(1, 80),
    values=st.sampled_from([any_float, few_values]),
    fraction=fractions,
    precision=st.sampled_from(PRECISIONS),
    seed=st.integers(0, 2**63 - 1),
)
def test_any_change_has_the_bytes_of_the_python_encoder(
    codec, data, count, values, fraction, precision, seed
):
    change = data.draw(arrays(np.float32, count, elements=values))
    assert_same(codec, change, fraction, precision, seed)


@settings(max_examples=200)
@given(
    count=st.integers(1, 70_000),
    sent=st.integers(0, 400),
    fraction=fractions,
    precision=st.sampled_from(PRECISIONS),
    seed=st.integers(0, 2**32 - 1),
)
def test_a_long_sparse_change_has_them_too(codec, count, sent, fraction, precision, seed):
    random = np.random.default_rng(seed)
    change = np.zeros(count, np.float32)
    where = random.integers(0, count, sent)
    change[where] = random.normal(size=sent) * 10.0 ** random.integers(-45, 38)
    assert_same(codec, change, fraction, precision, seed)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("fraction", [0.001, 0.01, 0.1, 0.25, 0.9, 1.0])
def test_a_model_s_change_has_them_too(codec, precision, fraction, seed):
    change = np.random.default_rng(seed).normal(size=28_709).astype(np.float32)
    assert_same(codec, change, fraction, precision, seed)


@pytest.mark.slow
@pytest.mark.parametrize("count", [1 << 21, (1 << 21) + 2, 16_000_000])
def test_gaps_of_four_bytes_have_them_too(codec, count):
    change = np.zeros(count, np.float32)
    change[[-1, 0]] = 1.0, -2.0
    assert_same(codec, change, 1.0, "int8", 1)


@pytest.mark.slow
def test_every_magnitude_of_a_float_rounds_to_the_same_float16(codec):
    """Each exponent, with significands that lie on, beside and between the float16's ties."""
    tails = np.array([0, 1, 0xFFF, 0x1000, 0x1001, 0x1FFF, 0x2000, 0x3000, 0x7FFFFF], np.uint32)
    tops = np.arange(0, 1 << 10, 37, dtype=np.uint32) << 13
    exponents = np.arange(255, dtype=np.uint32) << 23
    bits = (exponents[:, None, None] | tops[:, None] | tails).ravel()
    change = bits.view(np.float32).copy()
    assert_same(codec, change, 1.0, "float16", 1)
    assert_same(codec, -change, 1.0, "float16", 1)


@given(seed=st.integers(0, 2**63 - 1), round=st.integers(0, 2**40), slot=st.integers(0, 1023))
def test_draws_are_those_of_the_slot_s_stream(codec, seed, round, slot):
    stream = RandomStream(seed, Purpose.UPLOAD, round, slot)
    words = words_of(stream)
    drawn = [codec.pcg64_uniform(words) for _ in range(20)]
    assert drawn == stream.uniform(20).tolist()


@settings(max_examples=300)
@given(data=st.data(), count=st.integers(1, 70), values=st.sampled_from([any_float, few_values]))
def test_the_largest_changes_are_chosen_and_kept_in_order(codec, data, count, values):
    change = data.draw(arrays(np.float32, count, elements=values))
    entries = data.draw(st.integers(1, count))
    bitmap, work = (ctypes.c_uint8 * ((count + 7) // 8))(), change.copy()
    kept = codec.selection_choose(work.ctypes.data, count, entries, bitmap)
    chosen = np.flatnonzero(np.unpackbits(np.frombuffer(bitmap, np.uint8), bitorder="little"))
    assert chosen.tolist() == select_largest(change, entries).tolist()
    assert work[:kept].tobytes() == change[chosen].tobytes()


@given(
    change=arrays(np.float32, st.integers(1, 60), elements=any_float),
    fraction=fractions,
    precision=st.sampled_from(PRECISIONS),
)
def test_a_reader_takes_what_the_board_wrote(codec, change, fraction, precision):
    entries = entries_of(fraction, len(change))
    words = words_of(RandomStream(1, Purpose.UPLOAD, 0, 0))
    read = decode_update(encode(codec, change, entries, precision, words), len(change))
    assert np.count_nonzero(read) <= entries
