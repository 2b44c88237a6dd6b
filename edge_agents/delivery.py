"""Delivery: trained updates to the aggregator, each until it has a receipt.

One stream stays open for all of them. An update is kept until the aggregator has settled it
(accepted, late or invalid); after a lost stream everything without a receipt is sent again, which
is harmless because the assignment's id makes it the same update.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

from edge_agents.channel import Lost, lost_calls, open_channel
from edge_agents.reconnect import Backoff, Clock, Reachability
from tinyfleet.exchange import Payload
from tinyfleet.logs import fields
from tinyfleet.v1 import aggregator_pb2, aggregator_pb2_grpc

CHUNK_BYTES = 256 * 1024  # the contract's largest chunk, aggregator.proto
MAX_UNSETTLED = 4  # our choice: an agent that cannot deliver soon stops training instead
MAX_UNSETTLED_BYTES = 8_000_000  # our choice: one update may be larger, several may not

_SETTLED = frozenset(
    {
        aggregator_pb2.RECEIPT_STATUS_ACCEPTED,
        aggregator_pb2.RECEIPT_STATUS_LATE,
        aggregator_pb2.RECEIPT_STATUS_INVALID,
    }
)
_RECEIPTS = {
    aggregator_pb2.RECEIPT_STATUS_ACCEPTED: ("update accepted", logging.DEBUG),
    aggregator_pb2.RECEIPT_STATUS_LATE: ("update came too late", logging.INFO),
    aggregator_pb2.RECEIPT_STATUS_INVALID: ("update refused", logging.WARNING),
    aggregator_pb2.RECEIPT_STATUS_RETRY: ("update not stored, sending it again", logging.WARNING),
}
# Never lose an update to an aggregator that is newer than this agent.
_UNKNOWN_RECEIPT = ("unknown receipt, sending the update again", logging.WARNING)

log = logging.getLogger("delivery")


@dataclass(frozen=True, slots=True, eq=False)
class TrainedUpdate:
    """An update on its way.

    data: the encoded change, empty when training diverged. refused: is told of `data` when nobody
    takes it: it came too late, is invalid, or was withdrawn.
    """

    header: aggregator_pb2.UpdateHeader
    data: Payload
    refused: Callable[[Payload], None] | None = None

    def tell_refused(self) -> None:
        if self.refused is not None:
            self.refused(self.data)

    def messages(self) -> Iterator[aggregator_pb2.SubmitUpdatesRequest]:
        """The update as the contract wants it: one message, or several when it is large.

        Copied chunk by chunk, so that a large update is never in memory twice.
        """
        header: aggregator_pb2.UpdateHeader | None = self.header
        for start in range(0, max(len(self.data), 1), CHUNK_BYTES):
            data = bytes(self.data[start : start + CHUNK_BYTES])
            yield aggregator_pb2.SubmitUpdatesRequest(header=header, data=data)
            header = None


@dataclass(frozen=True, slots=True, eq=False)
class _Stream:
    """An open stream, the ids of the updates that were written to it, and what else it started."""

    channel: grpc.aio.Channel
    call: Any
    sent: set[str] = field(default_factory=set)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def stop(self) -> None:
        for task in self.tasks:
            task.cancel()


class Delivery:
    """Delivers to the aggregator that the coordinator names; connects when there is work."""

    def __init__(
        self, ceiling_s: float, clock: Clock | None = None, tls: Path | None = None
    ) -> None:
        """ceiling_s: longest pause between two attempts, seconds. tls: see `Attendance`."""
        self._tls = tls
        self._clock = clock or Clock()
        self._backoff = Backoff(ceiling_s, self._clock)
        self._retries = Backoff(ceiling_s, self._clock)
        self._reachability = Reachability("aggregator", log, self._clock)
        self._address = ""
        self._unsettled: dict[str, TrainedUpdate] = {}
        self._stream: _Stream | None = None
        self._users = 0
        self._sending = asyncio.Lock()
        self._wanted = asyncio.Event()
        self._changed = asyncio.Event()

    def aggregator_at(self, address: str) -> None:
        """Where to deliver from now on; what has no receipt yet goes there as well."""
        if address == self._address:
            return
        self._address = address
        if self._stream is not None:
            self._stream.call.cancel()

    def expect(self) -> None:
        """An update is coming: connect while it is being trained."""
        self._wanted.set()

    async def submit(self, update: TrainedUpdate) -> None:
        """Keep the update until it is settled; returns once it is written, or kept for later."""
        self._unsettled[update.header.assignment_id] = update
        self._wanted.set()
        await self._flush()

    def forget(self, assignment_id: str) -> None:
        """Nobody wants this update any more."""
        update = self._unsettled.pop(assignment_id, None)
        if update is not None:
            update.tell_refused()
            self._notify()

    @property
    def unsettled(self) -> list[str]:
        """Assignment ids of the updates without a final receipt, oldest first."""
        return list(self._unsettled)

    async def room(self) -> None:
        """Return when another update may be trained."""
        while self._is_full():
            await self._changed.wait()

    async def settled(self) -> None:
        """Return when every update has its receipt."""
        while self._unsettled:
            await self._changed.wait()

    @contextlib.asynccontextmanager
    async def connection(self) -> AsyncIterator[grpc.aio.Channel]:
        """The channel to the aggregator, once there is one, for calls beside the deliveries."""
        self._users += 1
        try:
            self._wanted.set()
            while self._stream is None:
                await self._changed.wait()
            yield self._stream.channel
        finally:
            self._users -= 1

    async def run(self) -> None:
        """Connect and deliver, for ever."""
        while True:
            await self._wanted.wait()
            address = self._address
            try:
                with lost_calls():
                    await self._deliver(address)
                reason = "the aggregator ended the stream"
            except Lost as lost:
                reason = str(lost)
            self._reachability.lost(address, reason)
            if self._unsettled or self._users:
                await self._backoff.pause()
            else:
                self._wanted.clear()

    async def _deliver(self, address: str) -> None:
        if not address:
            raise Lost("the coordinator named no aggregator")
        async with open_channel(address, "aggregator", self._tls) as channel:
            call = aggregator_pb2_grpc.AggregatorServiceStub(channel).SubmitUpdates()
            await call.wait_for_connection()
            self._reachability.reached(address)
            self._stream = stream = _Stream(channel, call)
            self._notify()
            stream.start(self._flush())
            try:
                while (receipt := await call.read()) is not grpc.aio.EOF:
                    self._take(stream, receipt)
            finally:
                self._stream = None
                stream.stop()

    async def _flush(self) -> None:
        """Write what this stream has not seen; that it is lost is found by whoever reads it."""
        async with self._sending:
            stream = self._stream
            with contextlib.suppress(Lost), lost_calls():
                while stream is not None and (update := self._next_for(stream)) is not None:
                    stream.sent.add(update.header.assignment_id)
                    for message in update.messages():
                        await stream.call.write(message)

    def _next_for(self, stream: _Stream) -> TrainedUpdate | None:
        waiting = (update for key, update in self._unsettled.items() if key not in stream.sent)
        return next(waiting, None)

    def _take(self, stream: _Stream, receipt: aggregator_pb2.SubmitUpdatesResponse) -> None:
        key = receipt.assignment_id
        if key not in self._unsettled:
            return  # withdrawn meanwhile
        if receipt.status in _SETTLED:
            self._backoff.reset()
            self._retries.reset()
            update = self._unsettled.pop(key)
            if receipt.status != aggregator_pb2.RECEIPT_STATUS_ACCEPTED:
                update.tell_refused()
            self._notify()
        else:
            stream.start(self._send_again(stream, key))
        _log_receipt(receipt)

    async def _send_again(self, stream: _Stream, key: str) -> None:
        await self._retries.pause()
        stream.sent.discard(key)
        await self._flush()

    def _is_full(self) -> bool:
        size = sum(len(update.data) for update in self._unsettled.values())
        return len(self._unsettled) >= MAX_UNSETTLED or size > MAX_UNSETTLED_BYTES

    def _notify(self) -> None:
        """Wake whoever waits for a change, now."""
        self._changed.set()
        self._changed = asyncio.Event()


def _log_receipt(receipt: aggregator_pb2.SubmitUpdatesResponse) -> None:
    phrase, level = _RECEIPTS.get(receipt.status, _UNKNOWN_RECEIPT)
    if log.isEnabledFor(level):
        where = fields(assignment=receipt.assignment_id, reason=receipt.message)
        log.log(level, phrase, extra=where)
