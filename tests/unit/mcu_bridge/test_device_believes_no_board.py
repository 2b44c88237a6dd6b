"""An intact answer that cannot be right is refused in one line, and nothing of it is used."""

import asyncio
import struct
import zlib
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import pytest

from mcu_bridge.device import Device, DeviceIdentity, Patience
from mcu_bridge.device.messages import COUNTERS, ENCODED, Command
from mcu_bridge.errors import BadAnswer, DeviceRestarted, NoAnswer
from mcu_bridge.link.link import Link, Polled, Response, Sent
from tinyfleet.errors import Diverged, InvalidInput
from tinyfleet.exchange import Exchange
from tinyfleet.learner.protocol import Samples
from tinyfleet.model.builtin import builtin_model
from tinyfleet.model.initialization import initial_parameters
from tinyfleet.strategies.plan import Phase, TrainingPlan, Upload

SPEC = builtin_model("mlp_32", (1, 1, 1), 1, "mean_squared_error")
PARAMETERS = initial_parameters(SPEC, 1)
PHASE = Phase(3, 0.01, passes=2)
SAMPLES = Samples(np.full((3, 1), 0.3, np.float32), np.full((3, 1), 0.7, np.float32))
SAMPLE_BYTES = SAMPLES.inputs.tobytes()[:4] + SAMPLES.targets.tobytes()[:4]
DATA = SAMPLE_BYTES * 3
EXCHANGE = Exchange(SPEC, TrainingPlan((PHASE,), upload=Upload(0.25, "float16")))
UPDATE = bytes(EXCHANGE.encode(PARAMETERS, 1, 2, 3))
IDENTITY = DeviceIdentity(
    *("fake", "1", "00" * 8, 1, 1, 1000, 1024, 1, 1000, "power"), fault=None, has_sensor=True
)


def result(**changed: Any) -> bytes:
    fields = {
        "status": 0,
        "diverged": 0,
        "steps": 6,
        "updates": 6,
        "correct": 0,
        "crc32": zlib.crc32(DATA),
        "ticks": 500,
        "loss": 1.5,
    } | changed
    return struct.pack("<BB2xIIIIQd", *fields.values())


def honest() -> dict[Command, bytes]:
    """What a board answers that does all it is asked."""
    content = PARAMETERS.tobytes()
    return {
        Command.CONFIGURE: struct.pack("<B3x6I", 0, 10, 20, 1, 1, SPEC.parameter_count, 5),
        Command.WRITE: struct.pack("<B3x2I", 0, 0, 756),
        Command.COMMIT: bytes(4),
        Command.READ: struct.pack("<B3x2I", 0, zlib.crc32(content), len(content)),
        Command.TRAIN: struct.pack("<B3x2I", 0, len(DATA), 756),
        Command.EVALUATE: struct.pack("<B3x2I", 0, len(DATA), 756),
        Command.RESULT: result(),
        Command.COUNTERS: COUNTERS.pack(0, *range(12)),
        Command.RESET: bytes(4),
        Command.ENCODE: ENCODED.pack(0, len(UPDATE), 1.0, 500),
    }


class FakeLink:
    """A link whose board gives the answers that it is made with."""

    def __init__(self, **changed: bytes) -> None:
        self.answers = honest() | {Command[name]: answer for name, answer in changed.items()}
        self.patience = Patience(progress_s=0.05)
        self.content = PARAMETERS.tobytes()
        self.sent = Sent(0, ended=False)
        self.polls = iter([Polled(6, 0, ended=False)])
        self.fails: Exception | None = None

    async def command(self, type: int, payload: bytes = b"", **_: object) -> Response:
        if self.fails:
            raise self.fails
        return Response(1, self.answers[Command(type)])

    async def send(self, transfer: int, data: bytes, limit: int, **_: object) -> Sent:
        return self.sent

    async def receive(self, transfer: int, total: int, **_: object) -> bytes:
        return self.content

    async def poll(self, transfer: int, **_: object) -> Polled:
        return next(self.polls)


async def configured(link: FakeLink) -> Device:
    device = Device(cast(Link, link), IDENTITY)
    await device.configure(SPEC, keep_start=True, stored_samples=3)
    await device.write_parameters(PARAMETERS)
    return device


async def test_an_honest_board_is_believed() -> None:
    device = await configured(FakeLink())
    trained = await device.train(PHASE, SAMPLES)
    assert (trained.loss, trained.updates, trained.finite) == (0.25, 6, True)
    assert device.busy_seconds == 0.5
    assert (await device.read_parameters()).tobytes() == PARAMETERS.tobytes()
    assert (await device.counters()).uptime_ms == 11


CONFIGURED = struct.Struct("<B3x6I")
OPENED = struct.Struct("<B3x2I")


@pytest.mark.parametrize(
    "configure",
    [
        CONFIGURED.pack(0, 10, 20, 2, 1, SPEC.parameter_count, 5),
        CONFIGURED.pack(0, 10, 20, 1, 1, SPEC.parameter_count + 1, 5),
        CONFIGURED.pack(0, 21, 20, 1, 1, SPEC.parameter_count, 5),
        bytes(4),
        b"",
        b"\xee\0\0\0",
    ],
)
async def test_a_layout_of_another_model_is_refused(configure: bytes) -> None:
    with pytest.raises(BadAnswer):
        await configured(FakeLink(CONFIGURE=configure))


async def test_a_write_that_nobody_began_does_not_go_on() -> None:
    with pytest.raises(BadAnswer, match="goes on at byte 252"):
        await configured(FakeLink(WRITE=OPENED.pack(0, 252, 756)))


@pytest.mark.parametrize(
    "answer",
    [
        result(crc32=1),
        result(steps=5),
        result(updates=7),
        result(loss=float("nan")),
        result(loss=float("inf")),
        result(diverged=2),
        bytes(4),
    ],
)
async def test_a_training_that_cannot_be_the_one_asked_for_is_refused(answer: bytes) -> None:
    device = await configured(FakeLink(RESULT=answer))
    with pytest.raises(BadAnswer) as caught:
        await device.train(PHASE, SAMPLES)
    assert "\n" not in str(caught.value)


async def test_a_training_on_another_amount_of_samples_is_refused() -> None:
    device = await configured(FakeLink(TRAIN=OPENED.pack(0, len(DATA) + 1, 756)))
    with pytest.raises(BadAnswer, match="25 of 24"):
        await device.train(PHASE, SAMPLES)


async def test_samples_are_refused_only_by_a_board_that_diverged() -> None:
    link = FakeLink()
    device = await configured(link)
    link.sent = Sent(8, ended=True)
    with pytest.raises(BadAnswer, match="has not diverged"):
        await device.train(PHASE, SAMPLES)
    link.answers[Command.RESULT] = result(diverged=1, steps=2, updates=1, crc32=7)
    assert not (await device.train(PHASE, SAMPLES)).finite
    with pytest.raises(Diverged):
        await device.read_parameters()


@pytest.mark.parametrize("field", ["steps", "correct"])
async def test_an_evaluation_of_more_than_there_is_is_refused(field: str) -> None:
    counts = {"steps": 3, "updates": 0} | {field: 4}
    device = await configured(FakeLink(RESULT=result(**counts)))
    with pytest.raises(BadAnswer):
        await device.evaluate(SAMPLES)


@pytest.mark.parametrize("spoil", [lambda c: c[:-1] + b"\1", lambda c: c[:-4]])
async def test_parameters_with_another_checksum_are_refused(
    spoil: Callable[[bytes], bytes],
) -> None:
    link = FakeLink()
    device = await configured(link)
    link.content = spoil(link.content)
    with pytest.raises(BadAnswer):
        await device.read_parameters()


async def test_parameters_that_are_not_finite_are_refused() -> None:
    content = np.full(SPEC.parameter_count, np.inf, np.float32).tobytes()
    link = FakeLink(READ=OPENED.pack(0, zlib.crc32(content), len(content)))
    link.content = content
    with pytest.raises(BadAnswer, match="finite"):
        await (await configured(link)).read_parameters()


def link_with_update(content: bytes, told: bytes = b"") -> FakeLink:
    read = OPENED.pack(0, zlib.crc32(content), len(content))
    told = told or ENCODED.pack(0, len(content), 1.0, 500)
    link = FakeLink(ENCODE=told, READ=read)
    link.content = content
    return link


async def test_an_honest_update_is_believed() -> None:
    device = await configured(link_with_update(UPDATE))
    change = await device.encode(EXCHANGE, None)
    assert (change.data, change.norm, change.seconds) == (UPDATE, 1.0, 0.5)


@pytest.mark.parametrize(
    "told",
    [
        ENCODED.pack(0, len(UPDATE), float("nan"), 500),
        ENCODED.pack(0, 0, 1.0, 500),
        ENCODED.pack(0, 2**32 - 1, 1.0, 500),
        ENCODED.pack(0, len(UPDATE) + 1, 1.0, 500),  # READ knows of fewer
        bytes(4),
    ],
)
async def test_an_update_of_a_size_or_a_norm_that_cannot_be_is_refused(told: bytes) -> None:
    device = await configured(link_with_update(UPDATE, told))
    with pytest.raises(BadAnswer):
        await device.encode(EXCHANGE, None)


@pytest.mark.parametrize("content", [UPDATE[:-1], b"\7" + UPDATE[1:], bytes(8) + UPDATE[8:]])
async def test_bytes_that_are_no_update_are_refused(content: bytes) -> None:
    device = await configured(link_with_update(content))
    with pytest.raises(BadAnswer):
        await device.encode(EXCHANGE, None)


async def test_a_change_is_encoded_only_where_the_start_is_kept() -> None:
    device = Device(cast(Link, FakeLink()), IDENTITY)
    await device.configure(SPEC)
    with pytest.raises(InvalidInput, match="keep_start"):
        await device.encode(EXCHANGE, None)


async def test_a_sensor_that_saw_more_than_asked_for_is_refused() -> None:
    link = FakeLink(TRAIN=OPENED.pack(0, 6, 0))
    device = await configured(link)
    link.polls = iter([Polled(7, 0, ended=False)])
    with pytest.raises(BadAnswer, match="7 of 6"):
        await device.train_on_sensor(PHASE, 1)


async def test_a_sensor_that_stands_still_is_given_up() -> None:
    link = FakeLink(TRAIN=OPENED.pack(0, 6, 0))
    device = await configured(link)
    link.polls = iter(lambda: Polled(2, 0, ended=False), None)
    with pytest.raises(NoAnswer, match="stands still at step 2"):
        await asyncio.wait_for(device.train_on_sensor(PHASE, 1), 5.0)


async def test_a_training_that_never_ends_is_given_up() -> None:
    device = await configured(FakeLink(RESULT=result(status=8)))
    with pytest.raises(NoAnswer, match="stands still"):
        await asyncio.wait_for(device.train(PHASE, SAMPLES), 5.0)


async def test_a_device_that_was_lost_is_asked_nothing_more() -> None:
    link = FakeLink()
    device = await configured(link)
    link.fails = DeviceRestarted("it has restarted")
    with pytest.raises(DeviceRestarted):
        await device.counters()
    link.fails = None
    for call in (device.counters(), device.train(PHASE, SAMPLES), device.read_parameters()):
        with pytest.raises(DeviceRestarted, match="it has restarted"):
            await call
