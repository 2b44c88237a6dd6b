"""The metrics service's RPCs: converts, calls the collector, converts back."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import asdict
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from services.hosting.access import check_acts_as
from services.metrics.collector import Collector
from services.metrics.core import (
    DEFAULT_ROWS,
    KEYS,
    MAX_BATCH,
    MAX_ROWS,
    NANOSECONDS,
    Aggregation,
    Batch,
    Filter,
    Group,
    Question,
    Sample,
)
from tinyfleet.errors import InvalidInput
from tinyfleet.v1 import metrics_pb2, metrics_pb2_grpc

WATCH_BATCH = 1000

_AGGREGATIONS = {
    metrics_pb2.AGGREGATION_LAST: Aggregation.LAST,
    metrics_pb2.AGGREGATION_MEAN: Aggregation.MEAN,
    metrics_pb2.AGGREGATION_MIN: Aggregation.MIN,
    metrics_pb2.AGGREGATION_MAX: Aggregation.MAX,
    metrics_pb2.AGGREGATION_PERCENTILE: Aggregation.PERCENTILE,
    metrics_pb2.AGGREGATION_SUM: Aggregation.SUM,
    metrics_pb2.AGGREGATION_COUNT: Aggregation.COUNT,
}
_GROUP_BY = {
    metrics_pb2.GROUP_BY_RUN: "run_id",
    metrics_pb2.GROUP_BY_SOURCE: "source",
    metrics_pb2.GROUP_BY_NAME: "name",
    metrics_pb2.GROUP_BY_ROUND: "round",
}


class MetricsServicer(metrics_pb2_grpc.MetricsServiceServicer):
    """Serves `tinyfleet.v1.MetricsService`."""

    def __init__(self, collector: Collector, clock_ns: Callable[[], int]) -> None:
        self._collector = collector
        self._clock_ns = clock_ns

    async def Report(
        self, request: metrics_pb2.ReportRequest, context: Any
    ) -> metrics_pb2.ReportResponse:
        """Store samples."""
        for source in {sample.source for sample in request.samples}:
            check_acts_as(context, source, "report as")
        await self._collector.report(batch_from_message(request, self._clock_ns()))
        return metrics_pb2.ReportResponse()

    async def Query(
        self, request: metrics_pb2.QueryRequest, context: Any
    ) -> metrics_pb2.QueryResponse:
        """Samples, or one value per group."""
        limit = _limit(request.limit)
        if request.aggregation == metrics_pb2.AGGREGATION_UNSPECIFIED:
            _refuse_grouping(request)
            which = filter_from_message(request.filter)
            samples = await self._collector.samples(which, limit + 1)
            return metrics_pb2.QueryResponse(
                samples=map(sample_to_message, samples[:limit]), truncated=len(samples) > limit
            )
        groups = await self._collector.groups(question_from_message(request, limit + 1))
        return metrics_pb2.QueryResponse(
            groups=map(group_to_message, groups[:limit]), truncated=len(groups) > limit
        )

    async def Watch(
        self, request: metrics_pb2.WatchRequest, context: Any
    ) -> AsyncIterator[metrics_pb2.WatchResponse]:
        """Samples as they arrive."""
        watcher = self._collector.watchers.add(filter_from_message(request.filter))
        try:
            # A caller that has the headers knows that it misses nothing from here on.
            await context.send_initial_metadata(())
            while (news := await watcher.next(WATCH_BATCH)) is not None:
                samples, dropped = news
                yield metrics_pb2.WatchResponse(
                    samples=map(sample_to_message, samples), dropped=dropped
                )
        finally:
            self._collector.watchers.remove(watcher)

    async def Summarize(
        self, request: metrics_pb2.SummarizeRequest, context: Any
    ) -> metrics_pb2.SummarizeResponse:
        """A run at a glance."""
        summaries = await self._collector.summarize(request.run_id)
        return metrics_pb2.SummarizeResponse(
            metrics=[metrics_pb2.MetricSummary(**asdict(summary)) for summary in summaries]
        )


def batch_from_message(request: metrics_pb2.ReportRequest, now_ns: int) -> Batch:
    """The batch of a request; samples without a time get `now_ns`. Checked by the collector."""
    if len(request.samples) > MAX_BATCH:
        raise InvalidInput(
            f"a request has at most {MAX_BATCH} samples, got {len(request.samples)}: send several"
        )
    return Batch(
        request.request_id, [sample_from_message(sample, now_ns) for sample in request.samples]
    )


def sample_from_message(message: metrics_pb2.Sample, now_ns: int) -> Sample:
    """The sample of a message."""
    return Sample(
        run_id=message.run_id,
        round=message.round if message.HasField("round") else None,
        source=message.source,
        name=message.name,
        value=message.value,
        unit=message.unit,
        time_ns=_nanoseconds(message.time) if message.HasField("time") else now_ns,
    )


def sample_to_message(sample: Sample) -> metrics_pb2.Sample:
    """The message of a sample."""
    seconds, nanos = divmod(sample.time_ns, NANOSECONDS)
    return metrics_pb2.Sample(
        run_id=sample.run_id,
        round=sample.round,
        source=sample.source,
        name=sample.name,
        value=sample.value,
        unit=sample.unit,
        time=Timestamp(seconds=seconds, nanos=nanos),
    )


def filter_from_message(message: metrics_pb2.Filter) -> Filter:
    """The filter of a message."""
    return Filter(
        run_id=message.run_id,
        source=message.source,
        name=message.name,
        first_round=message.first_round if message.HasField("first_round") else None,
        last_round=message.last_round if message.HasField("last_round") else None,
    )


def question_from_message(request: metrics_pb2.QueryRequest, limit: int) -> Question:
    """The question of a request that names an aggregation."""
    if request.aggregation not in _AGGREGATIONS:
        raise InvalidInput(f"aggregation {request.aggregation} is not known to this service")
    return Question(
        which=filter_from_message(request.filter),
        aggregation=_AGGREGATIONS[request.aggregation],
        percentile=request.percentile,
        group_by=_keys(request),
        limit=limit,
    )


def group_to_message(group: Group) -> metrics_pb2.Group:
    """The message of a group."""
    return metrics_pb2.Group(
        run_id=group.run_id,
        source=group.source,
        name=group.name,
        round=group.round,
        value=group.value,
        unit=group.unit,
        count=group.count,
    )


def _keys(request: metrics_pb2.QueryRequest) -> tuple[str, ...]:
    for key in request.group_by:
        if key not in _GROUP_BY:
            raise InvalidInput(f"group_by {key} is not set to a known field")
    wanted = {_GROUP_BY[key] for key in request.group_by}
    return tuple(key for key in KEYS if key in wanted)


def _limit(limit: int) -> int:
    if limit > MAX_ROWS:
        raise InvalidInput(f"limit is at most {MAX_ROWS}, got {limit}: ask by range of rounds")
    return limit or DEFAULT_ROWS


def _refuse_grouping(request: metrics_pb2.QueryRequest) -> None:
    if request.group_by:
        raise InvalidInput("group_by needs an aggregation: one value per group")


def _nanoseconds(time: Timestamp) -> int:
    if not 0 <= time.nanos < NANOSECONDS:
        raise InvalidInput(f"time.nanos must be 0 to 999999999, got {time.nanos}")
    return time.seconds * NANOSECONDS + time.nanos
