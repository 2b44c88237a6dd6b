"""Agents and operators of earlier versions go on with today's services.

`tests/contract/VERSION/` keeps what was spoken at each release: its contract as descriptors, and a
whole run as its agent heard and said it. What plays that agent here knows nothing else: no code of
today, only messages made from the kept descriptors, and the bytes that were sent then. Each folder
is a promise to processes out there; see docs/upgrade.md.
"""

from __future__ import annotations

import base64
import hashlib
import json
import queue
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from tinyfleet.cli.local_fleet import LocalFleet
from tinyfleet.errors import InvalidInput
from tinyfleet.model.extractor import Extractor
from tinyfleet.run import make_run
from tinyfleet.tasks import make_task
from tinyfleet.v1 import aggregator_pb2, coordinator_pb2, metrics_pb2
from tinyfleet.wire import run_from_message, run_to_message

CONTRACT = Path(__file__).parents[1] / "contract"
VERSIONS = sorted(path.name for path in CONTRACT.iterdir())
PACKAGE = "tinyfleet.v1"
PATIENCE_S = 60
ACCEPTED, FINISHED = 1, 3
# What differs from run to run, and the header of an update repeats from its assignment.
REPEATED = ("assignment_id", "run_id", "grant")


class OldContract:
    """Messages and calls as a contract of the past has them."""

    def __init__(self, folder: Path) -> None:
        kept = descriptor_pb2.FileDescriptorSet.FromString((folder / "contract.binpb").read_bytes())
        self._pool = descriptor_pool.DescriptorPool()
        for file in kept.file:
            self._pool.Add(file)

    def message(self, name: str) -> Any:
        descriptor = self._pool.FindMessageTypeByName(f"{PACKAGE}.{name}")
        return message_factory.GetMessageClass(descriptor)

    def call(self, channel: grpc.Channel, service: str, method: str) -> Any:
        """The stub of a method: `SERVICE/METHOD` takes METHODRequest and gives METHODResponse."""
        described = self._pool.FindServiceByName(f"{PACKAGE}.{service}").FindMethodByName(method)
        requests = "stream" if described.client_streaming else "unary"
        responses = "stream" if described.server_streaming else "unary"
        return getattr(channel, f"{requests}_{responses}")(
            f"/{PACKAGE}.{service}/{method}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=self.message(f"{method}Response").FromString,
        )


class Stream:
    """An open stream: `say` writes, `hear` reads."""

    def __init__(self, call: Any) -> None:
        self._said: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._heard = call(iter(self._said.get, None), timeout=PATIENCE_S)

    def say(self, message: Any) -> None:
        self._said.put(message)

    def hear(self) -> Any:
        return next(self._heard)

    def hang_up(self) -> None:
        self._said.put(None)
        self._heard.cancel()


class OldAgent:
    """Says what it said then to what it heard then, under today's names."""

    def __init__(self, contract: OldContract, recording: dict[str, Any]) -> None:
        self._contract = contract
        self._recording = recording
        self._updates = {}
        for text in recording["updates"]:
            update = contract.message("SubmitUpdatesRequest").FromString(bytes_of(text))
            self._updates[update.header.round, update.header.slot] = update
        self._assignments = {}
        for text in recording["assignments"]:
            assignment = contract.message("Assignment").FromString(bytes_of(text))
            self._assignments[assignment.round, assignment.slot] = assignment

    def take_part(self, channel: grpc.Channel) -> None:
        """From hello to the last update; fails where it hears anything else than then."""
        contract = self._contract
        attending = Stream(contract.call(channel, "CoordinatorService", "Attend"))
        attending.say(
            contract.message("AttendRequest").FromString(bytes_of(self._recording["hello"]))
        )
        welcome = attending.hear().welcome
        assert welcome.heartbeat_ms > 0
        self._report(welcome.metrics)
        assert attending.hear().run_brief.spec == self._spec()
        with grpc.insecure_channel(welcome.aggregator) as other:
            submitting = Stream(contract.call(other, "AggregatorService", "SubmitUpdates"))
            for _ in self._updates:
                self._do(attending.hear().assignment, submitting)
            submitting.hang_up()
        attending.hang_up()

    def _report(self, address: str) -> None:
        """What it measured then is stored, and asked for as an operator did then."""
        contract = self._contract
        with grpc.insecure_channel(address) as channel:
            report = contract.call(channel, "MetricsService", "Report")
            for text in self._recording["reports"]:
                request = contract.message("ReportRequest").FromString(bytes_of(text))
                report(request, timeout=PATIENCE_S)
            run_id = request.samples[0].run_id
            summarize = contract.call(channel, "MetricsService", "Summarize")
            asked = contract.message("SummarizeRequest")(run_id=run_id)
            summary = {one.name: one for one in summarize(asked, timeout=PATIENCE_S).metrics}
        assert summary["training_seconds"].count == len(self._updates)

    def _spec(self) -> Any:
        return self._contract.message("RunSpec").FromString(bytes_of(self._recording["spec"]))

    def _do(self, assignment: Any, submitting: Stream) -> None:
        place = assignment.round, assignment.slot
        update, then = self._updates[place], self._assignments[place]
        for name in REPEATED:
            if name in update.header.DESCRIPTOR.fields_by_name:  # else nobody knew of it then
                setattr(update.header, name, getattr(assignment, name))
                setattr(then, name, getattr(assignment, name))
        then.deadline_ms = assignment.deadline_ms
        for field in then.DESCRIPTOR.fields:
            assert getattr(assignment, field.name) == getattr(then, field.name), field.name
        submitting.say(update)
        receipt = submitting.hear()
        assert (receipt.assignment_id, receipt.status) == (assignment.assignment_id, ACCEPTED), (
            receipt.message
        )


def bytes_of(text: str) -> bytes:
    return base64.b64decode(text)


def recordings() -> Iterator[Any]:
    for version in VERSIONS:
        kept = json.loads((CONTRACT / version / "agent.json").read_text("utf-8"))
        for run in kept["runs"]:
            yield pytest.param(version, kept["agent"], run, id=f"{version}-{run['strategy']}")


@pytest.mark.parametrize(("version", "name", "recording"), [*recordings()])
def test_an_agent_of_then_trains_with_the_services_of_today(tmp_path, version, name, recording):
    contract = OldContract(CONTRACT / version)
    with LocalFleet(tmp_path, 0) as local, grpc.insecure_channel(local.coordinator) as channel:
        create = contract.call(channel, "CoordinatorService", "CreateRun")
        request = contract.message("CreateRunRequest")(request_id="an old operator's")
        request.spec.MergeFromString(bytes_of(recording["spec"]))
        run_id = create(request, timeout=PATIENCE_S).run.run_id
        OldAgent(contract, recording).take_part(channel)
        watch = contract.call(channel, "CoordinatorService", "WatchRun")
        *_, last = watch(contract.message("WatchRunRequest")(run_id=run_id), timeout=PATIENCE_S)
        assert last.run.status == FINISHED
        assert last.run.parameters_sha256 == recording["parameters_sha256"]
        fetch = contract.message("FetchModelRequest")(run_id=run_id)
        with grpc.insecure_channel(last.run.aggregator) as other:
            call = contract.call(other, "AggregatorService", "FetchModel")
            data = b"".join(chunk.data for chunk in call(fetch, timeout=PATIENCE_S))
        assert hashlib.sha256(data).hexdigest() == recording["parameters_sha256"]
        agents = contract.call(channel, "CoordinatorService", "ListAgents")
        (agent,) = agents(contract.message("ListAgentsRequest")(), timeout=PATIENCE_S).agents
        assert (agent.name, agent.updates) == (name, len(recording["updates"]))


@pytest.mark.parametrize("version", VERSIONS)
def test_every_rpc_of_then_is_there_today(version):
    """With the same requests and answers; that their fields are there, buf proves in the lint."""
    kept = descriptor_pb2.FileDescriptorSet.FromString(
        (CONTRACT / version / "contract.binpb").read_bytes()
    )
    today = {
        service.full_name: service
        for module in (aggregator_pb2, coordinator_pb2, metrics_pb2)
        for service in module.DESCRIPTOR.services_by_name.values()
    }
    for file in kept.file:
        for service in file.service:
            methods = today[f"{file.package}.{service.name}"].methods_by_name
            for method in service.method:
                now = methods[method.name]
                assert f".{now.input_type.full_name}" == method.input_type
                assert f".{now.output_type.full_name}" == method.output_type
                streaming = (now.client_streaming, now.server_streaming)
                assert streaming == (method.client_streaming, method.server_streaming)


@pytest.mark.parametrize("version", VERSIONS)
def test_who_knows_no_extractors_hears_of_a_layer_of_no_kind(version):
    """And declines, as it always did: it never takes raw samples for features."""
    extractor = Extractor("a" * 64, 1, (1, 1, 1), 1)  # raw samples would have the right shape
    run = make_run(make_task("sine", {}), "tiny_reptile", 5, 1, extractor=extractor)
    data = run_to_message(run).SerializeToString()
    heard = OldContract(CONTRACT / version).message("RunSpec").FromString(data)
    assert heard.model.layers[0].WhichOneof("kind") is None
    with pytest.raises(InvalidInput, match="a layer has no kind"):
        run_from_message(heard)  # what was done with it then is still done the same way


def test_there_is_a_contract_to_keep():
    assert VERSIONS
