"""What a fleet is sent and must refuse, or lives through: it says so, and nothing is lost."""

from __future__ import annotations

import contextlib
import json
import os
import resource

import grpc
import numpy as np
import pytest
from refusals import (
    FAILED,
    INVALID,
    a_run,
    address_of,
    attached,
    limit_files,
    refused,
    simulated_sha,
    started,
    until,
    with_message,
)

from tinyfleet.client import Fleet
from tinyfleet.errors import Refused
from tinyfleet.model import parameters_sha256
from tinyfleet.v1 import aggregator_pb2, aggregator_pb2_grpc, coordinator_pb2, coordinator_pb2_grpc
from tinyfleet.wire import run_to_message


@contextlib.contextmanager
def agent_of(local, name, *words):
    """An agent of that fleet which has the data that `words` name, and no other."""
    who = ("--coordinator", local.coordinator, "--name", name)
    here = {key: value for key, value in os.environ.items() if key != "TINYFLEET_DATA"}
    with started("agent", local.folder / f"{name}.log", *who, *words, env=here) as agent:
        yield agent


def finished(fleet, run_id):
    def ended():
        state = fleet.get_run(run_id)
        return state if state.status == coordinator_pb2.RUN_STATUS_FINISHED else None

    return until(ended, "the run")


def header(run_id, **changes):
    values = {
        "assignment_id": f"{run_id}-0-0-0",
        "run_id": run_id,
        "total_bytes": 4 * 1153,
        "encoding": aggregator_pb2.UPDATE_ENCODING_DENSE_FLOAT32,
        "samples": 32,
        "loss": 1.0,
    }
    return aggregator_pb2.UpdateHeader(**{**values, **changes})


def update(run_id, delta, **changes):
    data = np.asarray(delta, "<f4").tobytes()
    about = header(run_id, **{"total_bytes": len(data), **changes})
    return aggregator_pb2.SubmitUpdatesRequest(header=about, data=data)


def with_one(value):
    delta = np.zeros(1153, np.float32)
    delta[-1] = value
    return delta


def test_updates_that_do_not_belong_are_refused_and_change_nothing(fleet_without_agents):
    local, fleet = fleet_without_agents
    run_id = fleet.create_run(a_run()[1]).run_id
    fine = with_one(0.0)
    hostile = {
        "NaN": (update(run_id, with_one(np.nan)), "INVALID", "finite"),
        "infinite": (update(run_id, with_one(-np.inf)), "INVALID", "finite"),
        "too short": (update(run_id, fine[:-1]), "INVALID", "4612 bytes, not 4608"),
        "too long": (update(run_id, [*fine, 0]), "INVALID", "4612 bytes, not 4616"),
        "no such run": (update("nowhere", fine), "INVALID", "no run nowhere"),
        "no such slot": (update(run_id, fine, slot=1), "INVALID", "slot"),
        "of a round to come": (update(run_id, fine, round=7, base_version=7), "INVALID", ""),
        "of another version": (update(run_id, fine, base_version=3), "INVALID", "version"),
        "in no encoding": (update(run_id, fine, encoding=0), "INVALID", "encoding"),
        "with a loss of NaN": (update(run_id, fine, loss=float("nan")), "INVALID", "loss"),
    }
    until(lambda: _is_open(local, run_id), "the run at the aggregator")
    with grpc.insecure_channel(local.aggregator) as channel:
        stub = aggregator_pb2_grpc.AggregatorServiceStub(channel)
        for name, (request, status, word) in hostile.items():
            (receipt,) = stub.SubmitUpdates(iter([request]), timeout=10)
            answer = aggregator_pb2.ReceiptStatus.Name(receipt.status)
            assert answer == f"RECEIPT_STATUS_{status}", (name, receipt)
            assert word in receipt.message, (name, receipt)
            assert len(receipt.message.splitlines()) == 1, name
    with agent_of(local, "honest"):
        state = finished(fleet, run_id)
    assert state.parameters_sha256 == simulated_sha()
    with grpc.insecure_channel(local.aggregator) as channel:  # after the end, all of it is late
        stub = aggregator_pb2_grpc.AggregatorServiceStub(channel)
        stale = update(run_id, fine, assignment_id=f"{run_id}-0-0-9")
        (receipt,) = stub.SubmitUpdates(iter([stale]), timeout=10)
        assert receipt.status == aggregator_pb2.RECEIPT_STATUS_LATE
        assert receipt.message
    assert parameters_sha256(fleet.fetch_checkpoint(run_id).parameters) == state.parameters_sha256


@pytest.mark.parametrize(
    ("requests", "status"),
    [
        ([aggregator_pb2.SubmitUpdatesRequest(data=b"x")], grpc.StatusCode.INVALID_ARGUMENT),
        (
            [
                aggregator_pb2.SubmitUpdatesRequest(
                    header=header("r", total_bytes=1 << 40), data=b"x"
                )
            ],
            grpc.StatusCode.INVALID_ARGUMENT,
        ),
        (
            [
                aggregator_pb2.SubmitUpdatesRequest(
                    header=header("r", total_bytes=1 << 20), data=bytes(300_000)
                )
            ],
            grpc.StatusCode.INVALID_ARGUMENT,
        ),
        (
            [aggregator_pb2.SubmitUpdatesRequest(header=header("r"), data=bytes(5 << 20))],
            grpc.StatusCode.RESOURCE_EXHAUSTED,
        ),
        (
            [aggregator_pb2.SubmitUpdatesRequest(header=header("r", assignment_id="a b"))],
            grpc.StatusCode.INVALID_ARGUMENT,
        ),
    ],
    ids=["no header", "huge update", "huge chunk", "huge message", "bad id"],
)
def test_a_stream_that_breaks_the_rules_ends_with_its_status(aggregator, requests, status):
    stub = aggregator_pb2_grpc.AggregatorServiceStub(aggregator)
    with pytest.raises(grpc.RpcError) as caught:
        list(stub.SubmitUpdates(iter(requests), timeout=10))
    assert caught.value.code() is status
    assert len(caught.value.details().splitlines()) == 1


@pytest.fixture(scope="module")
def aggregator(tmp_path_factory):
    """A channel to an aggregator that has no run."""
    folder = tmp_path_factory.mktemp("aggregator")
    words = ("--storage", "memory", "--listen", "127.0.0.1:0", "--metrics", "")
    file = ("--port-file", folder / "aggregator")
    with (
        started("aggregator", folder / "log", *words, *file),
        grpc.insecure_channel(address_of(folder, "aggregator")) as channel,
    ):
        yield channel
    assert "Traceback" not in (folder / "log").read_text()


def test_a_model_that_does_not_exist_is_not_found(aggregator):
    stub = aggregator_pb2_grpc.AggregatorServiceStub(aggregator)
    with pytest.raises(grpc.RpcError) as caught:
        list(stub.FetchModel(aggregator_pb2.FetchModelRequest(run_id="nowhere"), timeout=10))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert "there is no run nowhere here" in caught.value.details()


def _is_open(local, run_id):
    with grpc.insecure_channel(local.aggregator) as channel:
        stub = aggregator_pb2_grpc.AggregatorServiceStub(channel)
        try:
            return list(stub.FetchModel(aggregator_pb2.FetchModelRequest(run_id=run_id), timeout=5))
        except grpc.RpcError:
            return None


def test_an_operator_is_told_what_is_wrong_with_a_question(fleet_without_agents, tinyfleet):
    local, fleet = fleet_without_agents
    where = ("--coordinator", local.coordinator)
    for words in ("run show nowhere", "run stop nowhere", "run watch nowhere"):
        refused(tinyfleet(*words.split(), *where), FAILED, "no run 'nowhere'", "run list")
    refused(tinyfleet("run", "show", "last", *where), INVALID, "no run yet", "run start")
    with agent_of(local, "a"):
        run_id = fleet.create_run(a_run(5)[1]).run_id
        finished(fleet, run_id)
        done = tinyfleet("checkpoint", "pull", run_id, "--version", 3, *where)
        refused(done, FAILED, f"version 3 of run {run_id} is not kept: ask for 0 or 5")
        done = tinyfleet("checkpoint", "pull", run_id, "--output", "/dev/null/x", *where)
        refused(done, INVALID, "cannot write checkpoint /dev/null/x")
    for message, word in (
        ({"task": "sin"}, "did you mean 'sine'"),
        ({"strategy": "reptil"}, "did you mean 'reptile'"),
        ({"rounds": 0}, "rounds must be 1 to"),
        ({"task": "omniglot"}, "input 1x1x1"),
    ):
        spec = run_to_message(a_run()[1])
        for name, value in message.items():
            setattr(spec, name, value)
        assert word in _refusal_of(local.coordinator, spec)


def _refusal_of(coordinator, spec):
    """What the coordinator says to a client that sends whatever it likes."""
    with grpc.insecure_channel(coordinator) as channel:
        stub = coordinator_pb2_grpc.CoordinatorServiceStub(channel)
        request = coordinator_pb2.CreateRunRequest(request_id="x", spec=spec)
        with pytest.raises(grpc.RpcError) as caught:
            stub.CreateRun(request, timeout=10)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert len(caught.value.details().splitlines()) == 1
        return caught.value.details()


def test_a_run_that_no_agent_has_the_data_for_waits_and_says_so(
    fleet_without_agents, tinyfleet, tmp_path
):
    local, fleet = fleet_without_agents
    where = ("--coordinator", local.coordinator)
    with agent_of(local, "poor"):
        until(lambda: attached(fleet), "the agent")
        # The operator's machine has no data either, and needs none.
        started_run = tinyfleet(
            "run", "start", "--task", "omniglot", "--rounds", 5, *where, "--json"
        )
        assert started_run.returncode == 0, started_run.stderr
        run_id = json.loads(started_run.stdout)["run_id"]
        state = until(lambda: with_message(fleet, run_id, "waiting for an agent"), "a message")
        assert state.status == coordinator_pb2.RUN_STATUS_PENDING
        assert "'omniglot'" in state.message
        assert "omniglot" in tinyfleet("agents", *where).stdout
        with agent_of(local, "rich", "--data", _omniglot(tmp_path / "omniglot.npz")):
            finished(fleet, run_id)
        (poor,) = (agent for agent in fleet.list_agents() if agent.name == "poor")
        assert poor.updates == 0


def _omniglot(path):
    """A file like omniglot.npz, with noise for drawings."""
    split = np.repeat([0, 1], 7).astype(np.uint8)
    images = np.random.default_rng(1).integers(0, 256, (14, 20, 28, 28), dtype=np.uint8)
    names = np.array(["background", "evaluation"])
    np.savez_compressed(path, images=images, split=split, split_names=names)
    return path


def test_a_full_disk_stops_a_run_and_loses_nothing_of_it(tmp_path, tinyfleet):
    """The aggregator's files may not grow for a while: it takes nothing that it cannot keep."""
    folder = tmp_path / "state"
    words = ("--state", folder, "--listen", "127.0.0.1:0", "--metrics", "")
    with contextlib.ExitStack() as stack:
        log = tmp_path / "aggregator.log"
        aggregator = stack.enter_context(
            started(
                *("aggregator", log, *words, "--port-file", tmp_path / "aggregator"),
                preexec_fn=lambda: limit_files(200_000),
            )
        )
        peers = ("--aggregator", address_of(tmp_path, "aggregator"), "--metrics", "")
        words = ("--storage", "memory", "--listen", "127.0.0.1:0", *peers)
        file = ("--port-file", tmp_path / "coordinator")
        stack.enter_context(started("coordinator", tmp_path / "c.log", *words, *file))
        address = address_of(tmp_path, "coordinator")
        who = ("--coordinator", address, "--name", "a")
        stack.enter_context(started("agent", tmp_path / "a.log", *who))
        fleet = stack.enter_context(Fleet(address))
        run_id = fleet.create_run(a_run(300)[1]).run_id
        until(lambda: "nothing is accepted until it can be stored" in log.read_text(), "the log")
        until(lambda: "the aggregator waits: " in fleet.get_run(run_id).message, "the reason")
        assert 0 < fleet.get_run(run_id).rounds_done < 300
        resource.prlimit(aggregator.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
        end = finished(fleet, run_id)
        assert (end.parameters_sha256, end.message) == (simulated_sha(300), "")
        assert "Traceback" not in log.read_text()


def test_what_the_library_raises_is_what_the_command_prints(fleet_without_agents):
    """The remedy is in the error itself, also for those who call `Fleet` from Python."""
    _, fleet = fleet_without_agents
    with pytest.raises(Refused, match="there is no run 'x': `tinyfleet run list` names them"):
        fleet.get_run("x")
