"""What a board says is believed only when it can be right."""

import math
import struct
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcu_bridge.device import messages
from mcu_bridge.device.identity import DeviceIdentity, Fault, parse_identity
from mcu_bridge.device.messages import Command, DeviceCounters
from mcu_bridge.device.update import check_update, encode_request, norm_of
from mcu_bridge.errors import (
    BadAnswer,
    DeviceRefused,
    ModelDoesNotFit,
    Status,
    WrongVersion,
)
from mcu_bridge.sample_encoding import encode_samples
from tinyfleet.errors import DoesNotFit, InvalidInput, Refused
from tinyfleet.exchange import Exchange
from tinyfleet.learner.native import ABI_VERSION
from tinyfleet.learner.protocol import Samples
from tinyfleet.model.builtin import builtin_model
from tinyfleet.strategies.plan import Phase, TrainingPlan, Upload

RESULT = struct.Struct("<BB2xIIIIQd")


def identified(**changed: object) -> bytes:
    fields = {
        "status": 0, "cause": 2, "features": 1, "boot": 7, "learner": ABI_VERSION,
        "memory": 250_000, "ring": 1024, "protocol": 3, "clock": 64_000_000, "ticks": 25_000_000,
        "id": bytes(range(8)), "board": b"mps2_an386", "firmware": b"1.0", "fault": (0, 0, 0, 0),
    } | changed  # fmt: skip
    *front, fault = fields.values()
    return struct.pack("<BBHIIIHHII8s16s16s4I", *front, *fault)


def test_an_identity_is_taken_as_the_board_says_it() -> None:
    assert parse_identity(identified()) == DeviceIdentity(
        board="mps2_an386",
        firmware="1.0",
        unique_id="0001020304050607",
        boot_id=7,
        learner_version=ABI_VERSION,
        memory_bytes=250_000,
        ring_bytes=1024,
        clock_hz=64_000_000,
        ticks_hz=25_000_000,
        reset_cause="watchdog",
        fault=None,
        has_sensor=True,
    )


def test_a_fault_before_the_reset_is_told() -> None:
    fault = parse_identity(identified(cause=3, fault=(0x82, 0, 0x20040000, 0x1234))).fault
    assert fault == Fault(reason=0x82, hard=0, address=0x20040000, pc=0x1234)


@pytest.mark.parametrize(
    "changed", [{"learner": ABI_VERSION + 1}, {"protocol": 2}, {"protocol": 4}]
)
def test_another_version_is_refused_with_the_remedy(changed: dict[str, int]) -> None:
    with pytest.raises(WrongVersion, match="tinyfleet device flash"):
        parse_identity(identified(**changed))


def test_another_version_is_told_even_when_its_answer_is_longer() -> None:
    with pytest.raises(WrongVersion, match="version 4 of the device protocol"):
        parse_identity(identified(protocol=4) + b"more")


@pytest.mark.parametrize("field", ["boot", "memory", "ring", "clock", "ticks"])
def test_an_identity_without_a_size_or_a_clock_is_not_believed(field: str) -> None:
    with pytest.raises(BadAnswer):
        parse_identity(identified(**{field: 0}))


def test_a_name_of_hostile_bytes_is_one_printable_line() -> None:
    board = parse_identity(identified(board=b"a\n\x1b[31m\xff\x00b")).board
    assert board.isprintable()


def refusal_of(parse: Callable[[bytes], object], data: bytes) -> str:
    """What a user would read; anything but a refusal or an answer is an error of the test."""
    try:
        parse(data)
    except (Refused, DoesNotFit) as error:
        return str(error)
    return ""


@given(st.binary(max_size=120))
def test_any_answer_to_identify_is_an_identity_or_refused(data: bytes) -> None:
    assert "\n" not in refusal_of(parse_identity, data)


@given(st.sampled_from(Command), st.binary(max_size=90))
def test_any_answer_is_fields_or_refused(command: Command, data: bytes) -> None:
    assert "\n" not in refusal_of(partial(messages.unpack, command), data)


@given(st.binary(max_size=40))
def test_any_answer_to_configure_or_result_is_an_answer_or_refused(data: bytes) -> None:
    assert "\n" not in refusal_of(messages.parse_result, data)
    assert "\n" not in refusal_of(partial(messages.parse_configured, model="m"), data)


@pytest.mark.parametrize("status", [s for s in Status if s != Status.OK])
def test_a_refusal_says_why_and_keeps_the_status(status: Status) -> None:
    with pytest.raises(DeviceRefused) as caught:
        messages.unpack(Command.TRAIN, bytes([status, 0, 0, 0]))
    assert caught.value.status == status
    assert "TRAIN" in str(caught.value)


def test_a_model_that_does_not_fit_is_told_with_what_is_missing() -> None:
    answer = struct.pack("<B3x6I", Status.DOES_NOT_FIT, 123_456, 101_234, 0, 0, 0, 0)
    with pytest.raises(ModelDoesNotFit, match=r"'cnn_m' needs 123,456 .* 101,234: 22,222 too few"):
        messages.parse_configured(answer, "model 'cnn_m'")


def test_a_model_that_was_accepted_but_does_not_fit_is_not_believed() -> None:
    answer = struct.pack("<B3x6I", Status.OK, 2, 1, 1, 1, 1, 1)
    with pytest.raises(BadAnswer):
        messages.parse_configured(answer, "m")


def test_a_result_that_is_not_there_yet_says_how_far_it_is() -> None:
    result = messages.parse_result(RESULT.pack(Status.INCOMPLETE, 0, 17, 16, 0, 0, 0, 1.5))
    assert (result.finished, result.steps, result.updates) == (False, 17, 16)


def test_a_run_travels_as_the_page_says() -> None:
    """docs/formats/device.md, TRAIN, field by field."""
    samples = Samples(np.zeros((6, 1), np.float32), np.eye(2, dtype=np.float32)[[0, 1] * 3])
    phase = Phase(6, 0.5, batch_size=3, passes=4, proximal=0.25)
    request = messages.run_request(5, phase, encode_samples(samples), 9)
    expected = struct.pack("<QIIIfBBBBfIf", 5, 6, 3, 4, 0.5, 0, 1, 1, 0, 255.0, 9, 0.25)
    assert request == expected


def test_an_evaluation_trains_nothing() -> None:
    expected = struct.pack("<QIIIfBBBBfIf", 0, 10, 1, 1, 0.0, 1, 0, 0, 0, 1.0, 3, 0.0)
    assert messages.evaluation_request(10, seed=3) == expected


def test_counters_are_in_the_order_of_the_page() -> None:
    counted = DeviceCounters(
        *messages.unpack(Command.COUNTERS, struct.pack("<B3x12I", 0, *range(12)))
    )
    assert (counted.frames, counted.stale, counted.uptime_ms) == (0, 5, 11)
    assert counted.bad_frames == 1 + 2 + 3 + 4


MODEL = builtin_model("mlp_32", (1, 1, 1), 1, "mean_squared_error")


def exchange(fraction: float = 0.25, precision: str = "int8", *local: str) -> Exchange:
    return Exchange(MODEL, TrainingPlan((Phase(1, 0.1),), local, Upload(fraction, precision)))


def test_a_request_to_encode_names_the_layers_the_entries_and_the_noise() -> None:
    sent = exchange(0.25, "int8", "dense_3")
    noise = sent.noise(1, 2, 3)
    assert noise is not None
    state, increment = noise.pcg64
    shared, entries, precision, *words = messages.ENCODE.unpack(encode_request(sent, noise))
    assert (shared, entries, precision) == (0b01111, math.ceil(0.25 * 1120), 2)
    assert words[0] + (words[1] << 64) == state
    assert words[2] + (words[3] << 64) == increment


def test_a_request_without_noise_is_for_what_is_not_rounded_at_random() -> None:
    assert encode_request(exchange(0.25, "float16"), None)[16:] == bytes(32)
    with pytest.raises(InvalidInput, match="noise"):
        encode_request(exchange(), None)
    with pytest.raises(InvalidInput, match="dense"):
        encode_request(exchange(1.0, "float32"), None)


@pytest.mark.parametrize(
    ("size", "squares"),
    [
        *((300, -1.0), (300, float("nan")), (300, float("inf")), (0, 4.0)),
        (12 + 145 + 289 + 1, 4.0),  # more than the largest
    ],
)
def test_an_update_of_an_impossible_size_is_not_believed(size: int, squares: float) -> None:
    with pytest.raises(BadAnswer):
        norm_of(exchange(), size, squares)
    assert norm_of(exchange(), 300, 4.0) == 2.0
    assert norm_of(exchange(), 0, float("inf")) == float("inf")


@given(st.binary(max_size=400))
def test_any_update_of_a_board_is_one_that_the_server_takes_or_refused(data: bytes) -> None:
    if not refusal_of(partial(check_update, exchange()), data):
        exchange().decode(data)
