"""The live model of an agent from Python: what `tinyfleet predict` is built on.

    with LiveModel("127.0.0.1:7320") as model:
        prediction = model.predict(rows)
        print(prediction.outputs, prediction.version.round)

Calls block; a `LiveModel` may be shared by threads.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import grpc
import numpy as np

from tinyfleet.client import was_answered
from tinyfleet.errors import InvalidInput, Refused, TinyFleetError, Unreachable
from tinyfleet.learner.protocol import Floats
from tinyfleet.security.bearer import AGENT
from tinyfleet.security.channels import channel
from tinyfleet.security.handshakes import diagnosed
from tinyfleet.v1 import prediction_pb2, prediction_pb2_grpc

MAX_SAMPLES = 1024  # of one call; MUST match edge_agents/prediction/answering.py
MAX_INPUT_BYTES = 1024 * 1024  # of one call; MUST match edge_agents/prediction/answering.py
CALL_TIMEOUT_S = 10.0
_OPTIONS = (
    ("grpc.enable_http_proxy", 0),  # an agent is reached directly
    ("grpc.max_receive_message_length", -1),  # as large as the outputs of 1024 samples are
)

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Prediction:
    """outputs: `(count, outputs) float32`; for a classifier logits. version: of which model."""

    outputs: Floats
    version: prediction_pb2.ModelVersion


class LiveModel:
    """The newest model of the agent that answers predictions at `address`, host:port.

    Every method raises Unreachable when nobody answers, and Refused or InvalidInput when the agent
    refuses; the message is one line for people.
    """

    def __init__(
        self,
        address: str,
        tls: Path | None = None,
        agent: str = "",
        timeout_s: float = CALL_TIMEOUT_S,
    ) -> None:
        """tls: folder of an operator's certificate, or the agent's own.

        agent: with TLS, the name that its certificate must have; empty: any agent of the site.
        """
        self._address = address
        self._tls = tls
        self._timeout_s = timeout_s
        self._channel = channel(address, f"{agent}.{AGENT}" if agent else AGENT, tls, _OPTIONS)
        self._stub = prediction_pb2_grpc.PredictionServiceStub(self._channel)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._channel.close()

    def describe(self) -> prediction_pb2.GetModelResponse:
        """What the newest model is."""
        answer: prediction_pb2.GetModelResponse = self._call(
            self._stub.GetModel, prediction_pb2.GetModelRequest()
        )
        return answer

    def predict(self, rows: Floats) -> Prediction:
        """What the newest model gives for `(count, inputs) float32`, at most MAX_SAMPLES."""
        request = prediction_pb2.PredictRequest(inputs=_packed(rows), count=len(rows))
        answer: prediction_pb2.PredictResponse = self._call(self._stub.Predict, request)
        return _prediction(answer, len(rows))

    def predict_each(self, parts: Iterable[Floats]) -> Iterator[Prediction]:
        """A prediction for each part, in order, over one stream: for who asks often.

        parts: as `predict` takes them; read ahead, in a thread of gRPC's.
        """
        counts: deque[int] = deque()

        def requests() -> Iterator[prediction_pb2.PredictStreamRequest]:
            for rows in parts:
                counts.append(len(rows))
                yield prediction_pb2.PredictStreamRequest(inputs=_packed(rows), count=len(rows))

        stream = self._stub.PredictStream(requests())
        try:
            for answer in stream:
                yield _prediction(answer, counts.popleft())
        except grpc.RpcError as error:
            raise _translated(error, self._address, self._tls) from None
        finally:
            stream.cancel()

    def _call(self, method: Callable[..., Answer], request: Any) -> Answer:
        try:
            return method(request, timeout=self._timeout_s)
        except grpc.RpcError as error:
            raise _translated(error, self._address, self._tls) from None


def _packed(rows: Floats) -> bytes:
    return rows.astype("<f4", copy=False).tobytes()


def _prediction(
    answer: prediction_pb2.PredictResponse | prediction_pb2.PredictStreamResponse, count: int
) -> Prediction:
    outputs = np.frombuffer(answer.outputs, "<f4").astype(np.float32)
    return Prediction(outputs.reshape(count, -1), answer.version)


def samples_at_once(inputs: int) -> int:
    """How many samples of so many values fit one call; at least 1."""
    return max(min(MAX_SAMPLES, MAX_INPUT_BYTES // (4 * inputs)), 1)


def _translated(error: grpc.RpcError, address: str, tls: Path | None) -> TinyFleetError:
    status, details = error.code(), error.details()
    if status is grpc.StatusCode.INVALID_ARGUMENT:
        return InvalidInput(details)
    if was_answered(error):
        return Refused(details)
    if (cause := diagnosed(details or "", address, tls)) is not None:
        return Refused(f"agent at {address}: {cause}")
    if status in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
        return Unreachable(
            f"no agent answers predictions at {address}: start one with --predict {address}, or "
            "name another address"
        )
    if status is grpc.StatusCode.UNIMPLEMENTED:
        return Refused(f"what listens at {address} is no agent: name the address of its --predict")
    return Refused(f"agent at {address}: {details}")
