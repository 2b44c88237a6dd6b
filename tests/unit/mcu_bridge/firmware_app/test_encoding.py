"""ENCODE gives the bytes that the host would send of the same change."""

import struct

import numpy as np
import pytest
from board import Board
from networks import NETWORKS, draw_parameters, draw_samples
from phases import KEEP_START, request_of

from mcu_bridge.device.messages import ENCODE, ENCODED, Command, Region, Status
from mcu_bridge.device.update import encode_request
from tinyfleet.exchange import Exchange
from tinyfleet.learner.protocol import Samples
from tinyfleet.strategies.plan import Phase, TrainingPlan, Upload

SPEC = NETWORKS["conv_padded"]
LAYERS = [placed.name for placed in SPEC.placed if placed.start < placed.stop]
PHASE = Phase(5, 0.1)
SLOT = (2**63 - 1, 7, 1023)


def exchange_of(local=(), fraction=0.25, precision="int8", spec=SPEC):
    return Exchange(spec, TrainingPlan((PHASE,), local, Upload(fraction, precision)))


def request(exchange):
    return encode_request(exchange, exchange.noise(*SLOT))


def encoded(board, exchange):
    """The fields of ENCODE's answer, which must be OK."""
    response = board.command(Command.ENCODE, request(exchange))
    assert response[0] == Status.OK
    return ENCODED.unpack(response)[1:]


@pytest.fixture
def trained_board(app, seed):
    """A board that trained SPEC, with its parameters before and after."""
    with Board(app, 65536) as board:
        start = draw_parameters(SPEC, seed)
        board.prepare(SPEC, start, KEEP_START)
        payload, data = request_of(SPEC, PHASE, draw_samples(SPEC, 5, seed))
        board.command(Command.TRAIN, payload)
        board.send(data)
        bits = board.read(Region.PARAMETERS, SPEC.parameter_bytes)
        yield board, start, np.frombuffer(bits, np.float32)


@pytest.mark.parametrize("precision", ["float32", "float16", "int8"])
@pytest.mark.parametrize("fraction", [1e-9, 0.05, 0.25, 0.999, 1.0])
@pytest.mark.parametrize("local", [(), (LAYERS[0],), (LAYERS[1],), (LAYERS[0], LAYERS[-1])])
def test_the_update_is_what_the_host_would_send(trained_board, local, fraction, precision):
    exchange = exchange_of(local, fraction, precision)
    if exchange.is_dense:
        return
    board, start, trained = trained_board
    size, squares, ticks = encoded(board, exchange)
    delta = trained - start
    expected = exchange.encode(delta, *SLOT)
    assert board.read(Region.UPDATE, size) == expected
    assert squares == pytest.approx(float(np.square(delta, dtype=np.float64).sum()), rel=1e-5)
    assert ticks > 0
    assert board.read(Region.PARAMETERS, SPEC.parameter_bytes) == trained.tobytes()


def test_the_update_is_read_from_any_offset(trained_board):
    board, start, trained = trained_board
    exchange = exchange_of(fraction=0.5)
    size, *_ = encoded(board, exchange)
    expected = exchange.encode(trained - start, *SLOT)
    for offset in range(0, size, 4):
        for length in {1, min(9, size - offset), size - offset}:
            part = board.read(Region.UPDATE, length, offset)
            assert part == expected[offset : offset + length]


def test_the_start_is_used_up_until_parameters_are_written(trained_board):
    board, start, _ = trained_board
    encoded(board, exchange_of())
    assert board.status(Command.ENCODE, request(exchange_of())) == Status.WRONG_STATE
    assert board.write(Region.PARAMETERS, start.tobytes()) == Status.OK
    assert board.read(Region.UPDATE, 4) == Status.WRONG_STATE
    size, squares, _ = encoded(board, exchange_of())
    assert (size, squares) == (12, 0.0)  # nothing has changed: a header and a scale
    assert board.read(Region.UPDATE, 12) == exchange_of().encode(start - start, *SLOT)


@pytest.mark.parametrize(
    "changed",
    [
        {"entries": 0},
        {"entries": exchange_of().count + 1},
        {"entries": 2**32 - 1},
        {"layers": 0},
        {"layers": 0b10},  # a layer without parameters
        {"layers": 2**64 - 1 - SPEC.layer_mask(tuple(LAYERS))},
        {"precision": 3},
        {"precision": 255},
    ],
)
def test_a_request_out_of_range_is_refused_and_keeps_the_start(trained_board, changed):
    board, _, _ = trained_board
    fields = {"layers": 2**64 - 1, "entries": 1, "precision": 2} | changed
    payload = ENCODE.pack(*fields.values(), 0, 0, 0, 0)
    assert board.status(Command.ENCODE, payload) == Status.BAD_REQUEST
    assert board.read(Region.UPDATE, 4) == Status.WRONG_STATE
    encoded(board, exchange_of())


@pytest.mark.parametrize("at", [13, 14, 15])
def test_a_byte_that_must_be_zero_is_refused_otherwise(trained_board, at):
    board, _, _ = trained_board
    payload = bytearray(request(exchange_of()))
    payload[at] = 1
    assert board.status(Command.ENCODE, bytes(payload)) == Status.BAD_REQUEST


def test_bits_of_no_layer_are_ignored(trained_board):
    board, start, trained = trained_board
    exchange = exchange_of((LAYERS[0],))
    words = struct.unpack("<QIB3xQQQQ", request(exchange))
    above = (2**64 - 1) << len(SPEC.layers) & 2**64 - 1
    response = board.command(Command.ENCODE, ENCODE.pack(words[0] | above, *words[1:]))
    size = ENCODED.unpack(response)[1]
    assert board.read(Region.UPDATE, size) == exchange.encode(trained - start, *SLOT)


def test_without_the_option_there_is_nothing_to_compare_with(board, seed):
    board.prepare(SPEC, draw_parameters(SPEC, seed))
    assert board.status(Command.ENCODE, request(exchange_of())) == Status.WRONG_STATE


def test_a_change_whose_square_is_beyond_float32_is_not_encoded(board):
    """The host has to look at it: the parameters stay, the start is used up all the same.

    The loss of a target of 1.2e19 is just finite, and a step of rate 10 goes 1.2e20.
    """
    spec = NETWORKS["one_dense"]
    far = Samples(np.zeros((1, 3), np.float32), np.full((1, 2), 1.2e19, np.float32))
    board.prepare(spec, np.zeros(spec.parameter_count, np.float32), KEEP_START)
    payload, data = request_of(spec, Phase(1, 10.0), far)
    board.command(Command.TRAIN, payload)
    board.send(data)
    trained = board.read(Region.PARAMETERS, spec.parameter_bytes)
    assert np.frombuffer(trained, np.float32)[-2:] == pytest.approx(1.2e20)
    size, squares, _ = encoded(board, exchange_of(spec=spec))
    assert (size, squares) == (0, np.inf)
    assert board.read(Region.UPDATE, 1) == Status.WRONG_STATE
    assert board.status(Command.ENCODE, request(exchange_of(spec=spec))) == Status.WRONG_STATE
    assert board.read(Region.PARAMETERS, spec.parameter_bytes) == trained
