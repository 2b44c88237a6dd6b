"""The RPCs: converts, checks who asks, answers, counts, and turns errors into statuses."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any

import grpc

from edge_agents.prediction.answering import Answering, Busy
from edge_agents.prediction.personal import PersonalModel
from tinyfleet.errors import InvalidInput, TinyFleetError
from tinyfleet.exposition.text import Family, Histogram
from tinyfleet.logs import fields
from tinyfleet.readings import Level, Reading
from tinyfleet.security.bearer import AGENT
from tinyfleet.security.roles import MAY_CALL
from tinyfleet.security.serving import caller_of
from tinyfleet.v1 import prediction_pb2, prediction_pb2_grpc
from tinyfleet.wire import loss_to_message

SERVICE = prediction_pb2.DESCRIPTOR.services_by_name["PredictionService"].full_name
ANSWERED = (("tinyfleet-answered", "1"),)  # MUST match tinyfleet/client.py
# Our choice: a small model answers in a tenth of a millisecond, a large one in some ten.
SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)

log = logging.getLogger("prediction")


class Forbidden(TinyFleetError):
    """Whoever calls may not do that."""


STATUS_OF: dict[type[TinyFleetError], grpc.StatusCode] = {
    InvalidInput: grpc.StatusCode.INVALID_ARGUMENT,
    Busy: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Forbidden: grpc.StatusCode.PERMISSION_DENIED,
}


class PredictionServicer(prediction_pb2_grpc.PredictionServiceServicer):
    """Answers in the name of one agent."""

    def __init__(
        self,
        answering: Answering,
        agent: str,
        *,
        with_tls: bool,
        timer: Callable[[], float] = time.perf_counter,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """agent: its name, as which a caller's certificate may act. with_tls: callers have one."""
        self._answering = answering
        self._agent = agent
        self._with_tls = with_tls
        self._timer = timer
        self._clock = clock
        self._answered = self._samples = self._refused = 0
        self._seconds = Histogram(
            "tinyfleet_prediction_seconds", "Time in which questions were answered.", SECONDS
        )

    async def Predict(
        self, request: prediction_pb2.PredictRequest, context: Any
    ) -> prediction_pb2.PredictResponse:
        async with self._call("Predict", context):
            outputs, version = await self._answer(request)
            return prediction_pb2.PredictResponse(outputs=outputs, version=version)
        raise AssertionError  # an error has ended the call

    async def PredictStream(
        self, requests: AsyncIterator[prediction_pb2.PredictStreamRequest], context: Any
    ) -> AsyncIterator[prediction_pb2.PredictStreamResponse]:
        async with self._call("PredictStream", context):
            async for request in requests:
                outputs, version = await self._answer(request)
                yield prediction_pb2.PredictStreamResponse(outputs=outputs, version=version)

    async def GetModel(
        self, request: prediction_pb2.GetModelRequest, context: Any
    ) -> prediction_pb2.GetModelResponse:
        async with self._call("GetModel", context):
            model = await self._answering.named()
            height, width, channels = model.predictor.input_shape
            response = prediction_pb2.GetModelResponse(
                version=_version(model),
                agent=self._agent,
                input_height=height,
                input_width=width,
                input_channels=channels,
                outputs=model.predictor.outputs,
                loss=loss_to_message(model.run.model.loss),
                training_loss=model.loss,
                task=model.run.task,
            )
            response.trained_time.FromNanoseconds(int(model.trained_at * 1e9))
            return response
        raise AssertionError  # an error has ended the call

    async def _answer(
        self, request: prediction_pb2.PredictRequest | prediction_pb2.PredictStreamRequest
    ) -> tuple[bytes, prediction_pb2.ModelVersion]:
        begun = self._timer()
        answer = await self._answering.predict(request.inputs, request.count)
        self._seconds.observe(self._timer() - begun)
        self._answered += 1
        self._samples += request.count
        return answer.outputs.astype("<f4", copy=False).tobytes(), _version(answer.model)

    def readings(self) -> Iterable[Reading]:
        """What was asked so far, and of which model."""
        newest = self._answering.newest_or_none()
        values: dict[str, object] = {
            "answered": self._answered,
            "refused": self._refused,
            "samples": self._samples,
            "models": newest.number if newest else 0,
        }
        if newest is not None:
            values["model_age_s"] = max(self._clock() - newest.trained_at, 0.0)
        yield Reading("predictions", Level.OK, _said_of(newest), values)

    def families(self) -> Iterable[Family]:
        """What readings do not tell."""
        yield self._seconds.family()

    @contextlib.asynccontextmanager
    async def _call(self, method: str, context: Any) -> AsyncIterator[None]:
        """Around a call; ends it with a status when its caller may not make it, or it fails."""
        try:
            if self._with_tls:
                self._check_caller(method, context)
            yield
        except TinyFleetError as error:
            self._refused += 1
            status = STATUS_OF.get(type(error), grpc.StatusCode.FAILED_PRECONDITION)
            await _end(context, status, str(error))
        except grpc.aio.InternalError:  # the caller is gone, in the middle of a call
            raise asyncio.CancelledError from None
        except Exception as error:  # whatever it is, the agent stays in the fleet
            self._refused += 1
            log.error("unexpected error", exc_info=error)
            text = "internal error; the agent's log has the details"
            await _end(context, grpc.StatusCode.INTERNAL, text)

    def _check_caller(self, method: str, context: Any) -> None:
        """Raise Forbidden unless the caller is an operator, or the agent itself."""
        bearer = caller_of(context.auth_context())
        allowed = MAY_CALL[f"/{SERVICE}/{method}"]
        if bearer is not None and (
            bearer.may_act_as(self._agent) if bearer.role == AGENT else bearer.role in allowed
        ):
            return
        who = str(bearer or "the certificate's bearer, nobody of a fleet,")
        text = f"{who} may not call {method}: that is for operators and {self._agent} itself"
        log.warning("call refused", extra=fields(reason=text))
        raise Forbidden(text)


async def _end(context: Any, status: grpc.StatusCode, text: str) -> None:
    """End a call with a status; one whose caller is gone is cancelled: nobody listens."""
    try:
        await context.abort(status, text, ANSWERED)
    except grpc.aio.InternalError:
        raise asyncio.CancelledError from None


def _version(model: PersonalModel) -> prediction_pb2.ModelVersion:
    return prediction_pb2.ModelVersion(
        run_id=model.run_id,
        round=model.round,
        number=model.number,
        parameters_sha256=model.sha256,
        model=model.run.model.name,
    )


def _said_of(newest: PersonalModel | None) -> str:
    return f"predicts by round {newest.round} of {newest.run_id}" if newest else "no model yet"
