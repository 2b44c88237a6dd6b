"""The metrics service as a process: killed, restarted, full, and asked from the command line."""

import asyncio
import csv
import io
import json
import os
import resource
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from tinyfleet.cli import program
from tinyfleet.telemetry import Measurement
from tinyfleet.telemetry_grpc import Pace, Reporter, batch_request
from tinyfleet.v1 import metrics_pb2, metrics_pb2_grpc

ROOT = Path(__file__).resolve().parents[2]


class Process:
    """`python -m services.metrics` on a state folder; `start` again after its end restarts it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.address = "127.0.0.1:0"
        self._process: subprocess.Popen[str] | None = None

    def start(self, *options: str) -> None:
        port_file = self.folder / "port"
        port_file.unlink(missing_ok=True)
        where = ["--listen", self.address, "--state", str(self.folder / "state")]
        command = [sys.executable, "-m", "services.metrics", *where, "--port-file", str(port_file)]
        self._process = subprocess.Popen(
            [*command, *options], cwd=ROOT, stderr=subprocess.PIPE, text=True
        )
        deadline = time.monotonic() + 20
        while not port_file.exists():
            assert self._process.poll() is None, self._process.stderr.read()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        self.address = port_file.read_text("utf-8").strip()

    def stop(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        assert self._process is not None
        self._process.send_signal(number)
        _, errors = self._process.communicate(timeout=20)
        return self._process.returncode, errors

    def stub(self, channel: grpc.Channel) -> metrics_pb2_grpc.MetricsServiceStub:
        return metrics_pb2_grpc.MetricsServiceStub(channel)

    def report(self, request: metrics_pb2.ReportRequest) -> None:
        with grpc.insecure_channel(self.address) as channel:
            self.stub(channel).Report(request, timeout=10, wait_for_ready=True)

    def values(self) -> list[float]:
        with grpc.insecure_channel(self.address) as channel:
            request = metrics_pb2.QueryRequest(limit=100_000)
            answer = self.stub(channel).Query(request, timeout=10, wait_for_ready=True)
        return [sample.value for sample in answer.samples]

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Process]:
    made = Process(tmp_path)
    yield made
    if made.is_running:
        made.stop(signal.SIGKILL)


def loss(value: float, round: int | None = 0, name: str = "loss", unit: str = "") -> Measurement:
    return Measurement(name, value, unit, "r1", round, time.time())


def batch(*samples: Measurement, source: str = "agent-1") -> metrics_pb2.ReportRequest:
    return batch_request(source, samples)


def tinyfleet(service: Process, capsys: pytest.CaptureFixture[str], *words: str):
    """Run `tinyfleet metrics WORDS`; gives exit code, stdout and stderr."""
    capsys.readouterr()
    code = program.run(["metrics", *words, "--metrics-service", service.address])
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def test_what_was_acknowledged_survives_kill_9_and_a_repeat_is_stored_once(service) -> None:
    service.start()
    requests = [batch(loss(float(number))) for number in range(20)]
    for request in requests:
        service.report(request)
    service.stop(signal.SIGKILL)
    service.start()
    assert service.values() == [float(number) for number in range(20)]
    for request in requests:
        service.report(request)
    assert len(service.values()) == 20


def test_killed_under_load_it_keeps_everything_it_acknowledged(service: Process) -> None:
    service.start()
    acknowledged: list[float] = []

    def load(start: int) -> None:
        with grpc.insecure_channel(service.address) as channel:
            stub = service.stub(channel)
            for number in range(start, start + 5000):
                try:
                    stub.Report(batch(loss(float(number))), timeout=10)
                except grpc.RpcError:
                    return
                acknowledged.append(float(number))

    threads = [threading.Thread(target=load, args=(k * 10_000,)) for k in range(4)]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + 20
    while len(acknowledged) < 200 and time.monotonic() < deadline:
        time.sleep(0.01)
    service.stop(signal.SIGKILL)
    for thread in threads:
        thread.join()
    service.start()
    stored = service.values()
    assert len(acknowledged) >= 200
    assert len(stored) == len(set(stored))
    assert set(acknowledged) <= set(stored)


async def test_a_reporter_delivers_once_over_a_restart(service: Process) -> None:
    service.start()
    pace = Pace(batch=10, linger_s=0.02, first_retry_s=0.05, longest_retry_s=0.2)
    reporter = Reporter("agent-1", service.address, pace=pace)
    for number in range(300):
        reporter.report("loss", float(number), run_id="r1", round=number)
        if number == 100:
            service.stop(signal.SIGKILL)
        if number == 200:
            await asyncio.to_thread(service.start)
        await asyncio.sleep(0.001)
    await reporter.close(20)
    assert sorted(service.values()) == [float(number) for number in range(300)]
    assert reporter.dropped == 0


def test_a_full_disk_acknowledges_nothing_and_says_so(service: Process) -> None:
    """A file that may not grow is a full disk to the database."""
    service.start()
    service.report(batch(loss(1.0)))
    database = service.folder / "state" / "metrics.sqlite"
    service.stop()
    room = database.stat().st_size + 64 * 1024
    start_with_file_limit(service, room)
    refused = None
    for _ in range(50):
        request = batch(*(loss(2.0) for _ in range(2000)))
        try:
            service.report(request)
        except grpc.RpcError as error:
            refused = error
            break
    assert refused is not None
    assert refused.code() is grpc.StatusCode.UNAVAILABLE
    assert refused.details().startswith("cannot store samples: ")
    before = len(service.values())
    code, errors = service.stop()
    assert code == 0, errors
    assert "Traceback" not in errors
    service.start()
    assert len(service.values()) == before
    service.report(request)
    assert len(service.values()) == before + 2000


def test_sigterm_ends_it_at_once_also_with_watchers(service: Process) -> None:
    service.start()
    with grpc.insecure_channel(service.address) as channel:
        stream = service.stub(channel).Watch(metrics_pb2.WatchRequest())
        stream.initial_metadata()
        service.report(batch(loss(1.0)))
        began = time.monotonic()
        code, errors = service.stop()
        news = [sample.value for answer in stream for sample in answer.samples]
    assert (code, news) == (0, [1.0])
    assert time.monotonic() - began < 4
    assert "Traceback" not in errors


def test_a_second_process_on_the_same_state_says_who_holds_it(service, tmp_path) -> None:
    service.start()
    where = ["--listen", "127.0.0.1:0", "--state", str(tmp_path / "state")]
    second = subprocess.run(
        [sys.executable, "-m", "services.metrics", *where],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert second.returncode == 3
    assert second.stderr.count("\n") == 1
    assert f"process {service._process.pid}" in second.stderr


def test_old_samples_are_deleted_in_the_background(service: Process) -> None:
    service.start()
    old = Measurement("loss", 1.0, "", "r1", 0, time.time() - 10 * 86_400)
    service.report(batch(old, loss(2.0)))
    service.stop()
    service.start("--keep-days", "5")
    deadline = time.monotonic() + 10
    while service.values() != [2.0]:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def start_with_file_limit(service: Process, size: int) -> None:
    """Start it so that no file of it can grow beyond `size` bytes."""
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    signal_before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # inherited: errors, no death
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, old[1]))
    try:
        service.start()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
        signal.signal(signal.SIGXFSZ, signal_before)


class TestCommands:
    @pytest.fixture
    def service(self, tmp_path: Path) -> Iterator[Process]:
        made = Process(tmp_path)
        made.start("--storage", "memory")
        made.report(batch(*(loss(number / 10, round=number) for number in range(10))))
        made.report(batch(loss(0.002, 3, "training_seconds", "seconds"), source="agent-2"))
        yield made
        made.stop(signal.SIGKILL)

    def test_query_prints_samples(self, service, capsys) -> None:
        code, out, _ = tinyfleet(service, capsys, "query", "--run", "r1", "--source", "agent-2")
        header, line = out.splitlines()
        assert code == 0
        assert header.split() == ["time", "round", "source", "metric", "value", "unit"]
        assert line.split()[1:] == ["3", "agent-2", "training_seconds", "0.002", "seconds"]
        assert len(line) <= 80

    def test_query_as_json_is_one_object(self, service, capsys) -> None:
        words = ("query", "--metric", "loss", "--rounds", "2:4", "--limit", "2", "--json")
        code, out, _ = tinyfleet(service, capsys, *words)
        document = json.loads(out)
        assert (code, document["truncated"]) == (0, True)
        assert [row["round"] for row in document["samples"]] == [2, 3]
        assert document["samples"][0].keys() == {
            *("time", "run", "round", "source", "metric", "value", "unit")
        }

    def test_query_aggregates_by_group(self, service, capsys) -> None:
        words = ("query", "--aggregate", "p50", "--group-by", "metric,source", "--json")
        code, out, _ = tinyfleet(service, capsys, *words)
        assert code == 0
        assert json.loads(out)["groups"] == [
            {
                "source": "agent-1",
                "metric": "loss",
                "value": pytest.approx(0.45),
                "unit": "",
                "count": 10,
            },
            {
                "source": "agent-2",
                "metric": "training_seconds",
                "value": 0.002,
                "unit": "seconds",
                "count": 1,
            },
        ]

    def test_query_as_csv_is_read_back(self, service, capsys) -> None:
        _, out, _ = tinyfleet(service, capsys, "query", "--metric", "loss", "--csv")
        rows = list(csv.DictReader(io.StringIO(out)))
        assert [float(row["value"]) for row in rows] == [number / 10 for number in range(10)]

    def test_rows_left_out_and_no_rows_are_said(self, service, capsys) -> None:
        _, _, errors = tinyfleet(service, capsys, "query", "--limit", "2")
        assert "only the first 2" in errors
        code, out, errors = tinyfleet(service, capsys, "query", "--metric", "nothing")
        assert (code, out, errors) == (0, "", "no samples match\n")

    def test_summary_fits_in_80_columns(self, service, capsys) -> None:
        long = loss(0.123456, 3, "slowest_training_seconds", "seconds")
        service.report(batch(long))
        code, out, _ = tinyfleet(service, capsys, "summary", "--run", "r1")
        assert code == 0
        assert max(len(line) for line in out.splitlines()) <= 80
        lines = [line.split(maxsplit=2) for line in out.splitlines()]
        assert [line[0] for line in lines] == [
            *("metric", "loss", "slowest_training_seconds", "training_seconds")
        ]
        assert lines[3][1] == "1"
        assert "2 ms" in lines[3][2]

    def test_summary_of_an_unknown_run_fails_with_one_line(self, service, capsys) -> None:
        code, out, errors = tinyfleet(service, capsys, "summary", "--run", "r9")
        assert (code, out) == (4, "")
        assert errors == "tinyfleet: no sample names run 'r9'\n"

    def test_summary_as_json(self, service, capsys) -> None:
        _, out, _ = tinyfleet(service, capsys, "summary", "--run", "r1", "--json")
        first = json.loads(out)["metrics"][0]
        assert (first["metric"], first["count"], first["p99"]) == ("loss", 10, pytest.approx(0.891))
        assert (first["first_round"], first["last_round"]) == (0, 9)

    def test_watch_prints_what_arrives(self, service, capsys) -> None:
        stop = threading.Event()

        def report_until_stopped() -> None:
            while not stop.wait(0.05):
                service.report(batch(loss(7.5, round=20)))

        thread = threading.Thread(target=report_until_stopped)
        thread.start()
        try:
            words = ("watch", "--run", "r1", "--rounds", "20:", "--count", "3", "--json")
            code, out, _ = tinyfleet(service, capsys, *words)
            plain = tinyfleet(service, capsys, "watch", "--count", "1")[1]
        finally:
            stop.set()
            thread.join()
        rows = [json.loads(line) for line in out.splitlines()]
        assert code == 0
        assert [(row["metric"], row["value"], row["round"]) for row in rows] == [
            ("loss", 7.5, 20)
        ] * 3
        assert plain.split()[1:] == ["r1", "20", "agent-1", "loss=7.5"]

    def test_watch_says_when_the_service_stops(self, service, capsys) -> None:
        threading.Timer(1.0, os.kill, (service._process.pid, signal.SIGTERM)).start()
        code, _, errors = tinyfleet(service, capsys, "watch")
        assert code == 3
        assert errors == f"tinyfleet: the metrics service at {service.address} was stopped\n"

    @pytest.mark.parametrize("words", [("query",), ("summary", "--run", "r1"), ("watch",)])
    def test_without_a_service_the_remedy_is_named(self, service, capsys, words) -> None:
        service.stop(signal.SIGKILL)
        code, out, errors = tinyfleet(service, capsys, *words)
        assert (code, out, errors.count("\n")) == (3, "", 1)
        assert "start it with 'tinyfleet-metrics'" in errors


def test_the_database_is_readable_by_any_sqlite_client(service: Process) -> None:
    service.start()
    service.report(batch(loss(1.5), loss(2.5)))
    with sqlite3.connect(f"file:{service.folder}/state/metrics.sqlite?mode=ro", uri=True) as file:
        query = "SELECT name, value FROM samples JOIN series ON series.id = series_id ORDER BY 2"
        assert file.execute(query).fetchall() == [("loss", 1.5), ("loss", 2.5)]
    file.close()
