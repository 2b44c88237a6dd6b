"""The CoordinatorService: messages in, calls, messages out."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import grpc

from services.coordinator.adapters.agent_stream import AgentStream
from services.coordinator.coordinator import Coordinator
from services.coordinator.messages import (
    agent_to_message,
    attendance_from_message,
    checked_id,
    checked_text,
    run_to_message,
)
from services.coordinator.runs import RunRecord
from services.hosting.access import check_acts_as
from services.hosting.errors import NotReady
from services.hosting.grants import Grants
from tinyfleet.errors import InvalidInput
from tinyfleet.v1 import coordinator_pb2, coordinator_pb2_grpc

HELLO_S = 10.0
DEFAULT_LIMIT, MAX_LIMIT = 100, 1000


class CoordinatorServicer(coordinator_pb2_grpc.CoordinatorServiceServicer):
    """Serves a coordinator. aggregator, metrics: where agents and operators find them."""

    def __init__(
        self, coordinator: Coordinator, aggregator: str, metrics: str, grants: Grants
    ) -> None:
        self._coordinator = coordinator
        self._grants = grants
        self._aggregator = aggregator
        self._welcome = coordinator_pb2.AttendResponse(
            welcome=coordinator_pb2.Welcome(
                heartbeat_ms=round(1000 * coordinator.rules.heartbeat_s),
                aggregator=aggregator,
                metrics=metrics,
            )
        )

    async def CreateRun(
        self, request: coordinator_pb2.CreateRunRequest, context: Any
    ) -> coordinator_pb2.CreateRunResponse:
        request_id = checked_id("request_id", request.request_id)
        spec = request.spec.SerializeToString(deterministic=True)
        record = await self._coordinator.create_run(request_id, spec)
        return coordinator_pb2.CreateRunResponse(run=self._run(record))

    async def GetRun(
        self, request: coordinator_pb2.GetRunRequest, context: Any
    ) -> coordinator_pb2.GetRunResponse:
        record = await self._coordinator.run(request.run_id)
        return coordinator_pb2.GetRunResponse(run=self._run(record))

    async def ListRuns(
        self, request: coordinator_pb2.ListRunsRequest, context: Any
    ) -> coordinator_pb2.ListRunsResponse:
        if request.limit > MAX_LIMIT:
            raise InvalidInput(f"limit must be at most {MAX_LIMIT}, got {request.limit}")
        records = await self._coordinator.runs(request.limit or DEFAULT_LIMIT)
        return coordinator_pb2.ListRunsResponse(
            runs=[self._run(record) for record in records], aggregator=self._aggregator
        )

    async def WatchRun(
        self, request: coordinator_pb2.WatchRunRequest, context: Any
    ) -> AsyncIterator[coordinator_pb2.WatchRunResponse]:
        async for record in self._coordinator.watch_run(request.run_id):
            yield coordinator_pb2.WatchRunResponse(run=self._run(record))

    async def StopRun(
        self, request: coordinator_pb2.StopRunRequest, context: Any
    ) -> coordinator_pb2.StopRunResponse:
        record = await self._coordinator.stop_run(request.run_id)
        return coordinator_pb2.StopRunResponse(run=self._run(record))

    async def ListAgents(
        self, request: coordinator_pb2.ListAgentsRequest, context: Any
    ) -> coordinator_pb2.ListAgentsResponse:
        agents = self._coordinator.agents(request.attached_only)
        return coordinator_pb2.ListAgentsResponse(agents=map(agent_to_message, agents))

    async def Attend(
        self, requests: AsyncIterator[coordinator_pb2.AttendRequest], context: Any
    ) -> AsyncIterator[coordinator_pb2.AttendResponse]:
        hello = await _hello(requests)
        check_acts_as(context, hello.agent, "attend as")
        session = self._coordinator.next_session()
        attendance = attendance_from_message(session, hello)
        stream = AgentStream(hello.agent, self._coordinator.rules.round_deadline_s, self._grants)
        try:
            self._coordinator.attach(attendance, stream)
        except NotReady as error:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, str(error))
        reader = asyncio.create_task(self._read(requests, session, stream))
        try:
            yield self._welcome
            while (message := await stream.next()) is not None:
                yield message
        finally:
            reader.cancel()
            self._coordinator.detach(session)
        if stream.failure:
            await context.abort(*stream.failure)

    async def _read(
        self,
        requests: AsyncIterator[coordinator_pb2.AttendRequest],
        session: int,
        stream: AgentStream,
    ) -> None:
        """Take in what an agent says after its hello, until it says no more."""
        try:
            with contextlib.suppress(grpc.aio.AioRpcError, grpc.aio.UsageError):
                async for request in requests:
                    self._take(request, session)
        except InvalidInput as error:
            stream.fail(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        finally:
            stream.end()

    def _take(self, request: coordinator_pb2.AttendRequest, session: int) -> None:
        match request.WhichOneof("message"):
            case "heartbeat":
                self._coordinator.heard(session)
            case "decline":
                decline = request.decline
                self._coordinator.decline(
                    session,
                    checked_text("assignment_id", decline.assignment_id),
                    checked_text("reason", decline.reason),
                    decline.permanent,
                )
            case other:
                raise InvalidInput(f"expected a heartbeat or a decline, got {other or 'nothing'}")

    def _run(self, record: RunRecord) -> coordinator_pb2.Run:
        return run_to_message(record, self._aggregator)


async def _hello(requests: AsyncIterator[coordinator_pb2.AttendRequest]) -> coordinator_pb2.Hello:
    """The first message of a stream; raises InvalidInput when it is late or something else."""
    try:
        async with asyncio.timeout(HELLO_S):
            first = await anext(requests)
    except TimeoutError:
        raise InvalidInput(f"no hello within {HELLO_S:g} s") from None
    except StopAsyncIteration:
        raise InvalidInput("the stream ended before the hello") from None
    if first.WhichOneof("message") != "hello":
        raise InvalidInput("the first message of a stream must be a hello")
    return first.hello
