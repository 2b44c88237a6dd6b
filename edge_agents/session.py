"""Attendance: the one stream to the coordinator, from hello to the next hello.

The agent only dials out. Losing the stream is normal: it is opened again after a jittered pause,
and the hello names the assignments in hand, so that the coordinator does not give them out
twice. What is in hand does not depend on the stream: training and delivery go on without it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import grpc

from edge_agents.channel import Lost, lost_calls, open_channel
from edge_agents.diagnosis import Diagnosis, probing_process
from edge_agents.reconnect import Backoff, Clock, Reachability
from tinyfleet.errors import InvalidInput, TinyFleetError
from tinyfleet.readings import Reading
from tinyfleet.v1 import coordinator_pb2, coordinator_pb2_grpc

MAX_IN_HAND = 64  # the contract's bound on a hello, coordinator.proto
_WELCOME_S = 30.0  # our choice: a coordinator that says nothing for so long is tried again
_HEARTBEATS_S = (0.05, 600.0)  # our choice: what an agent makes of absurd wishes
_MOST_REFUSALS = 3  # our choice: a hello can also be refused for coming late on a busy machine
_REFUSALS = frozenset(
    {
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.UNAUTHENTICATED,
    }
)
_HEARTBEAT = coordinator_pb2.AttendRequest(heartbeat=coordinator_pb2.Heartbeat())

log = logging.getLogger("session")


class Superseded(TinyFleetError):
    """Another process attends under this agent's name."""


class GaveUp(TinyFleetError):
    """The coordinator was not reached for as long as the settings allow."""


class Member(Protocol):
    """Who attends: the coordinator's messages reach it through these calls, none of which waits."""

    def in_hand(self) -> Sequence[str]:
        """Ids of the assignments that are waiting, in training or without a receipt."""
        ...

    def welcome(self, aggregator: str, metrics: str) -> None: ...

    def brief(self, message: coordinator_pb2.RunBrief) -> None: ...

    def assign(self, message: coordinator_pb2.Assignment) -> None: ...

    def withdraw(self, assignment_id: str) -> None: ...


@dataclass(frozen=True)
class Identity:
    """Who says hello: the agent's name, this process's id, what it can do."""

    name: str
    instance_id: str
    capabilities: coordinator_pb2.Capabilities


@dataclass(frozen=True)
class Patience:
    """How long to try. ceiling_s: longest pause. give_up_s: limit of an outage, 0 for none."""

    ceiling_s: float
    give_up_s: float


class Attendance:
    """Attends the coordinator at one address until it must not any more."""

    def __init__(
        self,
        address: str,
        identity: Identity,
        member: Member,
        patience: Patience,
        clock: Clock | None = None,
        tls: Path | None = None,
    ) -> None:
        """tls: folder of the certificate to show, see `tinyfleet.security.folder`."""
        self._address = address
        self._tls = tls
        self._identity = identity
        self._member = member
        self._give_up_s = patience.give_up_s
        self._clock = clock or Clock()
        self._backoff = Backoff(patience.ceiling_s, self._clock)
        self._reachability = Reachability("coordinator", log, self._clock)
        self._diagnosis = Diagnosis(probing_process(address, tls))
        self._refusals = 0
        self._streams = 0
        self._call: Any = None
        self._speaking = asyncio.Lock()
        self._last_said = 0.0

    async def run(self) -> None:
        """Attend for ever.

        Raises Superseded, GaveUp, or InvalidInput when the hello is refused again and again.
        """
        while True:
            try:
                with lost_calls():
                    await self._attend()
                reason = "the coordinator ended the stream"
            except Lost as lost:
                self._refuse_to_go_on(lost)
                reason = await self._diagnosis.of(str(lost))
            self._reachability.lost(self._address, reason)
            if 0.0 < self._give_up_s <= self._reachability.missing_s:
                raise GaveUp(
                    f"no coordinator at {self._address} for {self._give_up_s:g} s: {reason}"
                )
            await self._backoff.pause()

    def reading(self, about: str, values: Mapping[str, object]) -> Reading:
        """How the stream is: `stream_age_s`, or how long there has been none, and `values`."""
        return self._reachability.reading(about, "stream_age_s", values)

    @property
    def reconnects(self) -> int:
        """Streams that were opened after the first."""
        return max(0, self._streams - 1)

    async def decline(self, assignment_id: str, reason: str, permanent: bool) -> None:
        """Tell the coordinator that an assignment cannot be done.

        Without a stream nothing is said: that the next hello does not name the assignment says it.
        """
        decline = coordinator_pb2.Decline(
            assignment_id=assignment_id, reason=_one_line(reason), permanent=permanent
        )
        await self._say(coordinator_pb2.AttendRequest(decline=decline))

    async def _attend(self) -> None:
        async with contextlib.AsyncExitStack() as stack:
            channel = await stack.enter_async_context(
                open_channel(self._address, "coordinator", self._tls)
            )
            call = coordinator_pb2_grpc.CoordinatorServiceStub(channel).Attend()
            await call.write(self._hello())
            async with asyncio.timeout(_WELCOME_S):
                welcome = await self._read_welcome(call)
            self._call = call
            stack.callback(self._hang_up)
            self._backoff.reset()
            self._diagnosis.reset()
            self._refusals = 0
            self._streams += 1
            self._reachability.reached(self._address)
            self._member.welcome(welcome.aggregator, welcome.metrics)
            heartbeats = asyncio.create_task(self._heartbeats(welcome.heartbeat_ms / 1000.0))
            stack.callback(heartbeats.cancel)
            await self._listen(call)

    def _hello(self) -> coordinator_pb2.AttendRequest:
        self._last_said = self._clock.now()
        return coordinator_pb2.AttendRequest(
            hello=coordinator_pb2.Hello(
                agent=self._identity.name,
                instance_id=self._identity.instance_id,
                capabilities=self._identity.capabilities,
                assignment_ids=self._member.in_hand()[:MAX_IN_HAND],
            )
        )

    async def _read_welcome(self, call: Any) -> coordinator_pb2.Welcome:
        message = await call.read()
        if message is grpc.aio.EOF:
            raise Lost("the coordinator ended the stream")
        if message.WhichOneof("message") != "welcome":
            raise Lost("the coordinator did not answer the hello with a welcome")
        welcome: coordinator_pb2.Welcome = message.welcome
        return welcome

    async def _listen(self, call: Any) -> None:
        member = self._member
        while (message := await call.read()) is not grpc.aio.EOF:
            match message.WhichOneof("message"):
                case "assignment":
                    member.assign(message.assignment)
                case "run_brief":
                    member.brief(message.run_brief)
                case "withdrawal":
                    member.withdraw(message.withdrawal.assignment_id)
                case _:
                    log.warning("unknown message from the coordinator ignored")

    def _hang_up(self) -> None:
        self._call = None

    async def _heartbeats(self, wanted_s: float) -> None:
        """Say something whenever nothing was said for `wanted_s` seconds."""
        period_s = min(max(wanted_s, _HEARTBEATS_S[0]), _HEARTBEATS_S[1])
        while True:
            quiet_s = self._clock.now() - self._last_said
            if quiet_s >= period_s:
                await self._say(_HEARTBEAT)
                quiet_s = 0.0
            await self._clock.sleep(period_s - quiet_s)

    async def _say(self, message: coordinator_pb2.AttendRequest) -> None:
        """Write on the open stream, if any; that it is lost is found by whoever reads it."""
        async with self._speaking:
            if self._call is not None:
                self._last_said = self._clock.now()
                with contextlib.suppress(Lost), lost_calls():
                    await self._call.write(message)

    def _refuse_to_go_on(self, lost: Lost) -> None:
        if lost.code is grpc.StatusCode.ABORTED:
            raise Superseded(
                f"another process attends as '{self._identity.name}' now: "
                "give each agent a --name of its own"
            )
        self._refusals += lost.code in _REFUSALS
        if self._refusals >= _MOST_REFUSALS:
            raise InvalidInput(f"the coordinator refused this agent: {lost}")


def _one_line(reason: str) -> str:
    """At most 256 bytes, as the contract has it, without control characters."""
    line = "".join(c if c.isprintable() else " " for c in reason)
    return line.encode()[:256].decode(errors="ignore")
