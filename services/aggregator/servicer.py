"""The gRPC face of the aggregator: messages in, calls to the keeper, messages out."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from typing import Any

import grpc

from services.aggregator.core import ClosedRound, Submission
from services.aggregator.group_commit import Receipt
from services.aggregator.keeper import Keeper
from services.aggregator.reassembly import MAX_CHUNK_BYTES, Budget, PartialUpdate
from services.aggregator.watching import Change
from services.hosting.access import caller, check_acts_as, note_refusal
from services.hosting.errors import NotFound
from services.hosting.grants import KEY_BYTES, is_granted
from tinyfleet.errors import InvalidInput, one_line
from tinyfleet.exchange import Exchange, exchange_of
from tinyfleet.model.spec import parameters_sha256
from tinyfleet.run_files import RunFile
from tinyfleet.v1 import aggregator_pb2 as pb
from tinyfleet.v1 import aggregator_pb2_grpc
from tinyfleet.wire import checked_name, parameters_to_bytes, run_from_message, run_to_message

MAX_UNANSWERED = 64  # our choice: updates of one stream that wait for their receipts

_STATUS = {
    Receipt.ACCEPTED: pb.RECEIPT_STATUS_ACCEPTED,
    Receipt.LATE: pb.RECEIPT_STATUS_LATE,
    Receipt.INVALID: pb.RECEIPT_STATUS_INVALID,
    Receipt.RETRY: pb.RECEIPT_STATUS_RETRY,
}

_SELECTED = pb.UPDATE_ENCODING_SELECTED

Partial = PartialUpdate[pb.UpdateHeader]


class AggregatorServicer(aggregator_pb2_grpc.AggregatorServiceServicer):
    """tinyfleet.v1.AggregatorService on a keeper."""

    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper
        self._budget = Budget()
        self._deliveries: set[_Delivery] = set()

    async def drain(self) -> None:
        """End the open streams, the receipts that are due first."""
        for delivery in self._deliveries:
            delivery.stop()
        await self._keeper.drain()

    async def OpenRun(
        self, request: pb.OpenRunRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.OpenRunResponse:
        run_id = checked_name("run_id", request.run_id)
        await self._keeper.open_run(
            run_id, run_from_message(request.spec), checked_key(request.grant_key)
        )
        return pb.OpenRunResponse()

    async def CloseRound(
        self, request: pb.CloseRoundRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.CloseRoundResponse:
        await self._keeper.close_round(checked_name("run_id", request.run_id), request.round)
        return pb.CloseRoundResponse()

    async def EndRun(
        self, request: pb.EndRunRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> pb.EndRunResponse:
        model = await self._keeper.end_run(checked_name("run_id", request.run_id))
        return pb.EndRunResponse(
            version=model.version, parameters_sha256=parameters_sha256(model.parameters)
        )

    async def WatchModel(
        self, request: pb.WatchModelRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[pb.WatchModelResponse]:
        run_id = checked_name("run_id", request.run_id)
        watcher = await self._keeper.watch(run_id)
        try:
            while (change := await watcher.next()) is not None:
                yield _change_message(change)
        finally:
            self._keeper.unwatch(run_id, watcher)

    async def FetchModel(
        self, request: pb.FetchModelRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[pb.FetchModelResponse]:
        run_id = checked_name("run_id", request.run_id)
        wanted = request.version if request.HasField("version") else None
        model = await self._keeper.model(run_id, wanted)
        if request.shared_only:
            exchange = exchange_of(model.run)
            data = exchange.starts.write_whole(exchange.start(model.parameters))
        else:
            data = parameters_to_bytes(model.parameters)
        spec = run_to_message(model.run)
        for start in range(0, len(data), MAX_CHUNK_BYTES):
            yield pb.FetchModelResponse(
                version=model.version,
                total_bytes=len(data),
                data=data[start : start + MAX_CHUNK_BYTES],
                spec=None if start else spec,
            )

    async def SubmitUpdates(
        self,
        requests: AsyncIterator[pb.SubmitUpdatesRequest],
        context: grpc.aio.ServicerContext[Any, Any],
    ) -> AsyncIterator[pb.SubmitUpdatesResponse]:
        delivery = _Delivery()
        self._deliveries.add(delivery)
        delivery.read(self._read(requests, delivery, context))
        try:
            async for receipt in delivery.receipts():
                yield receipt
        finally:
            self._deliveries.discard(delivery)
            delivery.stop()

    async def PutFile(
        self,
        requests: AsyncIterator[pb.PutFileRequest],
        context: grpc.aio.ServicerContext[Any, Any],
    ) -> pb.PutFileResponse:
        first = await anext(requests, None)
        if first is None:
            raise InvalidInput("a file begins with its sha256 and its size_bytes")
        file = RunFile(first.sha256, first.size_bytes)
        if await self._keeper.files.is_there(file):
            return pb.PutFileResponse(was_there=True)
        await self._keeper.files.put(file, _file_parts(first, requests))
        return pb.PutFileResponse()

    async def FetchFile(
        self, request: pb.FetchFileRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> AsyncIterator[pb.FetchFileResponse]:
        async for size, part in self._keeper.files.fetch(request.sha256):
            yield pb.FetchFileResponse(size_bytes=size, data=part)

    async def _read(
        self,
        requests: AsyncIterator[pb.SubmitUpdatesRequest],
        delivery: _Delivery,
        context: grpc.aio.ServicerContext[Any, Any],
    ) -> None:
        """Take in updates without waiting for their receipts, up to MAX_UNANSWERED of them.

        Raises Forbidden when the caller says that an update is of somebody it may not speak for.
        """
        partial: Partial | None = None
        try:
            async for request in requests:
                if request.HasField("header"):
                    if partial is not None:
                        raise InvalidInput("a new header before the update was whole")
                    partial = await self._begin(request.header, context)
                elif partial is None:
                    raise InvalidInput("an update begins with its header")
                if partial.add(request.data):
                    self._finish(partial, delivery)
                    partial = None
                    await delivery.room()
        finally:
            if partial is not None:
                partial.release()

    async def _begin(
        self, header: pb.UpdateHeader, context: grpc.aio.ServicerContext[Any, Any]
    ) -> Partial:
        checked_name("assignment_id", header.assignment_id)
        check_acts_as(context, header.agent, "submit for")
        try:
            run_id = checked_name("run_id", header.run_id)
            known = self._keeper.known_exchange(run_id)
            reason = _misfit(header, known or await self._keeper.exchange(run_id))
            reason = self._not_granted(header, context) or reason
        except NotFound as error:
            reason = str(error)
        return PartialUpdate(header, header.total_bytes, reason, self._budget)

    def _not_granted(
        self, header: pb.UpdateHeader, context: grpc.aio.ServicerContext[Any, Any]
    ) -> str:
        """Why the update is not its sender's to make; "" when it is.

        Agents from before there were grants show none. They know no TLS either.
        """
        if not header.grant and not header.agent and caller(context) is None:
            return ""
        key = self._keeper.grant_key(header.run_id)
        if is_granted(key, header.assignment_id, header.agent, header.grant):
            return ""
        note_refusal(f"{header.agent} submits {header.assignment_id} without its grant")
        return f"the assignment was not given to '{one_line(header.agent)}'"

    def _finish(self, partial: Partial, delivery: _Delivery) -> None:
        """Submit an update that is whole."""
        header = partial.header
        delivery.expect()
        if not partial.reason:
            submission = _submission(header, partial.data)
            partial.release()
            self._keeper.submit(
                header.run_id,
                submission,
                lambda receipt, text: delivery.answer(header.assignment_id, receipt, text),
            )
        elif partial.out_of_room:
            delivery.answer(header.assignment_id, Receipt.RETRY, partial.reason)
        else:
            self._keeper.refuse(header.run_id, header.assignment_id, partial.reason)
            delivery.answer(header.assignment_id, Receipt.INVALID, partial.reason)


class _Delivery:
    """One agent's stream: how many updates wait for their receipts, and the receipts to send."""

    def __init__(self) -> None:
        self._outbox: deque[pb.SubmitUpdatesResponse] = deque()
        self._unanswered = 0
        self._woken = asyncio.Event()
        self._roomy = asyncio.Event()
        self._roomy.set()
        self._reader: asyncio.Task[None] | None = None

    def read(self, reading: Any) -> None:
        """Run `reading` beside the receipts; the stream ends after it."""
        self._reader = asyncio.get_running_loop().create_task(reading)
        self._reader.add_done_callback(self._reader_ended)

    def expect(self) -> None:
        """One more update waits for its receipt."""
        self._unanswered += 1
        if self._unanswered >= MAX_UNANSWERED:
            self._roomy.clear()

    async def room(self) -> None:
        """Return when another update may be read."""
        if not self._roomy.is_set():
            await self._roomy.wait()

    def answer(self, assignment_id: str, receipt: Receipt, message: str) -> None:
        """Send a receipt."""
        self._unanswered -= 1
        self._roomy.set()
        self._outbox.append(
            pb.SubmitUpdatesResponse(
                assignment_id=assignment_id, status=_STATUS[receipt], message=message
            )
        )
        self._woken.set()

    async def receipts(self) -> AsyncIterator[pb.SubmitUpdatesResponse]:
        """The receipts as they come, until the reader has ended and all are sent."""
        while True:
            while self._outbox:
                yield self._outbox.popleft()
            if self._reader is None or (self._reader.done() and not self._unanswered):
                break
            await self._woken.wait()
            self._woken.clear()
        if self._reader is not None and not self._reader.cancelled():
            self._reader.result()

    def stop(self) -> None:
        """Read no more; the receipts that are due still go out."""
        if self._reader is not None:
            self._reader.cancel()

    def _reader_ended(self, reader: asyncio.Task[None]) -> None:
        if not reader.cancelled():
            reader.exception()  # looked at here, in case nobody waits for the receipts any more
        self._woken.set()


async def _file_parts(
    first: pb.PutFileRequest, others: AsyncIterator[pb.PutFileRequest]
) -> AsyncIterator[bytes]:
    yield first.data
    async for request in others:
        if request.sha256 or request.size_bytes:
            raise InvalidInput("a file's sha256 and size_bytes are in its first part only")
        yield request.data


def checked_key(key: bytes) -> bytes:
    """A run's grant key, or nothing; raises InvalidInput for anything else."""
    if len(key) not in (0, KEY_BYTES):
        raise InvalidInput(f"grant_key must have {KEY_BYTES} bytes or none, got {len(key)}")
    return key


def _submission(header: pb.UpdateHeader, data: bytes | bytearray) -> Submission:
    return Submission(
        assignment_id=header.assignment_id,
        round=header.round,
        slot=header.slot,
        base_version=header.base_version,
        samples=header.samples,
        loss=header.loss,
        training_us=header.training_us,
        diverged=header.diverged,
        data=data,
        start_bytes=header.start_bytes if header.HasField("start_bytes") else None,
    )


def _misfit(header: pb.UpdateHeader, exchange: Exchange) -> str:
    """Why an update of that header cannot be one of this run; "" when it can."""
    if header.diverged:
        size = header.total_bytes
        return f"an update that diverged has 0 bytes, not {size}" if size else ""
    dense = exchange.is_dense
    if header.encoding != (pb.UPDATE_ENCODING_DENSE_FLOAT32 if dense else _SELECTED):
        return f"its encoding is not the run's: send {'dense float32' if dense else 'selected'}"
    try:
        exchange.check_size(header.total_bytes)
    except InvalidInput as error:
        return str(error)
    return ""


def _change_message(change: Change) -> pb.WatchModelResponse:
    return pb.WatchModelResponse(
        version=change.version,
        parameters=change.parameters,
        received_slots=change.received_slots,
        open_slots=change.open_slots,
        refused=[
            pb.RefusedUpdate(
                assignment_id=entry.assignment_id, reason=entry.reason, stale=entry.stale
            )
            for entry in change.refused
        ],
        closed=[_closed_message(entry) for entry in change.closed],
        ended=change.ended,
        problem=change.problem,
        totals=pb.RunTotals(
            updates=change.totals.updates,
            samples=change.totals.samples,
            bytes_up=change.totals.bytes_up,
            diverged=change.totals.diverged,
            bytes_down=change.totals.bytes_down,
        ),
    )


def _closed_message(closed: ClosedRound) -> pb.ClosedRound:
    return pb.ClosedRound(
        round=closed.round,
        updates=closed.updates,
        loss=closed.loss,
        samples=closed.samples,
        bytes_up=closed.bytes_up,
        slowest_training_us=closed.slowest_training_us,
        diverged=closed.diverged,
        bytes_down=closed.bytes_down,
        staleness=closed.staleness,
    )
