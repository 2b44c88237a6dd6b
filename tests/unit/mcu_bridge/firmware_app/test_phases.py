"""A phase on the board has the bits of the same phase on a host, however its samples come."""

import struct
import zlib

import numpy as np
import pytest
from board import ENDED, Board
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from networks import (
    CROSS_ENTROPY,
    MSE,
    NETWORKS,
    chosen,
    draw_parameters,
    draw_samples,
    networks,
    phases,
)
from phases import GRADIENT, KEEP_START, on_sensor, plain, request_of, result_of, trained

from mcu_bridge.device.messages import (
    ENCODE,
    Command,
    Region,
    Status,
    evaluation_request,
    run_request,
)
from mcu_bridge.sample_encoding import encode_samples
from tinyfleet.learner.native import NativeLearner
from tinyfleet.learner.protocol import Samples
from tinyfleet.model.layers import Dense, ReLU, Tanh
from tinyfleet.strategies.plan import Phase

MLP = NETWORKS["mlp"]
SMALL = NETWORKS["tanh_mlp"]


def run(board, spec, parameters, samples, phase, command=Command.TRAIN):
    """RESULT and the parameters after the phase, from the line."""
    options = GRADIENT if phase.batch_size > 1 else 0
    options |= KEEP_START if phase.proximal else 0
    stored = phase.samples if phase.passes > 1 else 0
    board.prepare(spec, parameters, options, stored)
    request, data = request_of(spec, phase, samples)
    assert board.status(command, request) == Status.OK
    board.send(data)
    board.work()
    result = result_of(board.command(Command.RESULT))
    return result, board.read(Region.PARAMETERS, spec.parameter_bytes)


def assert_as_on_a_host(board, spec, samples, phase, seed):
    parameters = draw_parameters(spec, seed)
    expected, host = trained(board.library, spec, parameters, samples, phase)
    result, bits = run(board, spec, parameters, samples, phase)
    if not host.finite:
        assert (result["status"], result["diverged"], bits) == (Status.OK, 1, Status.WRONG_STATE)
        return
    assert bits == expected.tobytes()
    steps = phase.samples * phase.passes
    assert (result["status"], result["diverged"]) == (Status.OK, 0)
    assert (result["steps"], result["updates"]) == (steps, host.updates)
    assert result["loss_sum"] / steps == host.loss
    assert result["crc32"] == zlib.crc32(encode_samples(samples).data)


PHASES = {
    "online": Phase(9, 0.05),
    "batches": Phase(9, 0.05, batch_size=4),
    "one batch": Phase(9, 0.05, batch_size=9),
    "passes": Phase(5, 0.05, passes=3),
    "passes of batches": Phase(7, 0.05, batch_size=3, passes=2),
    "online, proximal": Phase(9, 0.05, proximal=2.0),
    "batches, proximal": Phase(9, 0.05, batch_size=4, passes=2, proximal=20.0),
}


@pytest.mark.parametrize("phase", PHASES.values(), ids=PHASES)
def test_a_phase_has_the_bits_of_the_hosts(board, network, phase, seed):
    samples = draw_samples(network, phase.samples, seed)
    assert_as_on_a_host(board, network, samples, phase, seed)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), spec=networks(), seed=st.integers(0, 2**32 - 1))
def test_any_phase_of_any_network_has_the_bits_of_the_hosts(app, data, spec, seed):
    phase = data.draw(phases(spec))
    with Board(app, 4_000_000) as board:
        samples = draw_samples(spec, phase.samples, seed)
        assert_as_on_a_host(board, spec, samples, phase, seed)


def test_the_next_phase_goes_on_from_the_last(board, seed):
    parameters = draw_parameters(MLP, seed)
    board.prepare(MLP, parameters)
    host = parameters.copy()
    for part, phase in enumerate((Phase(3, 0.1, trainable=("dense_1",)), Phase(40, 0.01))):
        samples = draw_samples(MLP, phase.samples, seed + part)
        request, data = request_of(MLP, phase, samples)
        assert board.status(Command.TRAIN, request) == Status.OK
        board.send(data)
        assert board.status(Command.RESULT) == Status.OK
        host, _ = trained(board.library, MLP, host, samples, phase)
    assert board.read(Region.PARAMETERS, MLP.parameter_bytes) == host.tobytes()


def test_a_later_phase_is_pulled_back_to_what_was_committed(board, seed):
    parameters = draw_parameters(MLP, seed)
    board.prepare(MLP, parameters, KEEP_START)
    host = parameters.copy()
    for part, phase in enumerate((Phase(9, 0.1), Phase(9, 0.1, proximal=5.0))):
        samples = draw_samples(MLP, phase.samples, seed + part)
        request, data = request_of(MLP, phase, samples)
        assert board.status(Command.TRAIN, request) == Status.OK
        board.send(data)
        NativeLearner(MLP, board.library).train(host, samples, phase, parameters)
    assert board.read(Region.PARAMETERS, MLP.parameter_bytes) == host.tobytes()


def test_a_start_that_an_update_used_up_pulls_no_more(board, seed):
    board.prepare(MLP, draw_parameters(MLP, seed), KEEP_START)
    encode = ENCODE.pack(2**64 - 1, 3, 2, 0, 0, 0, 0)
    assert board.status(Command.ENCODE, encode) == Status.OK
    request, _ = request_of(MLP, Phase(2, 0.1, proximal=1.0), draw_samples(MLP, 2, seed))
    assert board.status(Command.TRAIN, request) == Status.WRONG_STATE
    assert board.has_parameters


def test_bytes_and_classes_become_the_floats_that_they_stand_for(board, seed):
    random = np.random.default_rng(seed)
    inputs = random.integers(0, 256, (30, 5)).astype(np.float32) / np.float32(255)
    targets = np.eye(4, dtype=np.float32)[random.integers(0, 4, 30)]
    samples = Samples(inputs, targets)
    assert encode_samples(samples).sample_bytes == 5 + 2
    assert_as_on_a_host(board, SMALL, samples, Phase(30, 0.1), seed)


def test_samples_that_straddle_blocks_are_put_together(board, seed):
    wide = chosen("wide", (1, 1, 301), CROSS_ENTROPY, Dense(3))
    samples = draw_samples(wide, 5, seed)
    assert encode_samples(samples).sample_bytes == 4 * 301 + 2
    assert_as_on_a_host(board, wide, samples, Phase(5, 0.01), seed)


def test_samples_are_trained_on_as_they_come_and_passed_over_again_in_turns(board, seed):
    phase = Phase(4, 0.05, passes=3)
    board.prepare(MLP, draw_parameters(MLP, seed), stored=4)
    samples = draw_samples(MLP, 4, seed)
    encoded = plain(samples)
    board.command(Command.TRAIN, run_request(7, phase, encoded))
    board.send(encoded.data)
    result = result_of(board.command(Command.RESULT))
    assert (result["status"], result["steps"]) == (Status.INCOMPLETE, 4)
    assert board.work(5) == 5
    assert result_of(board.command(Command.RESULT))["steps"] == 9
    assert board.work() == 3
    assert result_of(board.command(Command.RESULT))["status"] == Status.OK


def test_only_the_learner_is_counted_in_ticks(board, seed):
    """The tests' clock ticks when it is looked at: once before and once after each step."""
    result, _ = run(
        board, MLP, draw_parameters(MLP, seed), draw_samples(MLP, 6, seed), Phase(6, 1e-3)
    )
    assert result["ticks"] == 6


# ---- the sensor ----


@pytest.mark.parametrize("phase", PHASES.values(), ids=PHASES)
def test_a_phase_on_the_sensor_has_the_bits_of_the_hosts(board, phase, seed):
    parameters = draw_parameters(SMALL, seed)
    samples = Samples(*board.sensor_samples(seed, phase.samples, SMALL.inputs, SMALL.outputs))
    expected, host = trained(board.library, SMALL, parameters, samples, phase)
    board.prepare(SMALL, parameters, GRADIENT | KEEP_START, stored=9)
    response = board.command(Command.TRAIN, on_sensor(SMALL, phase, seed))
    steps = phase.samples * phase.passes
    assert struct.unpack("<B3xII", response) == (Status.OK, steps, 0)
    assert board.work(3) == 3
    assert board.poll() == (3, 3, 1)
    board.work()
    assert board.poll()[0] == steps
    result = result_of(board.command(Command.RESULT))
    assert (result["loss_sum"] / steps, result["updates"]) == (host.loss, host.updates)
    assert board.read(Region.PARAMETERS, SMALL.parameter_bytes) == expected.tobytes()


def test_a_phase_on_the_sensor_goes_on_while_other_things_are_asked(board, seed):
    board.prepare(SMALL, draw_parameters(SMALL, seed))
    board.command(Command.TRAIN, on_sensor(SMALL, Phase(50, 0.01), seed))
    board.work(10)
    assert board.status(Command.COUNTERS) == Status.OK
    assert board.poll() == Status.NO_TRANSFER
    assert board.read(Region.PARAMETERS, SMALL.parameter_bytes) == Status.WRONG_STATE
    assert board.status(Command.ENCODE, bytes(ENCODE.size)) == Status.WRONG_STATE
    assert board.work() == 40
    assert board.status(Command.RESULT) == Status.OK


def test_a_board_without_a_sensor_says_so(board, app, seed):
    board.prepare(SMALL, draw_parameters(SMALL, seed))
    app.board_has_sensor(0)
    try:
        request = on_sensor(SMALL, Phase(5, 0.1), seed)
        assert board.status(Command.TRAIN, request) == Status.NO_SENSOR
    finally:
        app.board_has_sensor(1)


# ---- evaluation ----


@pytest.mark.parametrize("name", ["mlp", "tanh_mlp", "conv_padded"])
def test_an_evaluation_has_the_hosts_losses_and_answers(board, name, seed):
    spec = NETWORKS[name]
    parameters, samples = draw_parameters(spec, seed), draw_samples(spec, 40, seed)
    host = NativeLearner(spec, board.library)
    board.prepare(spec, parameters)
    encoded = encode_samples(samples)
    assert board.status(Command.EVALUATE, evaluation_request(40, encoded)) == Status.OK
    board.send(encoded.data)
    result = result_of(board.command(Command.RESULT))
    losses = host.losses(parameters, samples).astype(np.float64)
    answers = host.predict(parameters, samples.inputs).argmax(1) == samples.targets.argmax(1)
    assert result["loss_sum"] == sum(losses.tolist())
    assert (result["steps"], result["updates"]) == (40, 0)
    assert result["correct"] == answers.sum()
    assert board.read(Region.PARAMETERS, spec.parameter_bytes) == parameters.tobytes()


def test_an_evaluation_of_a_bad_loss_goes_on_and_says_so(board, seed):
    spec = chosen("wide", (1, 1, 1), MSE, Dense(1))
    board.prepare(spec, np.array([3e38, 0], np.float32))
    xs = np.array([[2.0], [0.0]], np.float32)
    encoded = plain(Samples(xs, xs))
    board.command(Command.EVALUATE, evaluation_request(2, encoded))
    board.send(encoded.data)
    result = result_of(board.command(Command.RESULT))
    assert (result["status"], result["diverged"], result["steps"]) == (Status.OK, 1, 2)
    assert board.has_parameters


# ---- what goes wrong ----


def diverging(board, spec, phase, samples, stored=0):
    """Samples sent until the board wants no more; RESULT."""
    parameters = draw_parameters(spec, 1)
    board.prepare(spec, parameters, GRADIENT, stored)
    encoded = plain(samples)
    board.command(Command.TRAIN, run_request(spec.layer_mask(()), phase, encoded))
    flags = board.send(encoded.data)
    board.work()
    return flags, result_of(board.command(Command.RESULT))


@pytest.mark.parametrize("batch_size", [1, 4])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_diverged_phase_ends_its_transfer_and_leaves_no_parameters(board, batch_size, bad, seed):
    samples = draw_samples(MLP, 200, seed)
    samples.inputs[70, 1] = bad
    phase = Phase(200, 0.001, batch_size=batch_size)
    flags, result = diverging(board, MLP, phase, samples)
    assert flags & ENDED
    assert (result["diverged"], result["steps"]) == (1, 71)
    assert result["updates"] == 70 // batch_size
    assert board.read(Region.PARAMETERS, MLP.parameter_bytes) == Status.WRONG_STATE
    assert board.write(Region.PARAMETERS, draw_parameters(MLP, 2).tobytes()) == Status.OK
    assert board.has_parameters


def test_parameters_that_overflow_in_the_last_step_are_no_parameters(board):
    spec = chosen("line", (1, 1, 1), MSE, Dense(1))
    samples = Samples(np.array([[1e30]], np.float32), np.array([[1e10]], np.float32))
    board.prepare(spec, np.zeros(2, np.float32))
    encoded = plain(samples)
    board.command(Command.TRAIN, run_request(1, Phase(1, 10.0), encoded))
    board.send(encoded.data)
    result = result_of(board.command(Command.RESULT))
    assert (result["status"], result["diverged"], result["updates"]) == (Status.OK, 1, 1)
    assert not board.has_parameters


def test_a_phase_on_the_sensor_that_diverges_says_so_when_polled(board, seed):
    spec = chosen("deep", (1, 1, 3), MSE, Dense(8), ReLU(), Dense(8), Tanh(), Dense(1))
    parameters = np.full(spec.parameter_count, 1e30, np.float32)
    board.prepare(spec, parameters)
    board.command(Command.TRAIN, on_sensor(spec, Phase(1000, 10.0), seed))
    board.work()
    frames = board.sent()
    assert frames[-1].payload[8] & ENDED
    assert result_of(board.command(Command.RESULT))["diverged"] == 1


@pytest.mark.parametrize("sample", [0, 50])
def test_a_class_that_is_none_ends_the_phase(board, sample, seed):
    samples = draw_samples(SMALL, 60, seed)
    parameters = draw_parameters(SMALL, seed)
    board.prepare(SMALL, parameters)
    request, data = request_of(SMALL, Phase(60, 0.01), samples)
    bad = bytearray(data)
    bad[(sample + 1) * 22 - 2] = 4
    board.command(Command.TRAIN, request)
    assert board.send(bytes(bad)) & ENDED
    result = result_of(board.command(Command.RESULT))
    assert (result["status"], result["steps"]) == (Status.BAD_REQUEST, sample)
    assert board.has_parameters == (sample == 0)
