"""Delivers a process's samples to the metrics service, in batches, in the background.

The metrics service being slow, down or never there costs the process nothing but a bounded buffer:
batches are retried under their own request id, so that a batch that arrived twice is stored once.
Imported by programs' mains only; everything else sees `tinyfleet.telemetry.Telemetry`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import grpc
from google.protobuf.timestamp_pb2 import Timestamp

from tinyfleet.errors import InvalidInput
from tinyfleet.logs import fields
from tinyfleet.security.channels import Line
from tinyfleet.telemetry import CAPACITY, Measurement, SampleBuffer, check_label
from tinyfleet.v1 import metrics_pb2, metrics_pb2_grpc

# Sent under any of these, a batch will never be taken: retrying it would hold up all later ones.
_REFUSED = frozenset(
    {
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.UNIMPLEMENTED,
    }
)
_OPTIONS = (
    ("grpc.enable_http_proxy", 0),
    ("grpc.max_reconnect_backoff_ms", 10_000),
)

log = logging.getLogger("telemetry")


@dataclass(frozen=True)
class Pace:
    """When batches go out; the defaults are our choice.

    batch: samples that are sent at once, without waiting for more. largest: most samples in one
    batch; making one takes the loop 2.5 us a sample, so 500 keep a round waiting for 1.3 ms at
    most. linger_s: longest wait for more. first_retry_s, longest_retry_s: bounds of the pause
    between attempts, which doubles and is jittered. call_s: time limit of one attempt.
    """

    batch: int = 200
    largest: int = 500
    linger_s: float = 1.0
    first_retry_s: float = 0.5
    longest_retry_s: float = 30.0
    call_s: float = 10.0


class Reporter:
    """`Telemetry` that ends in the metrics service at `address`. Made inside a running event loop.

    `report` may be called from any thread. Nothing is sent while there is nothing to send, and no
    connection is opened before the first sample. An empty address means: measure nothing.
    """

    def __init__(
        self,
        source: str,
        address: str,
        *,
        clock: Callable[[], float] = time.time,
        capacity: int = CAPACITY,
        pace: Pace | None = None,
        tls: Path | None = None,
    ) -> None:
        """source: who measures, e.g. an agent's name. tls: folder of the certificate to show.

        Raises InvalidInput unless the source is a label and the address may be dialled.
        """
        check_label("source", source)
        if not source:
            raise InvalidInput("a reporter needs a source: the name of whoever measures")
        self._source = source
        self._pace = pace or Pace()
        self._buffer = SampleBuffer(clock, capacity)
        self._loop = asyncio.get_running_loop()
        self._wake, self._full, self._closing = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._awake = not address  # with nowhere to send to, nothing is ever woken
        self._late = False
        self._address = address
        self._line = Line(address, "metrics", tls, _OPTIONS) if address else None
        self._task = self._loop.create_task(self._deliver_all()) if address else None

    @property
    def dropped(self) -> int:
        """How many samples were given up since the start."""
        return self._buffer.dropped

    def report(
        self, name: str, value: float, unit: str = "", run_id: str = "", round: int | None = None
    ) -> None:
        """Take one sample; see `Telemetry.report`. About a microsecond."""
        if self._task is None:
            return
        self._buffer.add(name, value, unit, run_id, round)
        if not self._awake:
            self._signal(self._wake)
        elif len(self._buffer) == self._pace.batch:
            self._signal(self._full)

    async def close(self, drain_s: float) -> None:
        """Send what is left, for at most `drain_s` seconds, then stop. Never raises."""
        task, self._task = self._task, None
        if task is None:
            return
        for event in (self._closing, self._wake, self._full):
            event.set()
        _, unfinished = await asyncio.wait([task], timeout=drain_s)
        if unfinished:
            task.cancel()
            await asyncio.wait([task])
            log.warning("samples lost at the end", extra=fields(waiting=len(self._buffer)))

    def _signal(self, event: asyncio.Event) -> None:
        self._awake = True
        with contextlib.suppress(RuntimeError):  # the loop has ended: nobody is left to wake
            self._loop.call_soon_threadsafe(event.set)

    async def _deliver_all(self) -> None:
        assert self._line is not None  # noqa: S101 - else nothing is delivered
        async with contextlib.aclosing(self._line):
            while not self._closing.is_set() or len(self._buffer):
                await self._more()
                if samples := self._buffer.take(self._pace.largest):
                    await self._deliver(self._line, batch_request(self._source, samples))

    async def _more(self) -> None:
        """Return when a batch is due: large enough, old enough, or the last one."""
        await self._wake.wait()
        if len(self._buffer) < self._pace.batch:
            await _event_or_timeout(self._full, self._pace.linger_s)
        if self._closing.is_set():
            return
        self._full.clear()
        if len(self._buffer) <= self._pace.largest:  # else what is left goes out next, at once
            self._wake.clear()
            self._awake = False

    async def _deliver(self, line: Line, request: metrics_pb2.ReportRequest) -> None:
        """Send one batch until it is stored or refused; each attempt under the same request id."""
        pause = self._pace.first_retry_s
        while True:
            try:
                stub = metrics_pb2_grpc.MetricsServiceStub(line.channel())
                await stub.Report(request, timeout=self._pace.call_s)
            except grpc.aio.AioRpcError as error:
                if error.code() in _REFUSED:
                    return self._give_up(request, error)
                self._say_late(error)
            else:
                return self._say_on_time()
            await _event_or_timeout(self._closing, pause * random.uniform(0.5, 1.0))
            if self._closing.is_set():  # no more waiting for long: the drain has a limit
                await asyncio.sleep(min(pause, self._pace.first_retry_s))
            pause = min(2 * pause, self._pace.longest_retry_s)

    def _give_up(self, request: metrics_pb2.ReportRequest, error: grpc.aio.AioRpcError) -> None:
        self._buffer.dropped += len(request.samples)
        log.warning(
            "samples refused",
            extra=fields(count=len(request.samples), reason=error.details()),
        )

    def _say_late(self, error: grpc.aio.AioRpcError) -> None:
        if not self._late:
            self._late = True
            where = fields(address=self._address, status=error.code().name)
            log.warning("metrics service does not answer, keeping samples", extra=where)

    def _say_on_time(self) -> None:
        if self._late:
            self._late = False
            log.info("metrics service answers again", extra=fields(address=self._address))


def batch_request(source: str, samples: Iterable[Measurement]) -> metrics_pb2.ReportRequest:
    """A request with a fresh id for samples of one source."""
    request = metrics_pb2.ReportRequest(request_id=uuid.uuid4().hex)
    for sample in samples:
        request.samples.add(
            name=sample.name,
            value=float(sample.value),
            unit=sample.unit,
            run_id=sample.run_id,
            round=sample.round,
            source=source,
            time=timestamp(sample.time),
        )
    return request


def timestamp(seconds: float) -> Timestamp:
    """The message for a time in seconds since 1970-01-01T00:00:00Z."""
    whole, nanos = divmod(round(seconds * 1e9), 1_000_000_000)
    return Timestamp(seconds=whole, nanos=nanos)


async def _event_or_timeout(event: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
