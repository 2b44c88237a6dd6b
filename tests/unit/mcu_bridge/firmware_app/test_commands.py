"""Each command byte by byte: what it answers, what it refuses; and a refusal changes nothing."""

import re
import struct
import zlib

import numpy as np
import pytest
from board import FIRMWARE, Board
from networks import CROSS_ENTROPY, NETWORKS, chosen, draw_parameters, draw_samples
from phases import GRADIENT, KEEP_START, plain, request_of

import tinyfleet
from mcu_bridge.device import messages
from mcu_bridge.device.messages import (
    CONFIGURE,
    READ,
    WRITE,
    Command,
    DeviceCounters,
    Region,
    Status,
    unpack,
)
from tinyfleet.learner.native import ABI_VERSION
from tinyfleet.model.layers import Dense
from tinyfleet.strategies.plan import MAX_PASSES, MAX_PROXIMAL, MAX_SAMPLES, Phase

SPEC = NETWORKS["tanh_mlp"]  # 5 inputs, 4 outputs, 94 parameters
CONV = NETWORKS["conv_padded"]
LENGTHS = {
    Command.IDENTIFY: (4, 84),
    Command.CONFIGURE: (8, 28),
    Command.WRITE: (8, 12),
    Command.COMMIT: (4, 4),
    Command.READ: (12, 12),
    Command.TRAIN: (40, 12),
    Command.EVALUATE: (40, 12),
    Command.RESULT: (0, 36),
    Command.COUNTERS: (0, 52),
    Command.RESET: (0, 4),
    Command.ENCODE: (48, 20),
}
COMMIT = struct.Struct("<I")


@pytest.fixture
def ready(board, seed):
    """A board with a model, its options, and parameters."""
    board.prepare(SPEC, draw_parameters(SPEC, seed), KEEP_START | GRADIENT, stored=4)
    return board


# ---- what the two languages must agree on ----


def test_the_numbers_are_the_same_in_c_and_python():
    header = (FIRMWARE / "app/protocol.h").read_text("utf-8")
    known = {**Command.__members__, **Status.__members__}
    found = {name: int(value, 0) for name, value in re.findall(r"DEVICE_(\w+) = (\w+)", header)}
    assert {name: found[name] for name in known} == known
    assert {region.name: found[region.name] for region in Region} == Region.__members__
    bounds = dict(re.findall(r"#define DEVICE_(\w+) ([\d.]+)[uf]", header))
    assert int(bounds["PROTOCOL_VERSION"]) == messages.PROTOCOL_VERSION
    assert (int(bounds["KEEP_START"]), int(bounds["GRADIENT"])) == (KEEP_START, GRADIENT)
    assert (int(bounds["MAX_SAMPLES"]), int(bounds["MAX_PASSES"])) == (MAX_SAMPLES, MAX_PASSES)
    assert float(bounds["MAX_PROXIMAL"]) == MAX_PROXIMAL


def test_the_firmwares_version_is_the_packages():
    header = (FIRMWARE / "app/version.h").read_text("utf-8")
    assert re.search(r'#define FIRMWARE_VERSION "(.*)"', header)[1] == tinyfleet.__version__


def test_the_page_tells_every_length():
    page = (FIRMWARE.parents[1] / "docs/formats/device.md").read_text("utf-8")
    for command, (request, response) in LENGTHS.items():
        section = page.split(f"## {command.name} (0x{command:02X})")[1].split("\n## ")[0]
        if command is not Command.EVALUATE:  # "are TRAIN's"
            assert f"Response, {response} bytes" in section
            assert ("No payload" if request == 0 else f"Request, {request} bytes") in section


# ---- lengths ----


@pytest.mark.parametrize("command", LENGTHS, ids=lambda command: command.name)
def test_a_payload_of_another_length_is_refused(ready, command, seed):
    before = ready.parameters(SPEC.parameter_count)
    request, _ = LENGTHS[command]
    for length in {0, request - 1, request + 1, 256} - {request, -1}:
        response = ready.command(command, bytes(length))
        assert response == bytes([Status.BAD_REQUEST, 0, 0, 0])
    assert ready.read(Region.PARAMETERS, len(before)) == before


@pytest.mark.parametrize("command", [0x09, 0x0D, 0x20, 0x3F])
def test_an_unknown_command_is_answered(ready, command):
    for payload in (b"", bytes(256)):
        assert ready.command(command, payload) == bytes([Status.UNKNOWN_COMMAND, 0, 0, 0])
    assert ready.has_parameters


# ---- IDENTIFY ----


def test_identify_tells_who_the_board_is(board, app):
    app.board_fault(0, 9, 9, 9, 9)
    response = board.command(Command.IDENTIFY, struct.pack("<I", 99))
    fields = unpack(Command.IDENTIFY, response)
    assert fields[:9] == (
        2,
        1,
        7,
        ABI_VERSION,
        65536,
        1024,
        messages.PROTOCOL_VERSION,
        64_000_000,
        1000,
    )
    assert fields[9] == bytes(range(1, 9))
    assert fields[10:12] == (
        b"tested".ljust(16, b"\0"),
        tinyfleet.__version__.encode().ljust(16, b"\0"),
    )
    assert fields[12:] == (0, 0, 0, 0)


def test_identify_tells_the_last_fault(board, app):
    magic = int(
        re.search(r"PORT_FAULT_MAGIC (0x\w+)u", (FIRMWARE / "port/port.h").read_text())[1], 16
    )
    app.board_fault(magic, 1, 2, 3, 4)
    assert unpack(Command.IDENTIFY, board.command(Command.IDENTIFY, COMMIT.pack(1)))[12:] == (
        1,
        2,
        3,
        4,
    )
    app.board_fault(0, 0, 0, 0, 0)


def test_the_first_boot_id_stays_and_zero_is_none(app):
    with Board(app, 1000, boot_id=None) as board:
        assert board.status(Command.IDENTIFY, bytes(4)) == Status.BAD_REQUEST
        assert board.status(Command.COUNTERS) == Status.NOT_IDENTIFIED
        for offered in (5, 6):
            response = board.command(Command.IDENTIFY, struct.pack("<I", offered))
            assert unpack(Command.IDENTIFY, response)[2] == 5


# ---- CONFIGURE ----


def needed(spec, options, stored):
    """The page's formula."""
    n, sample = spec.parameter_count, 4 * (spec.inputs + spec.outputs)
    start = 4 * n + -(-((n + 7) // 8) // 4) * 4 if options & KEEP_START else 0
    gradient = 4 * n if options & GRADIENT else 0
    return 20 * len(spec.layers) + sample + 4 * n + start + gradient + stored * sample


@pytest.mark.parametrize("options", range(4))
@pytest.mark.parametrize("stored", [0, 3])
def test_a_model_takes_what_the_page_says_and_not_a_byte_more(app, network, options, stored):
    with Board(app, 1_000_000) as board:
        status, takes, available, *sizes, arena = struct.unpack(
            "<B3xIIIIII", board.configure(network, options, stored)
        )
    assert (status, available) == (Status.OK, 1_000_000)
    assert sizes == [network.inputs, network.outputs, network.parameter_count]
    assert takes == needed(network, options, stored) + arena
    with Board(app, takes) as board:
        assert board.configure(network, options, stored)[0] == Status.OK
    with Board(app, takes - 1) as board:
        response = board.configure(network, options, stored)
        assert struct.unpack("<BxxxII", response[:12]) == (Status.DOES_NOT_FIT, takes, takes - 1)
        request = WRITE.pack(Region.PARAMETERS, 0, network.parameter_bytes)
        assert board.status(Command.WRITE, request) == Status.WRONG_STATE


def test_a_model_beyond_counting_does_not_fit(board):
    response = board.configure(chosen("large", (1, 1, 2000), CROSS_ENTROPY, Dense(2000)), 3, 10**6)
    assert struct.unpack("<BxxxII", response[:12]) == (Status.DOES_NOT_FIT, 2**32 - 1, 65536)


def table_of(*rows):
    return b"".join(struct.pack("<BBBBHHIHHI", *row) for row in rows)


@pytest.mark.parametrize(
    ("table", "status"),
    [
        (table_of((99, 0, 0, 0, 1, 1, 2, 1, 1, 2)), Status.BAD_LAYER),
        (table_of((1, 0, 0, 0, 1, 1, 0, 1, 1, 2)), Status.TOO_LARGE),
        (table_of((1, 0, 0, 0, 1, 1, 2**32 - 1, 1, 1, 2**32 - 1)), Status.TOO_LARGE),
        (table_of((1, 0, 0, 0, 1, 1, 4_000_000, 1, 1, 4_000_000)), Status.TOO_LARGE),
        (
            table_of((1, 0, 0, 0, 1, 1, 2, 1, 1, 3), (1, 0, 0, 0, 1, 1, 2, 1, 1, 3)),
            Status.BAD_LAYER,
        ),
        (bytes(1280), Status.TOO_LARGE),
        (b"\xff" * 1280, Status.TOO_LARGE),
    ],
)
def test_a_table_that_is_no_network_is_refused(ready, table, status):
    assert ready.write(Region.TABLE, table) == Status.OK
    answer = ready.command(Command.CONFIGURE, CONFIGURE.pack(len(table) // 20, 1, 0, 0))
    assert (answer[0], len(answer)) == (status, 28)
    assert not ready.has_parameters


@pytest.mark.parametrize(
    "request_bytes",
    [
        CONFIGURE.pack(2, 2, 0, 0),
        CONFIGURE.pack(0, 2, 0, 0),
        CONFIGURE.pack(255, 2, 0, 0),
        CONFIGURE.pack(3, 0, 0, 0),
        CONFIGURE.pack(3, 3, 0, 0),
        CONFIGURE.pack(3, 2, 4, 0),
        CONFIGURE.pack(3, 2, 0, 1_000_001),
        CONFIGURE.pack(3, 2, 0, 2**32 - 1),
        bytes([3, 2, 0, 1, 0, 0, 0, 0]),
    ],
)
def test_a_configuration_out_of_range_is_refused_and_the_former_model_gone(ready, request_bytes):
    assert ready.status(Command.CONFIGURE, request_bytes) == Status.BAD_REQUEST
    assert ready.read(Region.PARAMETERS, 4) == Status.WRONG_STATE
    request = WRITE.pack(Region.PARAMETERS, 0, SPEC.parameter_bytes)
    assert ready.status(Command.WRITE, request) == Status.WRONG_STATE
    assert (
        ready.status(Command.CONFIGURE, CONFIGURE.pack(3, 2, 0, 0)) == Status.OK
    )  # the table stayed


# ---- WRITE, COMMIT ----


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (WRITE.pack(0, 0, 20), Status.BAD_REQUEST),
        (WRITE.pack(4, 0, 20), Status.BAD_REQUEST),
        (WRITE.pack(1, 2, 20), Status.BAD_REQUEST),
        (bytes([1, 0, 1, 0, 20, 0, 0, 0]), Status.BAD_REQUEST),
        (bytes([1, 0, 0, 1, 20, 0, 0, 0]), Status.BAD_REQUEST),
        (WRITE.pack(1, 0, 0), Status.BAD_REQUEST),
        (WRITE.pack(1, 0, 21), Status.BAD_REQUEST),
        (WRITE.pack(1, 0, 1300), Status.BAD_REQUEST),
        (WRITE.pack(1, 0, 2**32 - 16), Status.BAD_REQUEST),
        (WRITE.pack(2, 0, 0), Status.BAD_REQUEST),
        (WRITE.pack(2, 0, 4 * 94 - 4), Status.BAD_REQUEST),
        (WRITE.pack(2, 1, 4 * 94 + 4), Status.BAD_REQUEST),
    ],
)
def test_a_write_out_of_range_is_refused_and_changes_nothing(ready, request_bytes, status):
    before = ready.parameters(94)
    assert ready.command(Command.WRITE, request_bytes) == bytes([status, 0, 0, 0])
    assert ready.read(Region.PARAMETERS, 4 * 94) == before


def test_a_table_needs_its_memory(app):
    with Board(app, 1279) as board:
        assert board.status(Command.WRITE, WRITE.pack(1, 0, 1260)) == Status.OK
        assert board.status(Command.WRITE, WRITE.pack(1, 0, 1280)) == Status.DOES_NOT_FIT


def test_there_is_nothing_to_commit_before_a_write_or_after_a_commit(ready):
    assert ready.status(Command.COMMIT, COMMIT.pack(0)) == Status.WRONG_STATE
    assert ready.has_parameters


def test_an_upload_that_was_cut_is_resumed(board, seed):
    parameters = draw_parameters(CONV, seed)
    data, crc32 = parameters.tobytes(), zlib.crc32(parameters.tobytes())
    assert len(data) == 1796
    board.configure(CONV)
    board.command(Command.WRITE, WRITE.pack(Region.PARAMETERS, 0, len(data)))
    board.send(data, blocks=3)
    assert board.status(Command.COMMIT, COMMIT.pack(crc32)) == Status.INCOMPLETE
    board.command(Command.IDENTIFY, COMMIT.pack(1))
    response = board.command(Command.WRITE, WRITE.pack(Region.PARAMETERS, 1, len(data)))
    assert struct.unpack("<B3xII", response) == (Status.OK, 756, 756 + 3 * 252)
    board.send(data, start=756)
    response = board.command(Command.WRITE, WRITE.pack(Region.PARAMETERS, 1, len(data)))
    assert struct.unpack("<B3xII", response) == (Status.OK, len(data), len(data))
    assert board.status(Command.COMMIT, COMMIT.pack(crc32)) == Status.OK
    assert board.read(Region.PARAMETERS, len(data)) == data


def test_without_resume_and_for_another_total_it_starts_anew(board):
    board.command(Command.WRITE, WRITE.pack(Region.TABLE, 0, 640))
    board.send(bytes(640), blocks=2)
    response = board.command(Command.WRITE, WRITE.pack(Region.TABLE, 1, 660))
    assert struct.unpack("<B3xII", response)[1] == 0
    board.send(bytes(660), blocks=2)
    response = board.command(Command.WRITE, WRITE.pack(Region.TABLE, 0, 660))
    assert struct.unpack("<B3xII", response)[1] == 0


def test_a_configuration_ends_an_upload_of_parameters(ready):
    ready.command(Command.WRITE, WRITE.pack(Region.PARAMETERS, 0, 376))
    ready.send(bytes(376), blocks=1)
    assert ready.status(Command.CONFIGURE, CONFIGURE.pack(3, 2, 1, 0)) == Status.OK
    response = ready.command(Command.WRITE, WRITE.pack(Region.PARAMETERS, 1, 376))
    assert struct.unpack("<B3xI", response[:8]) == (Status.OK, 0)


def test_an_upload_of_a_table_outlives_a_configuration_that_was_refused(ready):
    ready.command(Command.WRITE, WRITE.pack(Region.TABLE, 0, 640))
    ready.send(bytes(640), blocks=1)
    assert ready.status(Command.CONFIGURE, CONFIGURE.pack(32, 2, 1, 0)) == Status.WRONG_STATE
    response = ready.command(Command.WRITE, WRITE.pack(Region.TABLE, 1, 640))
    assert struct.unpack("<B3xI", response[:8]) == (Status.OK, 252)


def test_corrupt_content_is_refused_and_must_come_anew(ready, seed):
    data = draw_parameters(SPEC, seed + 1).tobytes()
    ready.command(Command.WRITE, WRITE.pack(Region.PARAMETERS, 0, len(data)))
    ready.send(data)
    assert ready.status(Command.COMMIT, COMMIT.pack(zlib.crc32(data) ^ 1)) == Status.CORRUPT
    assert ready.status(Command.COMMIT, COMMIT.pack(zlib.crc32(data))) == Status.WRONG_STATE
    assert ready.read(Region.PARAMETERS, 4) == Status.WRONG_STATE
    response = ready.command(Command.WRITE, WRITE.pack(Region.PARAMETERS, 1, len(data)))
    assert struct.unpack("<B3xII", response)[1] == 0


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_parameters_that_are_not_finite_are_refused(ready, bad):
    parameters = np.zeros(94, np.float32)
    parameters[93] = bad
    assert ready.write(Region.PARAMETERS, parameters.tobytes()) == Status.BAD_REQUEST
    assert ready.read(Region.PARAMETERS, 4) == Status.WRONG_STATE


# ---- READ ----


def test_any_range_can_be_read(ready):
    whole = ready.parameters(94)
    for offset, length in ((0, 376), (0, 1), (372, 4), (4, 252), (100, 253), (8, 368)):
        assert ready.read(Region.PARAMETERS, length, offset) == whole[offset : offset + length]


@pytest.mark.parametrize(
    "request_bytes",
    [
        READ.pack(1, 0, 20),
        READ.pack(0, 0, 4),
        READ.pack(3, 0, 4),
        READ.pack(2, 2, 4),
        READ.pack(2, 0, 0),
        READ.pack(2, 0, 377),
        READ.pack(2, 376, 4),
        READ.pack(2, 372, 5),
        READ.pack(2, 4, 2**32 - 4),
        READ.pack(2, 2**32 - 4, 8),
        bytes([2, 1, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0]),
    ],
)
def test_a_range_outside_of_the_region_is_refused(ready, request_bytes):
    assert ready.command(Command.READ, request_bytes) == bytes([Status.BAD_REQUEST, 0, 0, 0])


# ---- TRAIN, EVALUATE ----


def request(**changes):
    fields = {
        "trainable": 7,
        "samples": 4,
        "batch": 1,
        "passes": 1,
        "rate": 0.1,
        "source": 0,
        "inputs": 0,
        "targets": 0,
        "zero": 0,
        "divisor": 1.0,
        "seed": 0,
        "proximal": 0.0,
    }
    return struct.pack("<QIIIfBBBBfIf", *(fields | changes).values())


OUT_OF_RANGE = [
    *({"samples": n} for n in (0, 1_000_001, 2**32 - 1)),
    *({"batch": n} for n in (0, 5, 2**32 - 1)),
    *({"passes": n} for n in (0, 10_001, 2**32 - 1)),
    *({"rate": rate} for rate in (0.0, -0.1, 10.1, np.nan, np.inf, -np.inf)),
    *({"divisor": divisor} for divisor in (0.0, -1.0, np.nan, np.inf)),
    *({"proximal": proximal} for proximal in (-0.1, 1000.1, np.nan, np.inf)),
    *({name: 2} for name in ("source", "inputs", "targets")),
    *({name: 255} for name in ("source", "inputs", "targets", "zero")),
    {"samples": 1_000_000, "passes": 5000},
]


@pytest.mark.parametrize("changes", OUT_OF_RANGE, ids=str)
def test_a_phase_out_of_range_is_refused_and_changes_nothing(ready, changes):
    before = ready.parameters(94)
    assert ready.command(Command.TRAIN, request(**changes)) == bytes([Status.BAD_REQUEST, 0, 0, 0])
    assert ready.read(Region.PARAMETERS, 376) == before
    assert ready.status(Command.RESULT) == Status.WRONG_STATE


def test_more_sample_bytes_than_a_transfer_can_count_are_refused(app):
    wide = chosen("wide", (1, 1, 2000), CROSS_ENTROPY, Dense(2))
    with Board(app, 100_000) as board:
        board.prepare(wide, np.zeros(wide.parameter_count, np.float32))
        most = (2**32 - 1) // (4 * 2002)
        assert board.status(Command.TRAIN, request(samples=most)) == Status.OK
        board.prepare(wide, np.zeros(wide.parameter_count, np.float32))
        assert board.status(Command.TRAIN, request(samples=most + 1)) == Status.BAD_REQUEST


@pytest.mark.parametrize(
    "changes",
    [{"batch": 2}, {"passes": 2}, {"samples": 5, "passes": 2}, {"proximal": 0.1}],
    ids=str,
)
def test_a_phase_needs_the_options_it_was_not_configured_with(ready, changes):
    stored = 4 if changes.get("samples") == 5 else 0
    assert ready.configure(SPEC, 0, stored)[0] == Status.OK
    ready.write(Region.PARAMETERS, bytes(376))
    assert ready.status(Command.TRAIN, request(**changes)) == Status.WRONG_STATE
    assert ready.has_parameters


EVALUATION = {"trainable": 0, "rate": 0.0}


@pytest.mark.parametrize(
    "changes",
    [{"trainable": 1}, {"batch": 2}, {"passes": 2}, {"rate": 0.1}, {"proximal": 0.1}],
    ids=str,
)
def test_an_evaluation_learns_nothing(ready, changes):
    response = ready.command(Command.EVALUATE, request(**EVALUATION))
    assert struct.unpack("<B3xII", response) == (Status.OK, 4 * 36, 4 * 36)
    assert ready.status(Command.EVALUATE, request(**(EVALUATION | changes))) == Status.BAD_REQUEST


def test_the_response_says_how_many_bytes_may_come(ready):
    for encodings, sample_bytes in (((0, 0), 36), ((1, 0), 21), ((0, 1), 22), ((1, 1), 7)):
        changes = dict(zip(("inputs", "targets"), encodings, strict=True))
        response = ready.command(Command.TRAIN, request(samples=900, **changes))
        assert struct.unpack("<B3xII", response) == (Status.OK, 900 * sample_bytes, 756)


@pytest.mark.parametrize("command", [Command.COUNTERS, Command.RESULT, Command.IDENTIFY, 0x30])
def test_any_command_abandons_a_phase_that_waits_for_samples(ready, command, seed):
    samples = draw_samples(SPEC, 4, seed)
    payload, _ = request_of(SPEC, Phase(4, 0.1), samples)
    before = ready.parameters(94)
    ready.command(Command.TRAIN, payload)
    ready.command(command, COMMIT.pack(1) if command == Command.IDENTIFY else b"")
    assert ready.status(Command.RESULT) == Status.WRONG_STATE
    assert ready.read(Region.PARAMETERS, 376) == before  # nothing had been learnt
    ready.command(Command.TRAIN, request(samples=900))
    ready.send(plain(samples).data * 225, blocks=1)
    ready.command(command, COMMIT.pack(1) if command == Command.IDENTIFY else b"")
    assert ready.status(Command.RESULT) == Status.WRONG_STATE
    assert ready.read(Region.PARAMETERS, 376) == Status.WRONG_STATE


# ---- COUNTERS, RESET ----


def test_counters_count_since_the_reset(ready, seed):
    payload, data = request_of(SPEC, Phase(4, 0.1), draw_samples(SPEC, 4, seed))
    ready.command(Command.TRAIN, payload)
    ready.send(data)
    ready.library.board_receive(ready.device, b"\x05abc\0", 5)
    counted = DeviceCounters(*unpack(Command.COUNTERS, ready.command(Command.COUNTERS)))
    assert counted.samples_trained == 4
    assert counted.malformed == 1
    assert counted.frames > 10
    assert (counted.ring_overrun_bytes, counted.stack_used_bytes, counted.stack_bytes) == (
        3,
        1000,
        4096,
    )
    assert counted.uptime_ms == 77


def test_a_reset_comes_when_the_response_has_left(board):
    assert not board.library.board_resets_now(board.device)
    assert board.command(Command.RESET) == bytes(4)
    assert board.library.board_resets_now(board.device)


def test_a_memory_that_holds_nothing_is_still_a_board(app):
    with Board(app, 0) as board:
        assert board.status(Command.WRITE, WRITE.pack(1, 0, 20)) == Status.DOES_NOT_FIT
        assert board.status(Command.CONFIGURE, CONFIGURE.pack(1, 1, 0, 0)) == Status.WRONG_STATE
        for command in (Command.RESULT, Command.COUNTERS):
            assert len(board.command(command)) == LENGTHS[command][1]
