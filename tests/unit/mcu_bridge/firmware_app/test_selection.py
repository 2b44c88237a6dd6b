"""The board finds the same largest changes as a stable sort."""

import ctypes
import struct

import numpy as np
import pytest
from board import Board
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from networks import NETWORKS, draw_parameters, draw_samples
from phases import KEEP_START, request_of

from mcu_bridge.device.messages import Command, Region, Status
from mcu_bridge.device.selection import parse_selection
from tinyfleet.strategies.plan import Phase

SPEC = NETWORKS["tanh_mlp"]
COUNT = struct.Struct("<I")
any_float = st.floats(width=32, allow_nan=False, allow_infinity=False)
few_values = st.sampled_from([0.0, -0.0, 1.0, -1.0, 2.0**-149, 3.4e38, -3.4e38])


def by_sorting(trained, start, count):
    with np.errstate(over="ignore"):
        differences = trained - start
    indices = np.sort(np.argsort(-np.abs(differences), kind="stable")[:count])
    return indices, differences[indices]


def chosen_by_c(library, trained, start, count):
    """Indices and differences; the bits after the last parameter must be 0."""
    bitmap = (ctypes.c_uint8 * ((len(start) + 7) // 8))(*[0xFF] * ((len(start) + 7) // 8))
    work = start.copy()
    library.selection_choose(trained.ctypes.data, work.ctypes.data, len(start), count, bitmap)
    bits = np.unpackbits(np.frombuffer(bitmap, np.uint8), bitorder="little")
    assert not bits[len(start) :].any()
    return np.flatnonzero(bits), work[:count]


@settings(max_examples=300)
@given(
    data=st.data(), parameters=st.integers(1, 70), values=st.sampled_from([any_float, few_values])
)
def test_the_largest_changes_are_those_of_a_stable_sort(app, data, parameters, values):
    trained = data.draw(arrays(np.float32, parameters, elements=values))
    start = data.draw(arrays(np.float32, parameters, elements=values))
    count = data.draw(st.integers(1, parameters))
    indices, differences = chosen_by_c(app, trained, start, count)
    expected, values_expected = by_sorting(trained, start, count)
    assert np.array_equal(indices, expected)
    assert differences.tobytes() == values_expected.tobytes()


@pytest.mark.parametrize("share", [0.001, 0.1, 0.25, 1.0])
def test_many_changes_are_found_too(app, share, seed):
    random = np.random.default_rng(seed)
    trained, start = random.normal(size=(2, 28_709)).astype(np.float32)
    count = max(1, int(share * len(start)))
    indices, differences = chosen_by_c(app, trained, start, count)
    expected, values = by_sorting(trained, start, count)
    assert np.array_equal(indices, expected)
    assert differences.tobytes() == values.tobytes()


@pytest.fixture
def trained_board(app, seed):
    """A board that trained `SPEC`, with its parameters before and after."""
    with Board(app, 65536) as board:
        start = draw_parameters(SPEC, seed)
        board.prepare(SPEC, start, KEEP_START)
        request, data = request_of(SPEC, Phase(5, 0.1), draw_samples(SPEC, 5, seed))
        board.command(Command.TRAIN, request)
        board.send(data)
        bits = board.read(Region.PARAMETERS, SPEC.parameter_bytes)
        yield board, start, np.frombuffer(bits, np.float32)


@pytest.mark.parametrize("count", [1, 13, SPEC.parameter_count])
def test_select_tells_the_change_since_the_commit(trained_board, count):
    board, start, trained = trained_board
    size = (SPEC.parameter_count + 7) // 8 + 4 * count
    response = board.command(Command.SELECT, COUNT.pack(count))
    assert struct.unpack("<B3xII", response) == (Status.OK, count, size)
    data = board.read(Region.SELECTION, size)
    selection = parse_selection(data, count, SPEC.parameter_count)
    indices, values = by_sorting(trained, start, count)
    assert np.array_equal(selection.indices, indices)
    assert selection.values.tobytes() == values.tobytes()
    assert board.read(Region.SELECTION, size - 8, 8) == data[8:]
    assert board.read(Region.PARAMETERS, SPEC.parameter_bytes) == trained.tobytes()


def test_the_start_is_used_up_until_parameters_are_written(trained_board):
    board, start, _ = trained_board
    assert board.status(Command.SELECT, COUNT.pack(3)) == Status.OK
    assert board.status(Command.SELECT, COUNT.pack(3)) == Status.WRONG_STATE
    assert board.write(Region.PARAMETERS, start.tobytes()) == Status.OK
    assert board.read(Region.SELECTION, 4) == Status.WRONG_STATE
    assert board.status(Command.SELECT, COUNT.pack(3)) == Status.OK
    assert np.frombuffer(board.read(Region.SELECTION, 24), np.float32)[3:].tolist() == [0, 0, 0]


@pytest.mark.parametrize("count", [0, SPEC.parameter_count + 1, 2**32 - 1])
def test_a_count_out_of_range_is_refused_and_keeps_the_start(trained_board, count):
    board, _, _ = trained_board
    assert board.status(Command.SELECT, COUNT.pack(count)) == Status.BAD_REQUEST
    assert board.status(Command.SELECT, COUNT.pack(1)) == Status.OK


def test_without_the_option_there_is_nothing_to_compare_with(board, seed):
    board.prepare(SPEC, draw_parameters(SPEC, seed))
    assert board.status(Command.SELECT, COUNT.pack(1)) == Status.WRONG_STATE
