"""A running fleet from Python: what the `tinyfleet` command is built on.

    with Fleet("127.0.0.1:7310") as fleet:
        run = fleet.create_run(spec)
        for state in fleet.watch_run(run.run_id):
            print(state.rounds_done, state.loss)
        checkpoint = fleet.fetch_checkpoint(run.run_id)

Answers are the messages of `proto/tinyfleet/v1`. Calls block; a `Fleet` may be shared by threads.
"""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import grpc

from tinyfleet.checkpoint import Checkpoint
from tinyfleet.errors import InvalidInput, Refused, TinyFleetError, Unreachable
from tinyfleet.model.spec import MAX_PARAMETERS, parameters_sha256
from tinyfleet.run import RunSpec
from tinyfleet.run_files import file_of, parts_of_file
from tinyfleet.security.channels import channel
from tinyfleet.security.handshakes import diagnosed
from tinyfleet.v1 import (
    aggregator_pb2,
    aggregator_pb2_grpc,
    coordinator_pb2,
    coordinator_pb2_grpc,
)
from tinyfleet.wire import parameters_from_bytes, run_from_message, run_to_message

ANSWERED = "tinyfleet-answered"  # MUST match services/hosting/access.py
CALL_TIMEOUT_S = 10.0
PUT_TIMEOUT_S = 300.0  # our choice: the largest file at 2 Mbit/s
_OPTIONS = (("grpc.enable_http_proxy", 0),)  # a fleet is reached directly
ENDED = (
    coordinator_pb2.RUN_STATUS_FINISHED,
    coordinator_pb2.RUN_STATUS_STOPPED,
    coordinator_pb2.RUN_STATUS_FAILED,
)

Answer = TypeVar("Answer")


class Fleet:
    """The coordinator at `coordinator` (host:port), and the aggregator it names.

    Every method raises Unreachable when a service does not answer, and Refused or InvalidInput
    when it refuses; the message is one line for people.
    """

    def __init__(
        self, coordinator: str, timeout_s: float = CALL_TIMEOUT_S, tls: Path | None = None
    ) -> None:
        """tls: folder of the operator's certificate; without one only this machine is reached."""
        self._address = coordinator
        self._timeout_s = timeout_s
        self._tls = tls
        self._channel = channel(coordinator, "coordinator", tls, _OPTIONS)
        self._coordinator = coordinator_pb2_grpc.CoordinatorServiceStub(self._channel)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._channel.close()

    def create_run(self, spec: RunSpec, request_id: str = "") -> coordinator_pb2.Run:
        """Register a run. A repeat with the same `request_id` gives the run of the first call."""
        request = coordinator_pb2.CreateRunRequest(
            request_id=request_id or uuid.uuid4().hex, spec=run_to_message(spec)
        )
        run: coordinator_pb2.Run = self._call(self._coordinator.CreateRun, request).run
        return run

    def put_file(self, content: bytes) -> bool:
        """Store a file that runs will need with the aggregator; whether it was there already."""
        file = file_of(content)
        requests = (aggregator_pb2.PutFileRequest(data=part) for part in parts_of_file(content))
        first = next(requests)
        first.sha256, first.size_bytes = file.sha256, file.size
        address = self._aggregator()
        with channel(address, "aggregator", self._tls, _OPTIONS) as to_aggregator:
            stub = aggregator_pb2_grpc.AggregatorServiceStub(to_aggregator)
            try:
                answer = stub.PutFile(itertools.chain([first], requests), timeout=PUT_TIMEOUT_S)
            except grpc.RpcError as error:
                raise _translated(error, "aggregator", address, self._tls) from None
        return bool(answer.was_there)

    def _aggregator(self) -> str:
        answer = self._call(self._coordinator.ListRuns, coordinator_pb2.ListRunsRequest(limit=1))
        if not answer.aggregator:
            raise Refused("this fleet keeps no files for runs: bring its services up to date")
        return str(answer.aggregator)

    def get_run(self, run_id: str) -> coordinator_pb2.Run:
        """The run `run_id` as it is now."""
        request = coordinator_pb2.GetRunRequest(run_id=run_id)
        run: coordinator_pb2.Run = self._call(self._coordinator.GetRun, request).run
        return run

    def list_runs(self, limit: int = 100) -> list[coordinator_pb2.Run]:
        """The newest `limit` runs, newest first."""
        request = coordinator_pb2.ListRunsRequest(limit=limit)
        return list(self._call(self._coordinator.ListRuns, request).runs)

    def stop_run(self, run_id: str) -> coordinator_pb2.Run:
        """Stop a run; one that has ended stays as it is."""
        request = coordinator_pb2.StopRunRequest(run_id=run_id)
        run: coordinator_pb2.Run = self._call(self._coordinator.StopRun, request).run
        return run

    def list_agents(self, attached_only: bool = False) -> list[coordinator_pb2.Agent]:
        """The agents of the fleet, by name."""
        request = coordinator_pb2.ListAgentsRequest(attached_only=attached_only)
        return list(self._call(self._coordinator.ListAgents, request).agents)

    def watch_run(self, run_id: str) -> Iterator[coordinator_pb2.Run]:
        """The run's state now and whenever it changes, until it ends.

        Raises Unreachable when the coordinator goes away meanwhile; the run itself goes on.
        """
        request = coordinator_pb2.WatchRunRequest(run_id=run_id)
        try:
            for response in self._coordinator.WatchRun(request):
                yield response.run
        except grpc.RpcError as error:
            raise _translated(error, "coordinator", self._address, self._tls) from None

    def fetch_checkpoint(self, run_id: str, version: int | None = None) -> Checkpoint:
        """The model of a run, the latest one unless `version` names another, checked."""
        run = self.get_run(run_id)
        spec = run_from_message(run.spec)
        request = aggregator_pb2.FetchModelRequest(run_id=run_id, version=version)
        with channel(run.aggregator, "aggregator", self._tls, _OPTIONS) as to_aggregator:
            stub = aggregator_pb2_grpc.AggregatorServiceStub(to_aggregator)
            try:
                found, data = _joined(stub.FetchModel(request, timeout=10 * self._timeout_s))
            except grpc.RpcError as error:
                raise _translated(error, "aggregator", run.aggregator, self._tls) from None
        parameters = parameters_from_bytes(data, spec.model.parameter_count)
        latest = version is None and run.status in ENDED and run.parameters_sha256
        if latest and parameters_sha256(parameters) != run.parameters_sha256:
            raise Refused(f"the model of run {run_id} does not have the hash the run ended with")
        return Checkpoint(spec, run_id, found, parameters)

    def _call(self, method: Callable[..., Answer], request: Any) -> Answer:
        try:
            return method(request, timeout=self._timeout_s)
        except grpc.RpcError as error:
            raise _translated(error, "coordinator", self._address, self._tls) from None


def _joined(chunks: Iterator[aggregator_pb2.FetchModelResponse]) -> tuple[int, bytes]:
    data, version = bytearray(), 0
    for chunk in chunks:
        version = chunk.version
        data += chunk.data
        if len(data) > 4 * MAX_PARAMETERS:
            raise InvalidInput("the aggregator sent more than the largest model")
    return version, bytes(data)


def was_answered(error: grpc.RpcError) -> bool:
    """Whether the service itself refused, as opposed to gRPC, which did not reach it."""
    return any(entry.key == ANSWERED for entry in error.trailing_metadata() or ())


def _translated(
    error: grpc.RpcError, service: str, address: str, tls: Path | None
) -> TinyFleetError:
    status, details = error.code(), error.details()
    absent = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
    if status in absent and not was_answered(error):
        if (cause := diagnosed(details or "", address, tls)) is not None:
            return Refused(f"{service} at {address}: {cause}")
        return Unreachable(
            f"no {service} answers at {address}: start it with 'tinyfleet-{service}', "
            f"or name another address"
        )
    if status is grpc.StatusCode.INVALID_ARGUMENT:
        return InvalidInput(details)
    return Refused(f"{service}: {details}")
