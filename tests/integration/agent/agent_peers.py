"""The other side of an agent, played by a test: a coordinator and an aggregator on real sockets.

They keep to the contract and do only what the test tells them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import numpy as np

from tinyfleet.model.spec import Parameters
from tinyfleet.run import RunSpec
from tinyfleet.strategies.plan import TrainingPlan
from tinyfleet.v1 import aggregator_pb2 as agg
from tinyfleet.v1 import (
    aggregator_pb2_grpc,
    coordinator_pb2_grpc,
    metrics_pb2,
    metrics_pb2_grpc,
)
from tinyfleet.v1 import coordinator_pb2 as co
from tinyfleet.wire import parameters_to_bytes, plan_to_message, run_to_message

Receipt = Callable[[str, int], int]
"""(assignment id, how often it has come) -> receipt status."""


def accept(assignment_id: str, times: int) -> int:
    return agg.RECEIPT_STATUS_ACCEPTED


class Visit:
    """One Attend stream of an agent, seen from the coordinator."""

    def __init__(self, hello: co.Hello, context: Any) -> None:
        self.hello = hello
        self.context = context
        self.heard: asyncio.Queue[co.AttendRequest] = asyncio.Queue()
        self.to_say: asyncio.Queue[co.AttendResponse | None] = asyncio.Queue()
        self.left = asyncio.Event()

    def brief(self, run_id: str, spec: RunSpec) -> None:
        message = co.RunBrief(run_id=run_id, spec=run_to_message(spec))
        self.to_say.put_nowait(co.AttendResponse(run_brief=message))

    def assign(self, run_id: str, round: int, plan: TrainingPlan, start: Parameters | None) -> str:
        assignment = co.Assignment(
            assignment_id=f"{run_id}-{round}-0-0",
            run_id=run_id,
            round=round,
            base_version=round,
            plan=plan_to_message(plan),
            parameters=b"" if start is None else parameters_to_bytes(start),
            deadline_ms=60_000,
        )
        self.to_say.put_nowait(co.AttendResponse(assignment=assignment))
        return assignment.assignment_id

    def assign_start(
        self, run_id: str, round: int, plan: TrainingPlan, data: bytes, relative_to: int | None
    ) -> str:
        """An assignment whose start is these bytes."""
        assignment = co.Assignment(
            assignment_id=f"{run_id}-{round}-0-0",
            run_id=run_id,
            round=round,
            base_version=round,
            plan=plan_to_message(plan),
            parameters=data,
            relative_to=relative_to,
            deadline_ms=60_000,
        )
        self.to_say.put_nowait(co.AttendResponse(assignment=assignment))
        return assignment.assignment_id

    def withdraw(self, assignment_id: str) -> None:
        withdrawal = co.Withdrawal(assignment_id=assignment_id)
        self.to_say.put_nowait(co.AttendResponse(withdrawal=withdrawal))

    def end(self) -> None:
        self.to_say.put_nowait(None)


class CoordinatorPeer(coordinator_pb2_grpc.CoordinatorServiceServicer):
    """Welcomes every agent; the test talks to it through its visits."""

    def __init__(self, aggregator: str, heartbeat_ms: int = 10_000, metrics: str = "") -> None:
        self.welcome = co.Welcome(heartbeat_ms=heartbeat_ms, aggregator=aggregator, metrics=metrics)
        self.visits: asyncio.Queue[Visit] = asyncio.Queue()
        self.refusals: list[tuple[grpc.StatusCode, str]] = []

    async def Attend(  # noqa: N802
        self, requests: Any, context: Any
    ) -> AsyncIterator[co.AttendResponse]:
        hello = await anext(aiter(requests))
        if self.refusals:
            await context.abort(*self.refusals.pop())
        visit = Visit(hello.hello, context)
        yield co.AttendResponse(welcome=self.welcome)
        self.visits.put_nowait(visit)
        listening = asyncio.create_task(_listen(requests, visit.heard))
        try:
            while (message := await visit.to_say.get()) is not None:
                yield message
        finally:
            visit.left.set()
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)


async def _listen(requests: Any, heard: asyncio.Queue[co.AttendRequest]) -> None:
    async for message in requests:
        heard.put_nowait(message)


class AggregatorPeer(aggregator_pb2_grpc.AggregatorServiceServicer):
    """Takes updates, answers as the test wants, serves one model in small chunks."""

    def __init__(self, answer: Receipt = accept) -> None:
        self.answer = answer
        self.updates: asyncio.Queue[tuple[agg.UpdateHeader, bytes]] = asyncio.Queue()
        self.times: dict[str, int] = {}
        self.messages = 0
        self.streams = 0
        self.model: Parameters = np.zeros(0, np.float32)
        self.chunk_bytes = 256 * 1024
        self.fetches = 0
        self.fetched: list[agg.FetchModelRequest] = []
        self.start = b""  # what a device is sent instead of the model, when it asks for that
        self.unavailable = self.gone = False
        self.newest = 0  # version that is sent to who names none
        self.files: dict[str, bytes] = {}  # what is sent for a hash, whether it has it or not
        self.files_fetched: list[str] = []

    async def SubmitUpdates(  # noqa: N802
        self, requests: Any, context: Any
    ) -> AsyncIterator[agg.SubmitUpdatesResponse]:
        self.streams += 1
        header, data = agg.UpdateHeader(), bytearray()
        async for message in requests:
            self.messages += 1
            if message.HasField("header"):
                header, data = message.header, bytearray()
            data += message.data
            if len(data) == header.total_bytes:
                key = header.assignment_id
                self.times[key] = self.times.get(key, 0) + 1
                self.updates.put_nowait((header, bytes(data)))
                status = self.answer(key, self.times[key])
                if status:
                    yield agg.SubmitUpdatesResponse(
                        assignment_id=key, status=status, message="the test says so"
                    )

    async def FetchModel(  # noqa: N802
        self, request: agg.FetchModelRequest, context: Any
    ) -> AsyncIterator[agg.FetchModelResponse]:
        self.fetches += 1
        self.fetched.append(request)
        if self.gone:
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such version")
        if self.unavailable:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "not now")
        data = parameters_to_bytes(self.model)
        if request.shared_only and self.start:
            data = self.start
        for at in range(0, len(data), self.chunk_bytes):
            yield agg.FetchModelResponse(
                version=request.version if request.HasField("version") else self.newest,
                total_bytes=len(data),
                data=data[at : at + self.chunk_bytes],
            )

    async def FetchFile(  # noqa: N802
        self, request: agg.FetchFileRequest, context: Any
    ) -> AsyncIterator[agg.FetchFileResponse]:
        self.files_fetched.append(request.sha256)
        if request.sha256 not in self.files:
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such file")
        content = self.files[request.sha256]
        for at in range(0, len(content), self.chunk_bytes):
            yield agg.FetchFileResponse(
                size_bytes=len(content), data=content[at : at + self.chunk_bytes]
            )


class MetricsPeer(metrics_pb2_grpc.MetricsServiceServicer):
    """Keeps the samples it gets."""

    def __init__(self) -> None:
        self.samples: asyncio.Queue[metrics_pb2.Sample] = asyncio.Queue()

    async def Report(  # noqa: N802
        self, request: metrics_pb2.ReportRequest, context: Any
    ) -> metrics_pb2.ReportResponse:
        for sample in request.samples:
            self.samples.put_nowait(sample)
        return metrics_pb2.ReportResponse()


@asynccontextmanager
async def listening(
    coordinator: CoordinatorPeer | None = None,
    aggregator: AggregatorPeer | None = None,
    metrics: MetricsPeer | None = None,
    address: str = "127.0.0.1:0",
) -> AsyncIterator[str]:
    """A server for the given peers; gives its address."""
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    if coordinator is not None:
        coordinator_pb2_grpc.add_CoordinatorServiceServicer_to_server(coordinator, server)
    if aggregator is not None:
        aggregator_pb2_grpc.add_AggregatorServiceServicer_to_server(aggregator, server)
    if metrics is not None:
        metrics_pb2_grpc.add_MetricsServiceServicer_to_server(metrics, server)
    port = server.add_insecure_port(address)
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(None)
