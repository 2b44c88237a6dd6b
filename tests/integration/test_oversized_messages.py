"""A message that is too large is refused and noted, whoever sends it, at once or in a stream."""

from __future__ import annotations

import grpc
import pytest
from security_site import audited, dial, kept_open, refusal, site

from services.hosting.messages import HARD_MAX_BYTES, MAX_REQUEST_BYTES
from tinyfleet.v1 import aggregator_pb2, coordinator_pb2, metrics_pb2
from tinyfleet.v1.aggregator_pb2_grpc import AggregatorServiceStub
from tinyfleet.v1.coordinator_pb2_grpc import CoordinatorServiceStub
from tinyfleet.v1.metrics_pb2_grpc import MetricsServiceStub

pytestmark = pytest.mark.slow
__all__ = ["site"]  # the fixture

LARGE = [MAX_REQUEST_BYTES + 1, HARD_MAX_BYTES - 100]
FAR_TOO_LARGE = [HARD_MAX_BYTES + 1, 5 * 1024 * 1024]


def report(size):
    sample = metrics_pb2.Sample(source="pi-1", name="x" * size)
    return metrics_pb2.ReportRequest(request_id="big", samples=[sample])


def refused_report(site, size):
    with dial(site, "metrics", "pi-1") as opened:
        return refusal(lambda: MetricsServiceStub(opened).Report(report(size), timeout=10))


def lines_of(site, service):
    path = site.folder / "state" / service / "audit.jsonl"
    return len(path.read_text().splitlines())


@pytest.mark.parametrize("size", LARGE)
def test_a_large_message(site, size):
    code, text = refused_report(site, size)
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert text == f"a message has at most 1048576 bytes, got {report(size).ByteSize()}"
    assert audited(site, "metrics", "agent pi-1", text)["outcome"] == "refused"


@pytest.mark.parametrize("size", FAR_TOO_LARGE)
def test_a_message_that_grpc_cuts_off(site, size):
    before = lines_of(site, "metrics")
    code, text = refused_report(site, size)
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "Received message larger than max" in text
    line = audited(site, "metrics", "agent pi-1", "cut off", since=before)
    assert (line["method"], line["outcome"]) == ("Report", "refused")


def submitted(site, keep, size):
    """How the stream of an agent ends whose second message has so many bytes."""
    header = aggregator_pb2.UpdateHeader(
        assignment_id="x-0-0-0",
        run_id="x",
        agent="pi-1",
        encoding=aggregator_pb2.UPDATE_ENCODING_DENSE_FLOAT32,
        diverged=True,
    )
    first = aggregator_pb2.SubmitUpdatesRequest(header=header)
    second = aggregator_pb2.SubmitUpdatesRequest(data=bytes(size))
    with dial(site, "aggregator", "pi-1") as opened:
        call = AggregatorServiceStub(opened).SubmitUpdates(keep(first, second), timeout=20)
        return refusal(lambda: list(call))


@pytest.mark.parametrize(
    ("size", "told", "noted"),
    [
        *((size, "a message has at most 1048576 bytes", "bytes, got") for size in LARGE),
        *((size, "Received message larger than max", "cut off") for size in FAR_TOO_LARGE),
    ],
)
def test_a_message_within_a_stream(site, size, told, noted):
    before = lines_of(site, "aggregator")
    with kept_open() as keep:
        code, text = submitted(site, keep, size)
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert told in text
    line = audited(site, "aggregator", "agent pi-1", noted, since=before)
    assert (line["method"], line["outcome"]) == ("SubmitUpdates", "refused")


@pytest.mark.parametrize("how", ["done", "gone"])
def test_a_stream_that_just_ends_is_not_noted(site, how):
    before = lines_of(site, "coordinator")
    hello = coordinator_pb2.Hello(agent="pi-1", instance_id="one")
    with dial(site, "coordinator", "pi-1") as opened, kept_open() as keep:
        call = CoordinatorServiceStub(opened).Attend(
            keep(coordinator_pb2.AttendRequest(hello=hello))
        )
        assert next(call).WhichOneof("message") == "welcome"
        if how == "gone":
            call.cancel()
    with dial(site, "coordinator", "pi-1") as opened:  # what is noted later is written later
        refusal(
            lambda: CoordinatorServiceStub(opened).ListAgents(coordinator_pb2.ListAgentsRequest())
        )
    audited(site, "coordinator", "ListAgents", since=before)
    path = site.folder / "state" / "coordinator" / "audit.jsonl"
    assert not [line for line in path.read_text().splitlines()[before:] if "cut off" in line]


def test_who_may_not_call_is_refused_before_the_message_is_read(site):
    """So it costs memory only to those who may call."""
    huge = coordinator_pb2.GetRunRequest(run_id="x" * FAR_TOO_LARGE[-1])
    with dial(site, "coordinator", "pi-1") as opened:
        code, text = refusal(lambda: CoordinatorServiceStub(opened).GetRun(huge, timeout=10))
    assert code is grpc.StatusCode.PERMISSION_DENIED
    assert text == "agent pi-1 may not call GetRun: that is for operators"


def test_a_call_without_its_message_is_refused(site):
    with dial(site, "metrics", "pi-1") as opened:
        ask = opened.stream_unary("/tinyfleet.v1.MetricsService/Report")
        code, _ = refusal(lambda: ask(iter(()), timeout=10))
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
