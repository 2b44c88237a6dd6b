"""The RPCs as a stock client sees them: it knows an address, and everything else by reflection."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from google.protobuf import json_format, message_factory
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

from services.hosting.server import serving
from services.metrics.main import build
from services.metrics.settings import MetricsSettings

SERVICE = "tinyfleet.v1.MetricsService"
TIME = "2026-01-02T03:04:05.123456789Z"


class StockClient:
    """Calls by name and JSON, like grpcurl: built from what reflection says and nothing else."""

    def __init__(self, address: str) -> None:
        with grpc.insecure_channel(address) as channel:
            database = ProtoReflectionDescriptorDatabase(channel)
            self.services = set(database.get_services())
            service = DescriptorPool(database).FindServiceByName(SERVICE)
            self._methods = {method.name: method for method in service.methods}
        self.address = address

    def open(self) -> None:
        self._channel = grpc.aio.insecure_channel(self.address)

    async def call(self, method: str, **request: Any) -> dict[str, Any]:
        kind, options = self._prepared(method)
        answer = await self._channel.unary_unary(f"/{SERVICE}/{method}", **options)(
            json_format.ParseDict(request, kind()), timeout=10
        )
        return json_format.MessageToDict(answer)

    def stream(self, method: str, **request: Any) -> Any:
        kind, options = self._prepared(method)
        return self._channel.unary_stream(f"/{SERVICE}/{method}", **options)(
            json_format.ParseDict(request, kind())
        )

    async def close(self) -> None:
        await self._channel.close()

    def _prepared(self, method: str) -> tuple[Any, dict[str, Any]]:
        found = self._methods[method]
        request, response = (
            message_factory.GetMessageClass(kind) for kind in (found.input_type, found.output_type)
        )
        return request, {
            "request_serializer": request.SerializeToString,
            "response_deserializer": response.FromString,
        }


@pytest.fixture
async def client(tmp_path) -> AsyncIterator[StockClient]:
    settings = MetricsSettings(listen="127.0.0.1:0", state=tmp_path, storage="memory", drain_s=0.5)
    service = build(settings)
    async with serving(settings, service) as address:
        made = await asyncio.to_thread(StockClient, address)
        made.open()
        yield made
        await made.close()
    await service.close()


def sample(value: float, **changes: Any) -> dict[str, Any]:
    return {
        "runId": "r1",
        "source": "agent-1",
        "name": "loss",
        "value": value,
        "time": TIME,
    } | changes


async def report(client: StockClient, *samples: dict, request_id: str = "a") -> None:
    assert await client.call("Report", requestId=request_id, samples=list(samples)) == {}


async def refused(client: StockClient, method: str, **request: Any) -> tuple[str, str]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await client.call(method, **request)
    return caught.value.code().name, caught.value.details()


async def test_reflection_names_the_service_and_health(client: StockClient) -> None:
    assert {SERVICE, "grpc.health.v1.Health"} <= client.services
    async with grpc.aio.insecure_channel(client.address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        answer = await stub.Check(health_pb2.HealthCheckRequest(service=SERVICE))
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


async def test_samples_come_back_as_they_were_reported(client: StockClient) -> None:
    first = sample(0.1, round=0, unit="seconds")
    second = sample(-2.5, runId="", time="2026-01-02T03:04:05.123456790Z")
    await report(client, first, second)
    answer = await client.call("Query")
    assert answer == {"samples": [first, {k: v for k, v in second.items() if k != "runId"}]}


async def test_a_sample_without_a_time_gets_that_of_its_arrival(client: StockClient) -> None:
    without = sample(1.0)
    del without["time"]
    await report(client, without)
    (found,) = (await client.call("Query"))["samples"]
    assert found["time"] > TIME


async def test_groups_carry_their_keys_and_no_others(client: StockClient) -> None:
    await report(client, sample(1, round=0), sample(3, round=0), sample(5, source="agent-2"))
    answer = await client.call(
        "Query", aggregation="AGGREGATION_MEAN", groupBy=["GROUP_BY_ROUND", "GROUP_BY_SOURCE"]
    )
    assert answer["groups"] == [
        {"source": "agent-1", "round": 0, "value": 2.0, "count": "2"},
        {"source": "agent-2", "value": 5.0, "count": "1"},
    ]


@pytest.mark.parametrize(
    ("aggregation", "value"),
    [("LAST", 4), ("MEAN", 3.5), ("MIN", 1), ("MAX", 7), ("SUM", 14), ("COUNT", 4)],
)
async def test_every_aggregation(client: StockClient, aggregation: str, value: float) -> None:
    times = ("01", "03", "02", "04")
    values = (1, 7, 2, 4)
    await report(
        client,
        *(sample(v, time=f"2026-01-02T03:04:{t}Z") for v, t in zip(values, times, strict=True)),
    )
    answer = await client.call("Query", aggregation=f"AGGREGATION_{aggregation}")
    assert answer["groups"][0]["value"] == value


async def test_percentile(client: StockClient) -> None:
    await report(client, *(sample(value) for value in range(101)))
    answer = await client.call("Query", aggregation="AGGREGATION_PERCENTILE", percentile=95)
    assert answer["groups"] == [{"value": 95.0, "count": "101"}]


@pytest.mark.parametrize(("count", "truncated"), [(3, False), (4, True)])
async def test_rows_beyond_the_limit_are_left_out_and_said_so(client, count, truncated) -> None:
    await report(client, *(sample(value, round=value) for value in range(count)))
    samples = await client.call("Query", limit=3)
    grouped = await client.call(
        "Query", limit=3, aggregation="AGGREGATION_SUM", groupBy=["GROUP_BY_ROUND"]
    )
    assert (len(samples["samples"]), samples.get("truncated", False)) == (3, truncated)
    assert (len(grouped["groups"]), grouped.get("truncated", False)) == (3, truncated)


async def test_summary(client: StockClient) -> None:
    await report(client, *(sample(value, round=value, unit="s") for value in range(1, 5)))
    answer = await client.call("Summarize", runId="r1")
    (found,) = answer["metrics"]
    assert found["p99"] == pytest.approx(3.97)
    del found["p99"]
    assert found == {
        "name": "loss",
        "unit": "s",
        "count": "4",
        "last": 4.0,
        "mean": 2.5,
        "min": 1.0,
        "max": 4.0,
        "p50": 2.5,
        "p95": pytest.approx(3.85),
        "firstRound": 1,
        "lastRound": 4,
    }


async def test_a_watcher_sees_what_arrives_from_then_on(client: StockClient) -> None:
    await report(client, sample(1), request_id="before")
    stream = client.stream("Watch", filter={"name": "loss", "firstRound": 2})
    await stream.initial_metadata()
    await report(client, sample(2, round=1), sample(3, round=2), request_id="after")
    async with asyncio.timeout(5):
        news = json_format.MessageToDict(await stream.read())
    assert news == {"samples": [sample(3.0, round=2)]}
    stream.cancel()


@pytest.mark.parametrize(
    ("method", "request_", "code", "message"),
    [
        ("Report", {"samples": [sample(1)]}, "INVALID_ARGUMENT", "request_id"),
        (
            "Report",
            {"requestId": "a", "samples": [sample(1), sample(1, name="A")]},
            "INVALID_ARGUMENT",
            "samples[1]: a metric's name",
        ),
        (
            "Report",
            {"requestId": "a", "samples": [sample("NaN")]},
            "INVALID_ARGUMENT",
            "samples[0]: loss must be a number",
        ),
        (
            "Report",
            {"requestId": "a", "samples": [sample(1)] * 10_001},
            "INVALID_ARGUMENT",
            "at most 10000 samples",
        ),
        (
            "Report",
            {"requestId": "a", "samples": [sample(1, time="1970-01-01T00:00:01Z")]},
            "INVALID_ARGUMENT",
            "set the clock of 'agent-1'",
        ),
        ("Query", {"limit": 100_001}, "INVALID_ARGUMENT", "limit is at most 100000"),
        ("Query", {"groupBy": ["GROUP_BY_RUN"]}, "INVALID_ARGUMENT", "needs an aggregation"),
        ("Query", {"aggregation": 99}, "INVALID_ARGUMENT", "aggregation 99"),
        (
            "Query",
            {"aggregation": "AGGREGATION_SUM", "groupBy": ["GROUP_BY_UNSPECIFIED"]},
            "INVALID_ARGUMENT",
            "group_by 0",
        ),
        (
            "Query",
            {"aggregation": "AGGREGATION_PERCENTILE", "percentile": 101},
            "INVALID_ARGUMENT",
            "0 to 100",
        ),
        (
            "Query",
            {"filter": {"firstRound": 2, "lastRound": 1}},
            "INVALID_ARGUMENT",
            "first_round 2 is after",
        ),
        ("Summarize", {}, "INVALID_ARGUMENT", "run_id is not set"),
        ("Summarize", {"runId": "r9"}, "NOT_FOUND", "no sample names run 'r9'"),
    ],
)
async def test_a_bad_request_is_refused_with_one_clear_line(
    client: StockClient, method: str, request_: dict, code: str, message: str
) -> None:
    status, details = await refused(client, method, **request_)
    assert status == code
    assert message in details
    assert "\n" not in details
    assert "samples" not in await client.call("Query")


async def test_nanoseconds_out_of_range_are_refused(client: StockClient) -> None:
    """JSON cannot say them, another client can."""
    kind, options = client._prepared("Report")
    request = kind(request_id="a")
    added = request.samples.add(source="agent-1", name="loss", value=1.0)
    added.time.nanos = -1
    call = client._channel.unary_unary(f"/{SERVICE}/Report", **options)
    with pytest.raises(grpc.aio.AioRpcError, match="nanos must be 0 to 999999999"):
        await call(request, timeout=5)
