"""Whatever a user gets wrong: one clear line with the remedy, the right exit code, nothing lost."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import grpc
import numpy as np
import pytest

from tinyfleet.cli.local_fleet import LocalFleet
from tinyfleet.client import Fleet
from tinyfleet.errors import Refused
from tinyfleet.learner import make_learner
from tinyfleet.model import parameters_sha256
from tinyfleet.run import make_run
from tinyfleet.simulation import simulate
from tinyfleet.tasks import make_task
from tinyfleet.v1 import aggregator_pb2, aggregator_pb2_grpc, coordinator_pb2, coordinator_pb2_grpc
from tinyfleet.wire import run_to_message

INVALID, NOT_REACHABLE, FAILED, INTERRUPTED = 2, 3, 4, 5
NOBODY = "127.0.0.1:1"
ROUNDS = 40
SECONDS = 30


def refused(done, code, *words):
    """The one line of a command that was refused: its code, and what the line says.

    Warnings about a run that trained before it was refused may stand above.
    """
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    lines = done.stderr.strip().splitlines()
    lines = [line for line in lines if not line.startswith("warning: ")]
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("tinyfleet")
    for word in words:
        assert word in lines[0]
    return lines[0]


def until(condition, what, seconds=SECONDS):
    """The first truthy value of `condition()`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.05)
    raise AssertionError(f"{what}: not within {seconds} s")


def a_run(rounds=ROUNDS):
    task = make_task("sine", {})
    return task, make_run(task, "tiny_reptile", rounds, seed=5, model="mlp_32")


def simulated_sha(rounds=ROUNDS):
    task, run = a_run(rounds)
    return parameters_sha256(simulate(run, task, make_learner(run.model)).parameters)


# Command lines


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("simulat", "unknown command 'simulat': did you mean 'simulate'?"),
        ("simulate --task sin", "unknown task 'sin': did you mean 'sine'?"),
        ("simulate --strategy reptil", "unknown strategy 'reptil': did you mean 'reptile'?"),
        ("simulate --model mlp_23", "unknown model 'mlp_23': did you mean 'mlp_32'?"),
        ("simulate --set inner_rat=1", "'inner_rat': did you mean 'inner_rate'?"),
        ("simulate --set inner_rate=0.01s", "inner_rate must be a number, got 0.01s"),
        ("simulate --set inner_rate=nan", "inner_rate must be"),
        ("simulate --set inner_rate=-1", "inner_rate must be 1e-09 to 10, got -1"),
        ("simulate --task-option ways=5", "task 'sine' has no options, got 'ways'"),
        ("simulate --round 10", "No such option '--round'"),
        ("simulate --rounds 10k", "'--rounds': '10k' is not a valid integer"),
        ("simulate --rounds 0", "rounds must be 1 to 100000000, got 0"),
        ("simulate --seed -1", "--seed must be 0 to 9223372036854775807, got -1"),
        ("simulate --engine gpu", "unknown engine 'gpu': known: auto, native, reference"),
        ("simulate --test-shots 0", "shots must be 1 to"),
        ("simulate --task omniglot", "'omniglot' needs its data: give omniglot.npz"),
        ("simulate --task omniglot --data nowhere", "no Omniglot data at nowhere: give"),
        ("simulate --resume nowhere", "cannot read checkpoint nowhere: No such file"),
        ("models --ways 1", "ways must be 2 to"),
        ("memory cnn_k", "unknown model 'cnn_k': did you mean 'cnn_"),
        ("up --agents 0", "--agents"),
        ("up --agents 257", "--agents"),
        ("agents --coordinator here", "--coordinator must be host:port, got 'here'"),
        ("metrics query --rounds 5:x", "--rounds is A:B"),
    ],
)
def test_a_command_line_that_cannot_work_is_one_line(tinyfleet, words, message):
    refused(tinyfleet(*words.split()), INVALID, message)


@pytest.mark.parametrize(
    "words",
    [
        "run start --rounds 5",
        "run list",
        "run watch x",
        "run stop x",
        "agents",
        "checkpoint pull x",
        "metrics summary --run last",
    ],
)
def test_a_coordinator_that_is_not_there_is_named_with_how_to_start_it(tinyfleet, words):
    done = tinyfleet(*words.split(), "--coordinator", NOBODY)
    refused(done, NOT_REACHABLE, f"no coordinator answers at {NOBODY}", "'tinyfleet-coordinator'")


def test_a_metrics_service_that_is_not_there_is_named(tinyfleet):
    done = tinyfleet("metrics", "query", "--metrics-service", NOBODY)
    refused(done, NOT_REACHABLE, "'tinyfleet-metrics'", "--metrics-service")


# Files


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """The bytes of a checkpoint that the command wrote."""
    out = tmp_path_factory.mktemp("checkpoint")
    words = ["simulate", "--rounds", "5", "--model", "mlp_32", "--test-tasks", "5", "--out", out]
    command = [sys.executable, "-m", "tinyfleet.cli", *map(str, words)]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    return (out / "checkpoint.tinyfleet").read_bytes()


@pytest.mark.parametrize("at", [3, 9, 14, 40, 700, -20], ids=lambda at: f"byte {at}")
def test_a_checkpoint_with_one_bit_changed_is_refused(tinyfleet, tmp_path, checkpoint, at):
    damaged = bytearray(checkpoint)
    damaged[at] ^= 1
    (tmp_path / "x.tinyfleet").write_bytes(damaged)
    refused(tinyfleet("evaluate", "x.tinyfleet"), INVALID, "x.tinyfleet: ")


@pytest.mark.parametrize("size", [0, 10, 300, -1])
def test_a_checkpoint_cut_short_is_refused(tinyfleet, tmp_path, checkpoint, size):
    (tmp_path / "x.tinyfleet").write_bytes(checkpoint[:size])
    refused(tinyfleet("evaluate", "x.tinyfleet"), INVALID, "x.tinyfleet: ")


def test_a_checkpoint_for_another_task_is_refused(tinyfleet, tmp_path, checkpoint):
    (tmp_path / "x.tinyfleet").write_bytes(checkpoint)
    done = tinyfleet("evaluate", "x.tinyfleet", "--task", "omniglot", "--data", "x.tinyfleet")
    refused(done, INVALID, "Omniglot data x.tinyfleet")


def test_an_npz_with_pickles_is_refused_unopened(tinyfleet, tmp_path):
    class Bomb:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "exploded"),))

    images = np.array([Bomb()], dtype=object)
    np.savez(tmp_path / "x.npz", images=images, inputs=images, targets=images)
    done = tinyfleet("simulate", "--task", "omniglot", "--data", "x.npz")
    refused(done, INVALID, "cannot read Omniglot data x.npz")
    own = service("agent", "--own-data", tmp_path / "x.npz", "--coordinator", NOBODY)
    refused(own, INVALID, "own data")
    assert not (tmp_path / "exploded").exists()


GOOD_MODEL = 'name = "m"\ninput_shape = [1]\nloss = "mean_squared_error"\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name = ", "m.toml is not valid TOML"),
        ('nam = "m"', "unknown key of a model 'nam': did you mean 'name'?"),
        ('name = "m"', "m.toml: a model needs the key 'input_shape'"),
        (GOOD_MODEL + 'layers = [{ kind = "dens", units = 1 }]', "'dens': did you mean 'dense'?"),
        (GOOD_MODEL + 'layers = [{ kind = "dense", unit = 1 }]', "did you mean 'units'?"),
        (GOOD_MODEL + 'layers = [{ kind = "dense", units = 0 }]', "units must be 1 to"),
        (GOOD_MODEL + 'layers = [{ kind = "dense", units = 3 }]', "3 outputs"),
        (GOOD_MODEL + "layers = []", "m.toml: "),
        ("x" * 70_000, "at most 65536 bytes"),
    ],
)
def test_a_model_file_that_cannot_work_is_one_line(tinyfleet, tmp_path, text, message):
    (tmp_path / "m.toml").write_text(text)
    refused(tinyfleet("simulate", "--rounds", 2, "--model", "m.toml"), INVALID, message)


def test_a_result_folder_that_cannot_be_is_refused_before_the_work(tinyfleet, tmp_path):
    (tmp_path / "file").write_text("kept")
    refused(tinyfleet("simulate", "--out", "file"), INVALID, "cannot make folder file")
    assert (tmp_path / "file").read_text() == "kept"


def test_a_full_disk_leaves_no_part_of_a_result(tmp_path):
    """A limit on the size of files stands for the disk: writing fails, whoever runs the test."""
    words = ["--rounds", "5", "--model", "mlp_64", "--test-tasks", "5", "--out", "out"]
    done = subprocess.run(
        [sys.executable, "-m", "tinyfleet.cli", "simulate", *words, "--json"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        preexec_fn=lambda: _limit_files(8_000),
    )
    refused(done, INVALID, "cannot write checkpoint out/", "File too large")
    assert list((tmp_path / "out").iterdir()) == []


# Processes


def _limit_files(size):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def module(name):
    return "edge_agents" if name == "agent" else f"services.{name}"


def service(name, *words, timeout_s=20, **options):
    """Runs a service or agent that is expected to refuse."""
    command = [sys.executable, "-m", module(name), *map(str, words)]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=timeout_s, check=False, **options
    )


@contextlib.contextmanager
def started(name, log, *words, **options):
    """A service or agent that runs while the test does; its log goes to the file `log`."""
    command = [sys.executable, "-m", module(name), *map(str, words)]
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, **options)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(20)
        finally:
            process.kill()


def address_of(folder, name):
    """The address that a service started with `--port-file folder/name` has announced."""
    return until(lambda: (folder / name).exists() and (folder / name).read_text().strip(), name)


@pytest.mark.parametrize(
    ("name", "words", "message"),
    [
        ("coordinator", "--heartbeat 5", "unrecognized arguments: --heartbeat"),
        ("coordinator", "--heartbeat-s 15s", "--heartbeat-s must be a number, got '15s'"),
        ("coordinator", "--heartbeat-s 0", "--heartbeat-s must be at least 0.1"),
        ("coordinator", "--aggregator here", "--aggregator must be host:port, got 'here'"),
        ("coordinator", "--max-agents 1e3", "--max-agents must be a whole number"),
        ("aggregator", "--listen 0.0.0.0:7311", "refusing to listen on '0.0.0.0' without TLS"),
        ("aggregator", "--metrics :1", "--metrics must be host:port"),
        ("aggregator", "--storage postgres", "--storage must be one of sqlite, memory"),
        ("metrics", "--keep-days nan", "--keep-days must be a finite number"),
        ("metrics", "--config nowhere.toml", "cannot read configuration nowhere.toml"),
        ("metrics", "--state /dev/null/x", "cannot use state folder /dev/null/x"),
        ("agent", "--coordinator here", "--coordinator must be host:port"),
        ("agent", "--name a/b", "name must be 1 to 64 letters"),
        ("agent", "--data nowhere", "no data at nowhere: correct --data or TINYFLEET_DATA"),
        ("agent", "--own-data nowhere", "own data nowhere"),
        ("agent", "--engine gpu", "--engine must be one of auto, native, reference"),
    ],
)
def test_a_setting_that_cannot_work_is_one_line(name, words, message):
    refused(service(name, *words.split()), INVALID, f"tinyfleet-{name}: ", message)


@pytest.mark.parametrize("name", ["coordinator", "aggregator", "metrics", "agent"])
def test_an_unknown_key_of_a_configuration_is_named(tmp_path, name):
    file = tmp_path / "c.toml"
    file.write_text('log_leve = "info"\n')
    done = service(name, "--config", file)
    refused(done, INVALID, "c.toml: unknown key 'log_leve': did you mean 'log_level'?")
    variable = f"TINYFLEET_{name.upper()}_LOG_LEVE"
    done = service(name, env={**os.environ, variable: "info"})
    refused(done, INVALID, f"unknown variable '{variable}'", "did you mean")


@pytest.mark.parametrize("name", ["coordinator", "aggregator", "metrics"])
def test_a_port_or_state_folder_in_use_is_said(tmp_path, name):
    state = tmp_path / "state"
    words = ("--state", state, "--listen", "127.0.0.1:0", "--port-file", tmp_path / name)
    with started(name, tmp_path / "log", *words):
        address = address_of(tmp_path, name)
        other = service(name, "--storage", "memory", "--listen", address)
        refused(other, NOT_REACHABLE, f"{address}: the port is taken", "--listen")
        same = service(name, "--state", state, "--listen", "127.0.0.1:0")
        refused(same, NOT_REACHABLE, "--state")


@pytest.mark.parametrize("name", ["coordinator", "aggregator", "metrics"])
def test_a_state_that_is_no_database_is_left_alone(tmp_path, name):
    file = tmp_path / f"{name}.sqlite"
    file.write_bytes(b"not a database at all" * 100)
    done = service(name, "--state", tmp_path, "--listen", "127.0.0.1:0")
    refused(done, INVALID, "not a database", "restore it from a copy")
    assert file.read_bytes() == b"not a database at all" * 100


@pytest.mark.parametrize("name", ["coordinator", "aggregator", "metrics"])
def test_a_disk_that_is_full_at_start_is_said(tmp_path, name):
    done = service(
        name,
        *("--state", tmp_path, "--listen", "127.0.0.1:0"),
        preexec_fn=lambda: _limit_files(16_000),
    )
    refused(done, NOT_REACHABLE, f"cannot open {tmp_path / name}.sqlite: disk")


def test_an_agent_waits_for_its_coordinator_and_attaches(tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    log = tmp_path / "agent.log"
    who = ("--coordinator", address, "--name", "early", "--reconnect-s", "0.2")
    with started("agent", log, *who) as agent:
        until(lambda: "no coordinator, trying again" in log.read_text(), "the agent's log")
        assert agent.poll() is None
        words = ("--listen", address, "--storage", "memory", "--aggregator", NOBODY)
        with started("coordinator", tmp_path / "log", *words), Fleet(address) as fleet:
            agents = until(lambda: _attached(fleet), "attached")
            assert agents == ["early"]


def test_a_coordinator_says_that_its_aggregator_is_silent(tmp_path, tinyfleet):
    with socket.create_server(("127.0.0.1", 0)) as mute:
        aggregator = f"127.0.0.1:{mute.getsockname()[1]}"
        words = ("--storage", "memory", "--listen", "127.0.0.1:0", "--aggregator", aggregator)
        file = ("--port-file", tmp_path / "coordinator")
        with started("coordinator", tmp_path / "log", *words, *file):
            address = address_of(tmp_path, "coordinator")
            with Fleet(address) as fleet:
                run = fleet.create_run(a_run()[1])
                assert "waiting for the aggregator" not in run.message
                state = until(lambda: _with_message(fleet, run.run_id, "aggregator"), "a message")
                assert f"waiting for the aggregator at {aggregator}" in state.message
                assert state.status == coordinator_pb2.RUN_STATUS_PENDING


def _attached(fleet):
    with contextlib.suppress(Exception):
        return [agent.name for agent in fleet.list_agents(attached_only=True)]


def _with_message(fleet, run_id, word):
    state = fleet.get_run(run_id)
    return state if word in state.message else None


# A fleet


@pytest.fixture
def fleet_without_agents(tmp_path):
    """A local fleet with no agent yet, and a client of it."""
    with LocalFleet(tmp_path / "fleet", 0) as local, Fleet(local.coordinator) as fleet:
        yield local, fleet


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
        until(lambda: _attached(fleet), "the agent")
        # The operator's machine has no data either, and needs none.
        started_run = tinyfleet(
            "run", "start", "--task", "omniglot", "--rounds", 5, *where, "--json"
        )
        assert started_run.returncode == 0, started_run.stderr
        run_id = json.loads(started_run.stdout)["run_id"]
        state = until(lambda: _with_message(fleet, run_id, "waiting for an agent"), "a message")
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
                preexec_fn=lambda: _limit_files(200_000),
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


# The end of `up` and `simulate`


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda one: one.name)
def test_up_stops_its_whole_fleet_when_told_to(tmp_path, number):
    process = _up(tmp_path)
    until(lambda: _rounds_begun(tmp_path), "the run")
    members = _members(tmp_path)
    assert len(members) == 5
    process.send_signal(number)
    _, errors = process.communicate(timeout=40)
    assert process.returncode == INTERRUPTED, errors
    last = errors.strip().splitlines()[-1]
    assert last.startswith("tinyfleet: interrupted: run ")
    assert "Traceback" not in errors
    assert _members(tmp_path) == []


def test_up_that_is_killed_leaves_nothing_running(tmp_path):
    process = _up(tmp_path)
    until(lambda: _rounds_begun(tmp_path), "the run")
    assert len(_members(tmp_path)) == 5
    process.kill()
    process.communicate(timeout=20)
    until(lambda: not _members(tmp_path), "the end of all members")


def _up(folder):
    words = ["--agents", "2", "--rounds", "1000000", "--model", "mlp_32", "--state", folder / "up"]
    return subprocess.Popen(
        [sys.executable, "-m", "tinyfleet.cli", "up", *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _rounds_begun(folder):
    log = folder / "up" / "logs" / "agent-1.log"
    return log.exists() and "run joined" in log.read_text()


def _members(folder):
    """Services and agents of the fleet in that folder, from the list of all processes."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit():
                words = (entry / "cmdline").read_bytes().split(b"\0")
                ours = str(folder).encode() in b" ".join(words) or _logs_into(entry, folder)
                if ours and (
                    b"edge_agents" in words or any(w.startswith(b"services.") for w in words)
                ):
                    found.append(int(entry.name))
    return found


def _logs_into(entry, folder):
    return str(entry.joinpath("fd", "1").readlink()).startswith(str(folder))


def test_simulate_keeps_what_it_has_when_it_is_stopped(tmp_path):
    words = ["--rounds", "10000000", "--model", "mlp_32", "--out", "out"]
    process = subprocess.Popen(
        [sys.executable, "-m", "tinyfleet.cli", "simulate", *words],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    until((tmp_path / "out").exists, "the folder")
    time.sleep(1.0)  # the only thing it does now is train
    process.terminate()
    output, errors = process.communicate(timeout=30)
    assert (process.returncode, output) == (INTERRUPTED, "")
    assert "add --resume out/checkpoint.tinyfleet to go on" in errors
    assert (tmp_path / "out" / "checkpoint.tinyfleet").exists()


def test_what_the_library_raises_is_what_the_command_prints(fleet_without_agents):
    """The remedy is in the error itself, also for those who call `Fleet` from Python."""
    _, fleet = fleet_without_agents
    with pytest.raises(Refused, match="there is no run 'x': `tinyfleet run list` names them"):
        fleet.get_run("x")


@pytest.mark.parametrize("name", ["coordinator", "aggregator", "metrics"])
def test_a_service_on_the_bare_install_names_the_extra(name):
    without = "import sys; sys.modules['sqlalchemy'] = sys.modules['grpc_health'] = None; "
    start = f"from services.entry import {name}; {name}()"
    done = subprocess.run(
        [sys.executable, "-c", without + start],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    message = "the services need sqlalchemy, grpc_health: pip install 'tinyfleet[services]'"
    refused(done, INVALID, f"tinyfleet-{name}: {message}")
