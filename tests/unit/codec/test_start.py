"""A start is the same for everybody, rounds as little as it may, and changes lose nothing."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tinyfleet.codec.start import StartFormat
from tinyfleet.codec.values import PRECISIONS
from tinyfleet.errors import InvalidInput

FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)
FORMATS = st.builds(
    StartFormat,
    st.sampled_from(PRECISIONS),
    st.lists(st.integers(1, 40), min_size=1, max_size=4),
)


def vectors(form):
    return arrays(np.float32, form.count, elements=FLOATS)


def same(form, one, other):
    return form.write_whole(one) == form.write_whole(other)


@given(FORMATS, st.data())
def test_rounding_what_is_rounded_changes_nothing(form, data):
    start = form.rounded(data.draw(vectors(form)))
    parameters = form.parameters(start)
    assert parameters.dtype == np.float32
    assert np.isfinite(parameters).all()
    assert same(form, form.rounded(parameters), start)


@given(st.lists(st.integers(1, 40), min_size=1, max_size=4), st.data())
def test_int8_is_off_by_half_a_step_of_the_layer_at_most(sizes, data):
    form = StartFormat("int8", sizes)
    normal = st.floats(-100, 100, width=32).filter(lambda value: not 0 < abs(value) < 1e-30)
    shared = data.draw(arrays(np.float32, form.count, elements=normal))
    parameters = form.parameters(form.rounded(shared)).astype(np.float64)
    place = 0
    for size in sizes:
        here = slice(place, place + size)
        largest = float(np.abs(shared[here]).max())
        assert (np.abs(parameters[here] - shared[here]) <= largest / 127).all()
        place += size


@given(FORMATS, st.data())
def test_changes_lose_nothing(form, data):
    held = form.rounded(data.draw(vectors(form)))
    start = form.rounded(data.draw(vectors(form)))
    changes = form.write_changes(held, start)
    whole, before = form.write_whole(start), form.write_whole(held)
    assert len(whole) == form.whole_bytes == start.size
    assert same(form, form.read_whole(whole), start)
    if changes is not None:
        assert len(changes) < len(whole)
        assert same(form, form.read_changes(changes, held), start)
    assert form.write_whole(held) == before


@given(FORMATS, st.data())
def test_few_changes_are_short(form, data):
    shared = data.draw(vectors(form))
    start = form.rounded(shared)
    changes = form.write_changes(start, start)
    least = 8 + (len(form.write_whole(start)) - start.values.nbytes)
    assert changes is None if least >= form.whole_bytes else len(changes) == least


def read_or_refused(form, data, held):
    for read in (lambda: form.read_whole(data), lambda: form.read_changes(data, held)):
        try:
            start = read()
        except InvalidInput:
            continue
        assert start.values.shape == (form.count,)
        assert np.isfinite(form.parameters(start)).all()
        assert same(form, form.read_whole(form.write_whole(start)), start)


@given(FORMATS, st.binary(max_size=64), st.data())
def test_any_bytes_are_read_or_refused(form, data, draw):
    read_or_refused(form, data, form.rounded(draw.draw(vectors(form))))


@given(FORMATS, st.data())
def test_spoilt_bytes_are_read_or_refused(form, draw):
    held, start = (form.rounded(draw.draw(vectors(form))) for _ in range(2))
    for given_bytes in (form.write_whole(start), form.write_changes(held, start)):
        data = bytearray(given_bytes or b"\0")
        for _ in range(draw.draw(st.integers(1, 3))):
            where = draw.draw(st.integers(0, len(data) - 1))
            data[where] = draw.draw(st.integers(0, 255))
        cut = draw.draw(st.integers(0, len(data)))
        read_or_refused(form, bytes(data), held)
        read_or_refused(form, bytes(data[:cut]), held)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_model_that_is_not_finite_has_no_start(precision, bad):
    with pytest.raises(InvalidInput, match="not finite"):
        StartFormat(precision, [3]).rounded(np.array([1, bad, 0], np.float32))


def test_an_exponent_moves_when_a_layer_doubles_and_not_before():
    form = StartFormat("int8", [2])
    exponents = [
        int(form.rounded(np.array([largest, 0.1], np.float32)).exponents[0])
        for largest in (64, 100, 127, np.nextafter(np.float32(127), np.float32(200)), 200, 254)
    ]
    assert exponents == [0, 0, 0, 1, 1, 1]


def test_a_step_is_the_same_whatever_the_other_layers_are():
    layer = np.linspace(-1, 1, 50, dtype=np.float32)
    alone = StartFormat("int8", [50]).rounded(layer)
    among = StartFormat("int8", [3, 50]).rounded(np.concatenate(([9e9, 0, -1], layer), dtype="f4"))
    assert np.array_equal(among.values[3:], alone.values)
    assert among.exponents[1] == alone.exponents[0]
