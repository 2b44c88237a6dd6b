"""Reporting costs the reporter nothing, and what is delivered is delivered once."""

import asyncio
import math
import threading
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyfleet.errors import InvalidInput
from tinyfleet.telemetry import (
    DROPPED,
    Measurement,
    NoTelemetry,
    SampleBuffer,
    Telemetry,
    check_measurement,
)
from tinyfleet.telemetry_grpc import Pace, Reporter, timestamp
from tinyfleet.v1 import metrics_pb2, metrics_pb2_grpc

QUICK = Pace(batch=5, largest=20, linger_s=0.01, first_retry_s=0.01, longest_retry_s=0.05)
NOW = 1_700_000_000.25


class TestBuffer:
    def buffer(self, capacity: int = 10) -> SampleBuffer:
        return SampleBuffer(lambda: NOW, capacity)

    def test_samples_come_out_in_order_with_the_time_they_were_measured(self) -> None:
        buffer = self.buffer()
        buffer.add("loss", 1.5, "", "r1", 7)
        buffer.add("training_seconds", 2.0, "seconds", "", None)
        assert buffer.take(10) == [
            Measurement("loss", 1.5, "", "r1", 7, NOW),
            Measurement("training_seconds", 2.0, "seconds", "", None, NOW),
        ]
        assert buffer.take(10) == []

    def test_a_full_buffer_drops_the_oldest_and_reports_how_many(self) -> None:
        buffer = self.buffer(capacity=3)
        for value in range(5):
            buffer.add("loss", float(value), "", "", None)
        taken = buffer.take(10)
        assert [sample.value for sample in taken] == [2.0, 3.0, 4.0, 2.0]
        assert taken[-1].name == DROPPED

    def test_drops_are_reported_once(self) -> None:
        buffer = self.buffer()
        buffer.add("loss", math.nan, "", "", None)
        assert [sample.name for sample in buffer.take(10)] == [DROPPED]
        buffer.add("loss", 1.0, "", "", None)
        assert [sample.name for sample in buffer.take(10)] == ["loss"]

    @pytest.mark.parametrize(
        "bad",
        [
            ("loss", math.inf, "", "", None),
            ("loss", "many", "", "", None),
            ("loss", None, "", "", None),
            ("loss", 10**400, "", "", None),
            ("Loss", 1.0, "", "", None),
            ("", 1.0, "", "", None),
            ("l" * 65, 1.0, "", "", None),
            ("loss\n", 1.0, "", "", None),
            (7, 1.0, "", "", None),
            (["loss"], 1.0, "", "", None),
            ("loss", 1.0, "u" * 17, "", None),
            ("loss", 1.0, "", "r" * 257, None),
            ("loss", 1.0, "", "r\x00", None),
            ("loss", 1.0, "", "\ud800", None),
            ("loss", 1.0, "", "", -1),
            ("loss", 1.0, "", "", 2**32),
            ("loss", 1.0, "", "", 1.5),
        ],
    )
    def test_what_the_service_would_refuse_is_dropped_and_costs_no_other_sample(
        self, bad: tuple
    ) -> None:
        buffer = self.buffer()
        buffer.add("before", 1.0, "", "", None)
        buffer.add(*bad)
        buffer.add("after", 1.0, "", "", None)
        assert [sample.name for sample in buffer.take(10)] == ["before", "after", DROPPED]

    @given(st.lists(st.one_of(st.integers(1, 8), st.none()), max_size=60))
    def test_every_sample_is_taken_or_counted(self, script: list[int | None]) -> None:
        """None adds a sample, a number takes that many."""
        buffer, added, taken = self.buffer(capacity=5), 0, 0
        for step in [*script, 100]:
            if step is None:
                buffer.add("loss", 1.0, "", "", None)
                added += 1
            else:
                taken += sum(sample.name == "loss" for sample in buffer.take(step))
        assert taken + buffer.dropped == added

    def test_measurements_at_the_limits_are_valid(self) -> None:
        check_measurement("l" * 64, -1e300, "u" * 16, "r" * 256, 2**32 - 1)

    def test_an_error_names_the_value(self) -> None:
        with pytest.raises(InvalidInput, match="'Loss'"):
            check_measurement("Loss", 1.0, "", "", None)


@dataclass
class FakeMetrics(metrics_pb2_grpc.MetricsServiceServicer):
    """Records what arrives; answers the next calls with `failures` first."""

    requests: list[metrics_pb2.ReportRequest] = field(default_factory=list)
    failures: list[grpc.StatusCode] = field(default_factory=list)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)

    async def Report(self, request, context):  # noqa: N802 - the RPC's name
        self.requests.append(request)
        self.arrived.set()
        if self.failures:
            await context.abort(self.failures.pop(0), "as told")
        return metrics_pb2.ReportResponse()

    async def next(self) -> metrics_pb2.ReportRequest:
        async with asyncio.timeout(5):
            await self.arrived.wait()
        self.arrived.clear()
        return self.requests[-1]


@dataclass
class Served:
    fake: FakeMetrics
    address: str
    server: grpc.aio.Server


@pytest.fixture
async def metrics() -> AsyncIterator[Served]:
    fake, server = FakeMetrics(), grpc.aio.server()
    metrics_pb2_grpc.add_MetricsServiceServicer_to_server(fake, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield Served(fake, f"127.0.0.1:{port}", server)
    await server.stop(0)


def reporter(metrics: Served, pace: Pace = QUICK, **options) -> Reporter:
    return Reporter("agent-1", metrics.address, clock=lambda: NOW, pace=pace, **options)


async def test_a_sample_arrives_as_it_was_reported(metrics: Served) -> None:
    agent = reporter(metrics)
    agent.report("training_seconds", 0.5, "seconds", "r1", 0)
    (sample,) = (await metrics.fake.next()).samples
    assert (sample.name, sample.value, sample.unit) == ("training_seconds", 0.5, "seconds")
    assert (sample.run_id, sample.HasField("round"), sample.round) == ("r1", True, 0)
    assert (sample.source, sample.time) == ("agent-1", timestamp(NOW))
    await agent.close(1)


async def test_samples_go_out_together_once_there_are_enough(metrics: Served) -> None:
    patient = Pace(batch=3, linger_s=60)
    agent = reporter(metrics, patient)
    for _ in range(3):
        agent.report("loss", 1.0)
    assert len((await metrics.fake.next()).samples) == 3
    await agent.close(1)


async def test_close_sends_what_is_left(metrics: Served) -> None:
    agent = reporter(metrics, Pace(linger_s=60))
    agent.report("loss", 1.0)
    await agent.close(5)
    assert [len(request.samples) for request in metrics.fake.requests] == [1]
    agent.report("loss", 2.0)  # too late, and harmless
    await agent.close(5)


async def test_nothing_is_sent_while_there_is_nothing_to_send(metrics: Served) -> None:
    agent = reporter(metrics)
    await asyncio.sleep(0.05)
    await agent.close(1)
    assert metrics.fake.requests == []


async def test_a_batch_is_repeated_under_its_own_id_until_it_is_stored(metrics: Served) -> None:
    metrics.fake.failures = [grpc.StatusCode.UNAVAILABLE] * 3
    agent = reporter(metrics)
    agent.report("loss", 1.0)
    await until(lambda: len(metrics.fake.requests) == 4)
    agent.report("loss", 2.0)
    await until(lambda: len(metrics.fake.requests) == 5)
    ids = [request.request_id for request in metrics.fake.requests]
    assert len(set(ids[:4])) == 1
    assert ids[4] != ids[0]
    assert [sample.value for sample in metrics.fake.requests[4].samples] == [2.0]
    await agent.close(1)


async def test_a_refused_batch_does_not_hold_up_later_ones(metrics: Served) -> None:
    metrics.fake.failures = [grpc.StatusCode.INVALID_ARGUMENT]
    agent = reporter(metrics)
    agent.report("loss", 1.0)
    await metrics.fake.next()
    await until(lambda: agent.dropped == 1)
    agent.report("loss", 2.0)
    names = [sample.name for sample in (await metrics.fake.next()).samples]
    assert names == ["loss", DROPPED]
    await agent.close(1)


async def test_more_than_one_batch_goes_out_in_order(metrics: Served) -> None:
    agent = reporter(metrics)
    for value in range(100):
        agent.report("loss", float(value))
    await agent.close(5)
    values = [sample.value for request in metrics.fake.requests for sample in request.samples]
    assert values == [float(value) for value in range(100)]
    assert max(len(request.samples) for request in metrics.fake.requests) == QUICK.largest


async def test_reports_from_other_threads_arrive(metrics: Served) -> None:
    agent = reporter(metrics)

    def work() -> None:
        for _ in range(500):
            agent.report("loss", 1.0)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        await asyncio.to_thread(thread.join)
    await agent.close(5)
    assert sum(len(request.samples) for request in metrics.fake.requests) == 2000


async def test_samples_are_delivered_once_the_service_is_there() -> None:
    """The service starts late: the reporter has waited, and the caller never noticed."""
    fake, server = FakeMetrics(), grpc.aio.server()
    metrics_pb2_grpc.add_MetricsServiceServicer_to_server(fake, server)
    port = server.add_insecure_port("127.0.0.1:0")  # bound, but nobody accepts yet
    pace = Pace(batch=5, linger_s=0.01, first_retry_s=0.01, longest_retry_s=0.05, call_s=0.1)
    agent = Reporter("agent-1", f"127.0.0.1:{port}", pace=pace)
    agent.report("loss", 1.0)
    await asyncio.sleep(0.2)
    assert fake.requests == []
    await server.start()
    assert (await fake.next()).samples[0].value == 1.0
    await agent.close(1)
    await server.stop(0)


async def test_close_ends_in_time_when_nobody_answers() -> None:
    agent = Reporter("agent-1", "127.0.0.1:1", pace=QUICK)
    agent.report("loss", 1.0)
    began = time.monotonic()
    await agent.close(0.2)
    assert time.monotonic() - began < 2


async def test_without_an_address_nothing_is_measured() -> None:
    agent = Reporter("agent-1", "")
    agent.report("loss", 1.0)
    await agent.close(1)
    assert agent.dropped == 0


@pytest.mark.parametrize("source", ["", "a" * 257, "a\nb"])
async def test_a_source_must_be_a_label(source: str) -> None:
    with pytest.raises(InvalidInput, match="source"):
        Reporter(source, "")


async def test_reporting_costs_less_than_two_microseconds() -> None:
    """The best of many tries, so that other load does not decide; capacity makes it drop, too."""
    agent = Reporter("agent-1", "127.0.0.1:1", capacity=1000)
    best = math.inf
    for _ in range(50):
        began = time.perf_counter()
        for _ in range(1000):
            agent.report("loss", 1.0, "", "r1", 3)
        best = min(best, (time.perf_counter() - began) / 1000)
    await agent.close(0)
    assert best < 2e-6


def test_both_kinds_of_telemetry_serve_the_same_code() -> None:
    def measured(telemetry: Telemetry) -> None:
        telemetry.report("loss", 1.0, run_id="r1", round=3)

    measured(NoTelemetry())


@pytest.mark.parametrize(
    ("seconds", "expected"), [(0.0, (0, 0)), (1.5, (1, 500_000_000)), (-0.5, (-1, 500_000_000))]
)
def test_times_become_timestamps(seconds: float, expected: tuple[int, int]) -> None:
    message = timestamp(seconds)
    assert (message.seconds, message.nanos) == expected


async def until(condition) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.005)
