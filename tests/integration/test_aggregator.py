"""The aggregator as a process: what it acknowledged survives kill -9, a full disk and bad peers."""

import contextlib
import os
import queue
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tinyfleet.codec.selected import encode_selected
from tinyfleet.exchange import exchange_of
from tinyfleet.model.layers import Dense
from tinyfleet.model.spec import ModelSpec, parameters_sha256
from tinyfleet.randomness import Purpose, RandomStream
from tinyfleet.run import RunSpec
from tinyfleet.run_files import file_of, parts_of_file
from tinyfleet.strategies import Update
from tinyfleet.v1 import aggregator_pb2 as pb
from tinyfleet.v1.aggregator_pb2_grpc import AggregatorServiceStub
from tinyfleet.wire import run_from_message, run_to_message

ROOT = Path(__file__).resolve().parents[2]
ACCEPTED, LATE, INVALID, RETRY = (
    pb.RECEIPT_STATUS_ACCEPTED,
    pb.RECEIPT_STATUS_LATE,
    pb.RECEIPT_STATUS_INVALID,
    pb.RECEIPT_STATUS_RETRY,
)
SLOTS = 3
SMALL = ModelSpec("small", (1, 1, 4), (Dense(units=100),), "mean_squared_error")
LARGE = ModelSpec("large", (1, 1, 400), (Dense(units=400),), "mean_squared_error")  # 641,600 bytes


def a_run(model=SMALL, rounds=10_000, slots=SLOTS):
    options = {"samples": 4, "batch_size": 2, "passes": 1, "inner_rate": 0.1, "outer_rate": 1.0}
    return RunSpec(model, "sine", "reptile", rounds, 1, {}, options | {"agents_per_round": slots})


def delta_of(run, number, slot):
    rng = np.random.default_rng([number, slot])
    return (rng.standard_normal(run.model.parameter_count) * 0.01).astype(np.float32)


def expected_after(run, rounds):
    strategy, model = run.make_strategy(), run.initial_parameters()
    slots = range(strategy.agents_per_round)
    for number in range(rounds):
        model = strategy.apply(
            model, [Update(slot, delta_of(run, number, slot), 4) for slot in slots], number
        )
    return model


class Aggregator:
    """The process, to be started, killed and started again on the same state."""

    def __init__(self, folder, *flags):
        self.folder, self.flags = folder, flags
        self.port_file = folder / "port"
        self.start()

    def start(self):
        self.port_file.unlink(missing_ok=True)
        command = [sys.executable, "-m", "services.aggregator", "--port-file", str(self.port_file)]
        command += ["--state", str(self.folder / "state"), "--listen", "127.0.0.1:0", *self.flags]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                command, cwd=self.folder, env=environment, stderr=log, stdout=log
            )
        deadline = time.monotonic() + 30
        while not self.port_file.exists():
            assert self.process.poll() is None, self.log
            assert time.monotonic() < deadline, self.log
            time.sleep(0.005)
        self.channel = grpc.insecure_channel(self.port_file.read_text().strip())
        self.stub = AggregatorServiceStub(self.channel)

    @property
    def log(self):
        return (self.folder / "log").read_text()

    def end(self, number):
        self.process.send_signal(number)
        status = self.process.wait(30)
        self.channel.close()
        return status

    def open(self, run, run_id="a"):
        self.stub.OpenRun(pb.OpenRunRequest(run_id=run_id, spec=run_to_message(run)))

    def watch(self, run_id="a"):
        return self.stub.WatchModel(pb.WatchModelRequest(run_id=run_id))

    def version(self, run_id="a"):
        watch = self.watch(run_id)
        version = next(watch).version
        watch.cancel()
        return version

    def fetch(self, run_id="a", version=None, shared_only=False):
        request = pb.FetchModelRequest(run_id=run_id, version=version, shared_only=shared_only)
        return list(self.stub.FetchModel(request))

    def health(self):
        stub = health_pb2_grpc.HealthStub(self.channel)
        return stub.Check(health_pb2.HealthCheckRequest()).status


@pytest.fixture
def start(tmp_path):
    started = []

    def run(*flags):
        started.append(Aggregator(tmp_path, *flags))
        return started[-1]

    yield run
    for one in started:
        one.channel.close()
        if one.process.poll() is None:
            one.process.kill()
            one.process.wait(10)


class Stream:
    """An agent's open stream."""

    def __init__(self, aggregator):
        self.outbox = queue.SimpleQueue()
        self.receipts = aggregator.stub.SubmitUpdates(iter(self.outbox.get, None))

    def send(self, *messages):
        for message in messages:
            self.outbox.put(message)

    def receipt(self):
        return next(self.receipts)

    def close(self):
        self.outbox.put(None)


def header_of(run, number, slot, /, **changes):
    values = {
        "assignment_id": f"a-{number}-{slot}-0",
        "run_id": "a",
        "round": number,
        "slot": slot,
        "base_version": number,
        "total_bytes": run.model.parameter_bytes,
        "encoding": pb.UPDATE_ENCODING_DENSE_FLOAT32,
        "samples": 4,
        "loss": 1.0,
        "training_us": 5,
    }
    return pb.UpdateHeader(**(values | changes))


def chunks_of(run, number, slot, size=256 * 1024, **changes):
    data = delta_of(run, number, slot).tobytes()
    for start in range(0, len(data), size):
        header = None if start else header_of(run, number, slot, **changes)
        yield pb.SubmitUpdatesRequest(header=header, data=data[start : start + size])


def test_a_run_goes_from_open_to_end(start):
    aggregator, run = start(), a_run(rounds=3)
    aggregator.open(run)
    aggregator.open(run)
    watch = aggregator.watch()
    first = next(watch)
    assert (first.version, first.parameters) == (0, run.initial_parameters().tobytes())
    stream, closed = Stream(aggregator), []
    for number in range(3):
        for slot in range(SLOTS):
            stream.send(*chunks_of(run, number, slot))
        assert [stream.receipt().status for _ in range(SLOTS)] == [ACCEPTED] * SLOTS
        while (change := next(watch)).version == number:
            pass
        closed += change.closed
        assert change.parameters == expected_after(run, number + 1).tobytes()
    assert [one.round for one in closed] == [0, 1, 2]
    assert {one.bytes_up for one in closed} == {SLOTS * run.model.parameter_bytes}
    ended = aggregator.stub.EndRun(pb.EndRunRequest(run_id="a"))
    assert ended == aggregator.stub.EndRun(pb.EndRunRequest(run_id="a"))
    assert ended.parameters_sha256 == parameters_sha256(expected_after(run, 3))
    last = next(watch)
    assert last.ended
    size = run.model.parameter_bytes
    assert last.totals == pb.RunTotals(
        updates=9, samples=36, bytes_up=9 * size, bytes_down=9 * size
    )
    (chunk,) = aggregator.fetch()
    assert (chunk.version, run_from_message(chunk.spec)) == (3, run)
    stream.close()


def test_a_large_model_travels_in_chunks_both_ways(start):
    aggregator, run = start(), a_run(LARGE, slots=1)
    aggregator.open(run)
    watch = aggregator.watch()
    assert next(watch).parameters == b""
    stream = Stream(aggregator)
    stream.send(*chunks_of(run, 0, 0, size=100_000))
    assert stream.receipt().status == ACCEPTED
    assert next(watch).version == 1
    parts = aggregator.fetch(version=1)
    assert [part.HasField("spec") for part in parts] == [True, False, False]
    assert {part.total_bytes for part in parts} == {run.model.parameter_bytes}
    assert b"".join(part.data for part in parts) == expected_after(run, 1).tobytes()
    assert b"".join(part.data for part in aggregator.fetch(version=0)) == (
        run.initial_parameters().tobytes()
    )
    stream.close()


def deliver(aggregator, run, acknowledged, slot, until):
    """An agent that serves one slot of every round and sends again what got no receipt."""
    number = len(acknowledged)
    with contextlib.suppress(grpc.RpcError, StopIteration):
        stream = Stream(aggregator)
        while number < until:
            stream.send(*chunks_of(run, number, slot))
            answer = stream.receipt()
            if answer.status == ACCEPTED:
                acknowledged.append(answer.assignment_id)
                number += 1
            else:
                assert answer.status == INVALID, answer  # its round is not open yet
                time.sleep(0.001)


def test_nothing_acknowledged_is_lost_or_applied_twice_under_kill_9(start, seed):
    run, rounds = a_run(), 300
    aggregator = start("--snapshot-rounds", "7")
    aggregator.open(run)
    acknowledged = [[] for _ in range(SLOTS)]
    rng = np.random.default_rng(seed)
    kills = 0
    while min(len(ids) for ids in acknowledged) < rounds:
        agents = [
            threading.Thread(target=deliver, args=(aggregator, run, ids, slot, rounds))
            for slot, ids in enumerate(acknowledged)
        ]
        for agent in agents:
            agent.start()
        time.sleep(rng.uniform(0.02, 0.1))
        if kills < 8:
            aggregator.end(signal.SIGKILL)
            kills += 1
        for agent in agents:
            agent.join(60)
            assert not agent.is_alive()
        if aggregator.process.poll() is not None:
            aggregator.start()
            done = min(len(ids) for ids in acknowledged)
            assert aggregator.version() in (done, done + 1)
    assert kills >= 3
    state = next(aggregator.watch())
    assert (state.version, state.totals.updates) == (rounds, SLOTS * rounds)
    assert state.totals.bytes_up == SLOTS * rounds * run.model.parameter_bytes
    (chunk,) = aggregator.fetch()
    assert chunk.data == expected_after(run, rounds).tobytes()


def test_a_repeat_is_accepted_after_a_restart(start):
    run = a_run()
    aggregator = start()
    aggregator.open(run)
    for _ in range(2):
        stream = Stream(aggregator)
        stream.send(*chunks_of(run, 0, 1))
        assert stream.receipt().status == ACCEPTED
        watch = aggregator.watch()
        assert list(next(watch).received_slots) == [1]
        watch.cancel()
        aggregator.end(signal.SIGKILL)
        aggregator.start()


def test_overlapping_rounds_take_what_comes_first_and_refuse_what_is_too_old(start):
    options = {"buffer": 2, "concurrency": 4, "max_staleness": 1, "samples": 4}
    run = RunSpec(SMALL, "sine", "fed_buff", 100, 1, {}, options)
    aggregator = start("--snapshot-rounds", "1")
    aggregator.open(run)
    stream = Stream(aggregator)
    order = [(1, 1), (0, 1), (2, 0), (1, 0), (2, 1)]
    strategy, model = run.make_strategy(), run.initial_parameters()
    for version in range(2):
        pair = order[2 * version : 2 * version + 2]
        for number, slot in pair:
            stream.send(*chunks_of(run, number, slot, base_version=0))
            assert stream.receipt().status == ACCEPTED
        parts = [Update(slot, delta_of(run, number, slot), 4, version) for number, slot in pair]
        model = strategy.apply(model, parts, version)
    watch = aggregator.watch()
    state = next(watch)
    assert (state.version, list(state.open_slots)) == (2, [0, 5, 6, 7])
    assert state.parameters == model.tobytes()
    stream.send(*chunks_of(run, 0, 0, base_version=0))
    late = stream.receipt()
    assert (late.status, late.message.count("\n")) == (LATE, 0)
    assert "max_staleness" in late.message
    (refused,) = next(watch).refused
    assert (refused.assignment_id, refused.reason, refused.stale) == ("a-0-0-0", late.message, True)
    stream.send(*chunks_of(run, 2, 1, base_version=1))
    assert stream.receipt().status == ACCEPTED
    aggregator.end(signal.SIGKILL)
    aggregator.start()
    state = next(aggregator.watch())
    assert (state.version, list(state.open_slots)) == (2, [0, 6, 7, 8])
    assert state.parameters == model.tobytes()


def test_sigterm_ends_it_at_once_with_open_streams(start):
    aggregator, run = start("--drain-s", "60"), a_run()
    aggregator.open(run)
    watch, stream = aggregator.watch(), Stream(aggregator)
    next(watch)
    for slot in range(SLOTS):
        stream.send(*chunks_of(run, 0, slot))
        stream.receipt()
    begun = time.monotonic()
    assert aggregator.end(signal.SIGTERM) == 0
    assert time.monotonic() - begun < 20
    assert "Traceback" not in aggregator.log
    stream.close()
    aggregator.start()
    (chunk,) = aggregator.fetch()
    assert (chunk.version, chunk.data) == (1, expected_after(run, 1).tobytes())


def test_a_second_process_on_the_same_state_is_refused(start, tmp_path):
    start()
    command = [sys.executable, "-m", "services.aggregator", "--listen", "127.0.0.1:0"]
    command += ["--state", str(tmp_path / "state")]
    second = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False
    )
    assert (second.returncode, second.stdout) == (3, "")
    assert second.stderr.count("\n") == 1
    assert "is in use by process" in second.stderr


def test_a_full_disk_acknowledges_nothing_and_recovers(start):
    aggregator, run = start(), a_run(LARGE, slots=8)
    aggregator.open(run)
    watch, stream = aggregator.watch(), Stream(aggregator)
    next(watch)
    assert aggregator.health() == health_pb2.HealthCheckResponse.SERVING
    # No file of the process may grow any further: for SQLite that is a disk without room.
    process, unlimited = aggregator.process.pid, resource.RLIM_INFINITY
    resource.prlimit(process, resource.RLIMIT_FSIZE, (100_000, unlimited))
    for _ in range(3):
        stream.send(*chunks_of(run, 0, 0))
        receipt = stream.receipt()
        assert receipt.status == RETRY
        assert receipt.message.startswith("cannot store updates: ")
    assert aggregator.health() == health_pb2.HealthCheckResponse.NOT_SERVING
    resource.prlimit(process, resource.RLIMIT_FSIZE, (unlimited, unlimited))
    for slot in range(8):
        stream.send(*chunks_of(run, 0, slot))
        assert stream.receipt().status == ACCEPTED
    assert aggregator.health() == health_pb2.HealthCheckResponse.SERVING
    stream.close()
    aggregator.end(signal.SIGKILL)
    assert aggregator.log.count("nothing is accepted until it can be stored") == 1
    assert "Traceback" not in aggregator.log
    aggregator.start()
    assert b"".join(part.data for part in aggregator.fetch()) == expected_after(run, 1).tobytes()


@pytest.mark.parametrize(
    ("changes", "status", "words"),
    [
        ({"run_id": "nobody"}, INVALID, "there is no run nobody"),
        ({"total_bytes": 4, "data": b"\0" * 4}, INVALID, "has 2000 bytes, not 4"),
        ({"encoding": 0}, INVALID, "encoding"),
        ({"encoding": 99}, INVALID, "encoding"),
        ({"encoding": pb.UPDATE_ENCODING_SELECTED}, INVALID, "send dense float32"),
        ({"round": 1}, INVALID, "not open yet"),
        ({"base_version": 7}, INVALID, "trained from version 7"),
        ({"slot": SLOTS}, INVALID, "a round has 3 slots"),
        ({"samples": 0}, INVALID, "samples must be"),
        ({"loss": float("nan")}, INVALID, "loss must be finite"),
        ({"data": b"\xff" * 2000}, INVALID, "finite"),
        ({"diverged": True, "total_bytes": 0, "data": b""}, ACCEPTED, ""),
    ],
)
def test_a_wrong_update_gets_a_receipt_and_the_stream_goes_on(start, changes, status, words):
    aggregator, run = start("--storage", "memory"), a_run()
    aggregator.open(run)
    stream = Stream(aggregator)
    fields = dict(changes)
    data = fields.pop("data", delta_of(run, 0, 0).tobytes())
    stream.send(pb.SubmitUpdatesRequest(header=header_of(run, 0, 0, **fields), data=data))
    receipt = stream.receipt()
    assert (receipt.status, receipt.assignment_id) == (status, "a-0-0-0")
    assert words in receipt.message
    assert "\n" not in receipt.message
    stream.send(*chunks_of(run, 0, 1, size=300))
    assert stream.receipt().status == ACCEPTED
    stream.close()


TWO_LAYERS = ModelSpec("two", (1, 1, 1), (Dense(9), Dense(1)), "mean_squared_error")


def test_only_the_shared_layers_of_a_model_travel_and_only_selected_updates_return(start):
    aggregator = start("--storage", "memory")
    options = {"fraction": 0.25, "precision": "int8", "outer_rate": 1.0, "schedule": "constant"}
    run = RunSpec(TWO_LAYERS, "sine", "tiny_meta_fed", 10, 1, {}, options)
    aggregator.open(run)
    initial = run.initial_parameters()
    (part,) = aggregator.fetch(shared_only=True)
    assert (part.data, part.total_bytes) == (initial[:18].tobytes(), 4 * 18)
    (part,) = aggregator.fetch()
    assert part.data == initial.tobytes()

    stream = Stream(aggregator)
    dense = header_of(run, 0, 0, total_bytes=72)
    stream.send(pb.SubmitUpdatesRequest(header=dense, data=bytes(72)))
    refused = stream.receipt()
    assert (refused.status, "send selected" in refused.message) == (INVALID, True)
    change = np.zeros(18, np.float32)
    change[7] = 0.5
    data = encode_selected(change, 0.25, "int8", RandomStream(1, Purpose.UPLOAD, 0, 0))
    encoding = pb.UPDATE_ENCODING_SELECTED
    header = header_of(run, 0, 0, total_bytes=len(data), encoding=encoding)
    stream.send(pb.SubmitUpdatesRequest(header=header, data=data))
    assert stream.receipt().status == ACCEPTED
    stream.close()
    (part,) = aggregator.fetch(version=1)
    moved = np.frombuffer(part.data, "<f4") - initial
    assert np.flatnonzero(moved).tolist() == [7]
    assert moved[7] == pytest.approx(0.5)


def test_a_device_is_sent_the_rounded_start_and_what_it_was_sent_is_counted(start):
    aggregator = start("--storage", "memory")
    options = {"down_precision": "int8", "local_layers": 0, "fraction": 1.0}
    run = RunSpec(TWO_LAYERS, "sine", "tiny_meta_fed", 10, 1, {}, options)
    aggregator.open(run)
    exchange, initial = exchange_of(run), run.initial_parameters()
    whole = exchange.starts.write_whole(exchange.start(initial))
    (part,) = aggregator.fetch(shared_only=True)
    assert (part.data, part.total_bytes, len(whole)) == (whole, 28 + 2, 28 + 2)
    (part,) = aggregator.fetch()
    assert part.data == initial.tobytes()

    stream = Stream(aggregator)
    for size, status in ((9, INVALID), (31, INVALID), (10, ACCEPTED)):
        header = header_of(run, 0, 0, total_bytes=112, start_bytes=size)
        stream.send(pb.SubmitUpdatesRequest(header=header, data=bytes(112)))
        receipt = stream.receipt()
        assert receipt.status == status
        assert not receipt.message or "a start of this run has 10 to 30 bytes" in receipt.message
    header = header_of(run, 1, 0, total_bytes=112)
    stream.send(pb.SubmitUpdatesRequest(header=header, data=bytes(112)))
    assert stream.receipt().status == ACCEPTED
    stream.close()
    assert next(aggregator.watch()).totals.bytes_down == 10 + 30


def hostile(run):
    header = header_of(run, 0, 0)
    return {
        "no header": [pb.SubmitUpdatesRequest(data=b"\0" * 4)],
        "nothing": [pb.SubmitUpdatesRequest()],
        "two headers": [pb.SubmitUpdatesRequest(header=header, data=b"\0")] * 2,
        "too many bytes": [pb.SubmitUpdatesRequest(header=header, data=b"\0" * 2001)],
        "empty chunk": [
            pb.SubmitUpdatesRequest(header=header, data=b"\0"),
            pb.SubmitUpdatesRequest(),
        ],
        "long chunk": [
            pb.SubmitUpdatesRequest(
                header=header_of(run, 0, 0, total_bytes=10**6), data=b"\0" * 300_000
            )
        ],
        "no model has so many": [
            pb.SubmitUpdatesRequest(header=header_of(run, 0, 0, total_bytes=2**63), data=b"\0")
        ],
        "no id": [pb.SubmitUpdatesRequest(header=header_of(run, 0, 0, assignment_id=""))],
        "forged id": [pb.SubmitUpdatesRequest(header=header_of(run, 0, 0, assignment_id="a\nb"))],
        "long id": [pb.SubmitUpdatesRequest(header=header_of(run, 0, 0, assignment_id="x" * 257))],
    }


def test_a_peer_that_breaks_the_contract_loses_its_stream_and_nobody_else(start):
    aggregator, run = start("--storage", "memory"), a_run()
    aggregator.open(run)
    bystander = Stream(aggregator)
    for what, messages in hostile(run).items():
        stream = Stream(aggregator)
        stream.send(*messages)
        with pytest.raises(grpc.RpcError) as caught:
            stream.receipt()
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT, what
        assert len(caught.value.details().splitlines()) == 1, what
        stream.close()
    bystander.send(*chunks_of(run, 0, 0))
    assert bystander.receipt().status == ACCEPTED
    bystander.close()
    assert "Traceback" not in aggregator.log


@pytest.mark.parametrize("method", ["CloseRound", "EndRun", "WatchModel", "FetchModel"])
def test_an_unknown_run_is_not_found(start, method):
    aggregator = start("--storage", "memory")
    call = getattr(aggregator.stub, method)
    request = getattr(pb, f"{method}Request")(run_id="nobody")
    with pytest.raises(grpc.RpcError) as caught:
        list(call(request))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


def test_conflicts_and_bad_specs_have_their_status(start):
    aggregator, run = start("--storage", "memory"), a_run()
    aggregator.open(run)
    with pytest.raises(grpc.RpcError) as caught:
        aggregator.open(a_run(rounds=9))
    assert caught.value.code() is grpc.StatusCode.ALREADY_EXISTS
    with pytest.raises(grpc.RpcError) as caught:
        aggregator.stub.OpenRun(pb.OpenRunRequest(run_id="b"))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    with pytest.raises(grpc.RpcError) as caught:
        aggregator.stub.CloseRound(pb.CloseRoundRequest(run_id="a", round=0))
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION


def test_updates_are_read_on_while_earlier_ones_wait_for_the_disk(start):
    aggregator, run = start(), a_run(slots=200)
    aggregator.open(run)
    stream = Stream(aggregator)
    for slot in range(200):
        stream.send(*chunks_of(run, 0, slot))
    answers = [stream.receipt() for _ in range(200)]
    assert {answer.status for answer in answers} == {ACCEPTED}
    assert len({answer.assignment_id for answer in answers}) == 200
    (chunk,) = aggregator.fetch()
    assert chunk.data == expected_after(run, 1).tobytes()
    stream.close()


CONTENT = bytes(range(256)) * 2000  # two parts


def put_requests(content=CONTENT, **changes):
    file, *others = (pb.PutFileRequest(data=part) for part in parts_of_file(content))
    named = {"sha256": file_of(content).sha256, "size_bytes": len(content)} | changes
    for name, value in named.items():
        setattr(file, name, value)
    return [file, *others]


def fetched_file(aggregator, content=CONTENT):
    request = pb.FetchFileRequest(sha256=file_of(content).sha256)
    return b"".join(part.data for part in aggregator.stub.FetchFile(request))


def test_a_file_that_was_acknowledged_survives_kill_9(start):
    aggregator = start()
    assert not aggregator.stub.PutFile(iter(put_requests())).was_there
    aggregator.end(signal.SIGKILL)
    aggregator.start()
    assert fetched_file(aggregator) == CONTENT
    assert aggregator.stub.PutFile(iter(put_requests())).was_there


@pytest.mark.parametrize(
    ("requests", "words"),
    [
        ([], "a file begins with its sha256"),
        ([pb.PutFileRequest(data=b"x")], "lower-case hex"),
        (put_requests(sha256="0" * 64), "damaged"),
        (put_requests(size_bytes=len(CONTENT) - 1), "more than the"),
        (put_requests(size_bytes=2**27), "1 to 67108864 bytes"),
        (put_requests()[:1], "cut short"),
        ([*put_requests()[:1], *put_requests()[:1]], "in its first part only"),
        ([put_requests()[0], pb.PutFileRequest()], "a part of a file has 1 to"),
        (put_requests(data=bytes(2**18 + 1)), "a part of a file has 1 to"),
    ],
)
def test_what_is_not_the_file_that_was_announced_is_refused(start, requests, words):
    aggregator = start()
    with pytest.raises(grpc.RpcError) as refusal:
        aggregator.stub.PutFile(iter(requests))
    assert refusal.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert words in refusal.value.details()
    with pytest.raises(grpc.RpcError) as missing:
        fetched_file(aggregator)
    assert missing.value.code() is grpc.StatusCode.NOT_FOUND


def test_files_have_a_limit_that_can_be_set(start):
    aggregator = start("--stored-bytes", str(len(CONTENT) - 1))
    with pytest.raises(grpc.RpcError) as refusal:
        aggregator.stub.PutFile(iter(put_requests()))
    assert refusal.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "--stored-bytes" in refusal.value.details()


def test_it_starts_quickly(start):
    """It takes half a second, interpreter and imports included; machines are shared."""
    begun = time.monotonic()
    start()
    assert time.monotonic() - begun < 3


def test_help_fits_80_columns():
    environment = {**os.environ, "COLUMNS": "80"}
    command = [sys.executable, "-m", "services.aggregator", "--help"]
    shown = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=30, check=True
    )
    assert max(len(line) for line in shown.stdout.splitlines()) <= 80
    assert "--snapshot-rounds" in shown.stdout
