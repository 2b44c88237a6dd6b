"""The metrics service as the commands see it: plain answers, and errors of one line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import grpc

from tinyfleet.client import was_answered
from tinyfleet.errors import InvalidInput, Refused, TinyFleetError, Unreachable
from tinyfleet.security.channels import channel
from tinyfleet.security.handshakes import diagnosed
from tinyfleet.v1 import metrics_pb2, metrics_pb2_grpc

QUESTION_TIMEOUT_S = 60.0
_OPTIONS = (
    ("grpc.max_receive_message_length", -1),  # 100,000 rows are more than the default of 4 MiB
    ("grpc.enable_http_proxy", 0),
)


class NoSuchRun(Refused):
    """No sample names the run (yet)."""


class Metrics:
    """The metrics service at `address`, host:port.

    Every method raises Unreachable when it does not answer, InvalidInput or Refused when it
    refuses, with a message of one line.
    """

    def __init__(self, address: str, tls: Path | None = None) -> None:
        """tls: folder of the operator's certificate."""
        self._address = address
        self._tls = tls
        self._channel = channel(address, "metrics", tls, _OPTIONS)
        self._stub = metrics_pb2_grpc.MetricsServiceStub(self._channel)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._channel.close()

    def query(self, request: metrics_pb2.QueryRequest) -> metrics_pb2.QueryResponse:
        """The answer to a question."""
        answer: metrics_pb2.QueryResponse = self._call(self._stub.Query, request)
        return answer

    def summarize(self, run_id: str) -> list[metrics_pb2.MetricSummary]:
        """A run's metrics; raises NoSuchRun when no sample names the run."""
        request = metrics_pb2.SummarizeRequest(run_id=run_id)
        return list(self._call(self._stub.Summarize, request).metrics)

    def losses(self, run_id: str, rounds: int, points: int = 256) -> list[tuple[float, float]]:
        """The training loss over a run: `(middle in rounds, mean)` of equal stretches of rounds."""
        width = -(-rounds // points)
        found = []
        for first in range(0, rounds, width):
            where = metrics_pb2.Filter(
                run_id=run_id,
                source="coordinator",
                name="round_loss",
                first_round=first,
                last_round=first + width - 1,
            )
            request = metrics_pb2.QueryRequest(
                filter=where, aggregation=metrics_pb2.AGGREGATION_MEAN
            )
            means = [group.value for group in self.query(request).groups if group.count]
            found += [(first + width / 2, mean) for mean in means]
        return found

    def watch(self, which: metrics_pb2.Filter) -> Iterator[metrics_pb2.WatchResponse]:
        """Samples as they arrive; raises Unreachable when the service goes."""
        try:
            yield from self._stub.Watch(metrics_pb2.WatchRequest(filter=which))
        except grpc.RpcError as error:
            raise self._translated(error) from None
        raise Unreachable(f"the metrics service at {self._address} was stopped")

    def _call(self, method: Any, request: Any) -> Any:
        try:
            return method(request, timeout=QUESTION_TIMEOUT_S)
        except grpc.RpcError as error:
            raise self._translated(error) from None

    def _translated(self, error: grpc.RpcError) -> TinyFleetError:
        if not was_answered(error):
            cause = diagnosed(error.details() or "", self._address, self._tls)
            if cause is not None:
                return Refused(f"metrics service at {self._address}: {cause}")
        match error.code():
            case grpc.StatusCode.UNAVAILABLE if not was_answered(error):
                return Unreachable(
                    f"no metrics service answers at {self._address}: start it with "
                    "'tinyfleet-metrics', or name another one with --metrics-service"
                )
            case grpc.StatusCode.DEADLINE_EXCEEDED:
                return Unreachable(
                    f"the metrics service at {self._address} did not answer within "
                    f"{QUESTION_TIMEOUT_S:.0f} s: ask for less"
                )
            case grpc.StatusCode.INVALID_ARGUMENT:
                return InvalidInput(error.details())
            case grpc.StatusCode.NOT_FOUND:
                return NoSuchRun(error.details())
            case _:
                return Refused(f"metrics service: {error.details()}")
