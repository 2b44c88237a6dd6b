"""The way to one attached agent: messages queued until its stream takes them.

One coroutine, the RPC's handler, takes messages with `next`. Whoever has something to say puts it
into the queue and wakes that coroutine, so nothing ever waits for an agent.
"""

from __future__ import annotations

import asyncio
from collections import deque
from functools import lru_cache

import grpc

from services.coordinator.work import Assignment, RoundWork
from services.hosting.grants import Grants
from tinyfleet.strategies import TrainingPlan
from tinyfleet.v1 import coordinator_pb2, model_pb2
from tinyfleet.wire import plan_to_message

MAX_QUEUED = 256  # our choice: an agent that reads has a handful
STUCK_S = 5.0  # our choice: then a stream that takes no message is cut off


class AgentStream:
    """Made by the RPC's handler, inside its task."""

    def __init__(self, agent: str, deadline_s: float, grants: Grants) -> None:
        """deadline_s: how long the coordinator waits for an update, as agents are told."""
        self._agent = agent
        self._grants = grants
        self._deadline_ms = round(1000 * deadline_s)
        self._queue: deque[coordinator_pb2.AttendResponse] = deque()
        self._waiting: asyncio.Future[None] | None = None
        self._loop = asyncio.get_running_loop()
        self._handler = asyncio.current_task()
        self._is_over = False
        self.failure: tuple[grpc.StatusCode, str] | None = None

    def brief(self, run_id: str, spec: bytes) -> None:
        self._put(_brief(run_id, spec))

    def assign(self, assignment: Assignment, work: RoundWork) -> None:
        message = coordinator_pb2.Assignment(
            assignment_id=assignment.id,
            run_id=assignment.run_id,
            round=assignment.round,
            slot=assignment.slot,
            base_version=work.version,
            plan=_plan(work.plan),
            parameters=work.parameters,
            relative_to=work.relative_to,
            deadline_ms=self._deadline_ms,
            grant=self._grants.grant(assignment.run_id, assignment.id, self._agent),
        )
        self._put(coordinator_pb2.AttendResponse(assignment=message))

    def withdraw(self, assignment_id: str) -> None:
        message = coordinator_pb2.Withdrawal(assignment_id=assignment_id)
        self._put(coordinator_pb2.AttendResponse(withdrawal=message))

    def close(self, reason: str, replaced: bool) -> None:
        self.fail(grpc.StatusCode.ABORTED if replaced else grpc.StatusCode.UNAVAILABLE, reason)

    def fail(self, status: grpc.StatusCode, reason: str) -> None:
        """End the stream with an error, without what is still queued."""
        if self._is_over:
            return
        self.failure = (status, reason)
        self._queue.clear()
        self.end()

    def end(self) -> None:
        """There is nothing more to say; what is queued still goes out."""
        if self._is_over:
            return
        self._is_over = True
        if self._waiting is None and self._handler is not None:
            self._loop.call_later(STUCK_S, self._handler.cancel)
        self._wake()

    async def next(self) -> coordinator_pb2.AttendResponse | None:
        """The next message; None at the end."""
        while not self._queue:
            if self._is_over:
                return None
            self._waiting = self._loop.create_future()
            try:
                await self._waiting
            finally:
                self._waiting = None
        return self._queue.popleft()

    def _put(self, message: coordinator_pb2.AttendResponse) -> None:
        if self._is_over:
            return
        if len(self._queue) >= MAX_QUEUED:
            self.fail(grpc.StatusCode.RESOURCE_EXHAUSTED, "the agent does not read its messages")
            return
        self._queue.append(message)
        self._wake()

    def _wake(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)


@lru_cache(maxsize=64)
def _plan(plan: TrainingPlan) -> model_pb2.TrainingPlan:
    return plan_to_message(plan)


@lru_cache(maxsize=64)
def _brief(run_id: str, spec: bytes) -> coordinator_pb2.AttendResponse:
    message = model_pb2.RunSpec.FromString(spec)
    return coordinator_pb2.AttendResponse(
        run_brief=coordinator_pb2.RunBrief(run_id=run_id, spec=message)
    )
