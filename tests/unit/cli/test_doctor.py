"""The doctor finds what is wrong, says what to do, and leaves the healthy alone."""

import contextlib
import getpass
import json
import os
import shutil
import socket
import sqlite3
import threading
import time
from concurrent import futures

import grpc
import pytest

from tinyfleet import __version__
from tinyfleet.cli import program
from tinyfleet.cli.doctor import fleet, machine
from tinyfleet.cli.doctor.certificates import look_at_certificate
from tinyfleet.cli.doctor.finding import Level
from tinyfleet.cli.doctor.fleet import NOBODY, Answer, NoAnswer, ask, look_at_clock
from tinyfleet.introduced import (
    CERTIFICATE_METADATA,
    SERVICE_METADATA,
    TIME_METADATA,
    VERSION_METADATA,
)
from tinyfleet.security.site import issue_site
from tinyfleet.v1 import coordinator_pb2

SERVING, NOT_SERVING = b"\x08\x01", b"\x08\x02"


class FakeService:
    """Answers health checks as told, and of a coordinator's calls those the doctor makes."""

    def __init__(self, name):
        self.status, self.name, self.version, self.ahead_s = SERVING, name, __version__, 0.0
        self.agents, self.runs = [], []
        self.certificate_days = 60.0

    def check(self, request, context):
        there_s = time.time() + self.ahead_s
        context.set_trailing_metadata(
            (
                (SERVICE_METADATA, self.name),
                (VERSION_METADATA, self.version),
                (TIME_METADATA, str(there_s)),
                (CERTIFICATE_METADATA, str(there_s + 86_400 * self.certificate_days)),
            )
        )
        return self.status

    def list_agents(self, request, context):
        return coordinator_pb2.ListAgentsResponse(agents=self.agents).SerializeToString()

    def list_runs(self, request, context):
        return coordinator_pb2.ListRunsResponse(runs=self.runs).SerializeToString()


@contextlib.contextmanager
def serving(service):
    server = grpc.server(futures.ThreadPoolExecutor(2))
    handle = grpc.unary_unary_rpc_method_handler
    for name, methods in (
        ("grpc.health.v1.Health", {"Check": service.check}),
        (
            "tinyfleet.v1.CoordinatorService",
            {"ListAgents": service.list_agents, "ListRuns": service.list_runs},
        ),
    ):
        handlers = {method: handle(call) for method, call in methods.items()}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(0).wait()


@pytest.fixture
def coordinator():
    return FakeService("coordinator")


@pytest.fixture
def doctor(coordinator, capsys, monkeypatch, tmp_path):
    """Runs the command against the fake coordinator: its exit code and what it found."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(machine, "DEVICES", tmp_path)

    def run(*more):
        with serving(coordinator) as address:
            only = ("--coordinator", address, "--aggregator", "none", "--metrics", "none")
            code = program.run(["doctor", *only, *more, "--json"])
        document = json.loads(capsys.readouterr().out)
        bad = [one for one in document["findings"] if one["level"] == "problem"]
        assert document["problems"] == len(bad)
        assert all(one["remedy"] for one in bad)
        return code, document["findings"]

    return run


def about(findings, subject, level="problem"):
    return [
        f"{one['message']} -> {one['remedy']}"
        for one in findings
        if (one["about"], one["level"]) == (subject, level)
    ]


def test_a_healthy_fleet_is_left_alone(doctor, coordinator):
    coordinator.agents = [coordinator_pb2.Agent(name="pi-1", capabilities={"version": __version__})]
    code, findings = doctor()
    assert code == 0
    assert {one["level"] for one in findings if one["about"] not in {"boards", "learner"}} == {"ok"}


@pytest.mark.parametrize(("ahead_s", "said"), [(3600, "behind"), (-3600, "ahead of")])
def test_a_wrong_clock_is_found(doctor, coordinator, ahead_s, said):
    coordinator.ahead_s = ahead_s
    code, findings = doctor()
    assert code == 4
    (clock,) = about(findings, "clock")
    assert f"3,600 s {said} the coordinator's -> set the clock: timedatectl" in clock


@pytest.mark.parametrize(
    ("there", "offset_s"), [("99.0", -1.0), ("100.5", 0.0), ("103.0", 2.0), ("noon", None)]
)
def test_the_time_that_a_call_took_is_no_error_of_the_clock(there, offset_s):
    answer = Answer(True, 100.0, 101.0, {TIME_METADATA: there})
    assert answer.offset_s == offset_s
    assert look_at_clock(answer).level is not Level.PROBLEM


def test_an_unset_clock_is_found(monkeypatch):
    monkeypatch.setattr(machine.time, "time", lambda: 86_400.0)
    findings = {one.about: one for one in machine.look_at_installation()}
    assert "it says 1970-01-02" in findings["clock"].message


def test_other_versions_are_noted(doctor, coordinator):
    coordinator.version = "0.0.9"
    coordinator.agents = [coordinator_pb2.Agent(name="pi-1", capabilities={"version": "0.0.8"})]
    code, findings = doctor()
    assert code == 0
    assert "has 0.0.9, this command" in about(findings, "coordinator", "note")[0]
    assert "1 of another version" in about(findings, "agents", "note")[0]


def test_a_service_that_cannot_work_is_found(doctor, coordinator):
    coordinator.status = NOT_SERVING
    code, findings = doctor()
    assert code == 4
    assert "cannot do its work -> look at its log" in about(findings, "coordinator")[0]


def test_an_address_of_another_service_is_found(doctor, coordinator):
    coordinator.name = "metrics"
    code, findings = doctor()
    assert code == 4
    assert "is the metrics -> give the coordinator's address" in about(findings, "coordinator")[0]


def test_runs_without_agents_are_a_problem(doctor, coordinator):
    coordinator.runs = [coordinator_pb2.Run(run_id="a", status=coordinator_pb2.RUN_STATUS_RUNNING)]
    code, findings = doctor()
    assert code == 4
    assert "none attached, 1 runs wait for some -> start agents" in about(findings, "agents")[0]


def test_an_agent_without_work_is_noted(doctor, coordinator):
    able = {"version": __version__}
    coordinator.agents = [
        coordinator_pb2.Agent(name="pi-1", capabilities=able, message="900 bytes are missing")
    ]
    _, findings = doctor()
    assert "pi-1 gets no work: 900 bytes" in about(findings, "agents", "note")[0]


def test_a_service_whose_certificate_ends_soon_is_named(doctor, coordinator):
    coordinator.certificate_days = 9.2
    code, findings = doctor()
    assert code == 0
    (said,) = about(findings, "coordinator", "note")
    assert "its certificate ends in 9 days -> tinyfleet ca renew FOLDER" in said


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    issue_site(folder, {})
    return folder / "operator"


@pytest.mark.parametrize(
    ("days", "level"), [(0, Level.OK), (80, Level.NOTE), (89.9, Level.NOTE), (91, Level.PROBLEM)]
)
def test_a_certificate_that_ends_is_found(certificate, days, level):
    found = look_at_certificate(certificate, time.time() + days * 86_400)
    assert found.level is level
    if level is Level.PROBLEM:
        assert "expired on" in found.message
        assert "tinyfleet ca issue" in found.remedy


def test_a_key_that_others_can_read_is_found(certificate, tmp_path):
    folder = shutil.copytree(certificate, tmp_path / "open")
    (folder / "key.pem").chmod(0o644)
    found = look_at_certificate(folder)
    assert (found.level, found.remedy) == (Level.PROBLEM, "chmod 600 it")


def test_a_missing_certificate_is_found(tmp_path):
    assert look_at_certificate(tmp_path).level is Level.PROBLEM


def test_a_fleet_elsewhere_wants_a_certificate():
    answer, found = fleet.look_at_service("coordinator", "10.0.0.5:7310", "start it", None)
    assert answer is None
    assert found.level is Level.PROBLEM
    assert "--tls FOLDER" in found.remedy


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def test_nobody_there_and_somebody_else_are_told_apart():
    with pytest.raises(NoAnswer, match=NOBODY):
        ask("coordinator", f"127.0.0.1:{free_port()}")
    with socket.create_server(("127.0.0.1", 0)) as server:
        hangs_up = threading.Thread(target=hang_up_on_all, args=(server,), daemon=True)
        hangs_up.start()
        with pytest.raises(NoAnswer, match=r"something answers that does not speak|it hung up"):
            ask("coordinator", f"127.0.0.1:{server.getsockname()[1]}")
    other = grpc.server(futures.ThreadPoolExecutor(1))
    port = other.add_insecure_port("127.0.0.1:0")
    other.start()
    with pytest.raises(NoAnswer, match="another program answers"):
        ask("coordinator", f"127.0.0.1:{port}")
    other.stop(0).wait()


def hang_up_on_all(server):
    with contextlib.suppress(OSError):
        while True:
            server.accept()[0].close()


def test_a_machine_without_a_coordinator_is_healthy(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(machine, "DEVICES", tmp_path)
    nobody = {name: free_port() for name in fleet.PORTS}
    for name, port in nobody.items():
        monkeypatch.setitem(fleet.PORTS, name, port)
    assert program.run(["doctor"]) == 0
    shown = capsys.readouterr().out
    assert "no coordinator on this machine" in shown
    assert "problem" not in shown


def test_a_port_that_another_program_has_is_noted(monkeypatch):
    def somebody(name, address):
        raise NoAnswer("another program answers")

    monkeypatch.setattr(fleet, "ask", somebody)
    found = [one.message for one in fleet.look_at_ports()]
    assert found[0] == "7310, the coordinator's: another program answers"


def test_missing_data_are_found(doctor, tmp_path):
    code, findings = doctor("--data", str(tmp_path / "none.npz"))
    assert code == 4
    assert "none.npz is not there -> correct --data" in about(findings, "data")[0]
    (tmp_path / "empty.npz").touch()
    assert "is empty" in about(doctor("--data", str(tmp_path / "empty.npz"))[1], "data")[0]


def a_state(folder):
    folder.mkdir()
    with contextlib.closing(sqlite3.connect(folder / "metrics.sqlite")) as database, database:
        database.execute("CREATE TABLE alembic_version (version_num TEXT)")
        database.execute("INSERT INTO alembic_version VALUES ('0001')")
    return folder


def test_a_sound_state_folder_is_left_alone(doctor, tmp_path):
    code, findings = doctor("--state", str(a_state(tmp_path / "state")))
    assert code == 0
    assert "metrics.sqlite: schema 0001, not in use" in about(findings, "state", "ok")[1]


def test_a_damaged_database_is_found(doctor, tmp_path):
    (a_state(tmp_path / "state") / "metrics.sqlite").write_bytes(b"not a database" * 100)
    code, findings = doctor("--state", str(tmp_path / "state"))
    assert code == 4
    assert "file is not a database -> restore a backup" in about(findings, "state")[0]


def test_who_uses_a_database_is_said_and_not_disturbed(doctor, tmp_path):
    import fcntl

    with (a_state(tmp_path / "state") / "metrics.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _, findings = doctor("--state", str(tmp_path / "state"))
    assert f"used by process {os.getpid()}" in about(findings, "state", "ok")[1]


@pytest.mark.parametrize(("free", "level"), [(10**6, "problem"), (5 * 10**8, "note")])
def test_a_full_disk_is_found(doctor, tmp_path, monkeypatch, free, level):
    usage = shutil.disk_usage(tmp_path)._replace(free=free)
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda path: usage)
    _, findings = doctor("--state", str(a_state(tmp_path / "state")))
    assert "free in" in about(findings, "state", level)[0]


def test_a_serial_port_that_cannot_be_opened_is_found(doctor, tmp_path, monkeypatch):
    (tmp_path / "ttyACM0").touch()
    monkeypatch.setattr(machine.os, "access", lambda path, mode: "ttyACM0" not in str(path))
    code, findings = doctor()
    assert code == 4
    (found,) = about(findings, "boards")
    assert "may not open" in found
    assert found.endswith(f"{getpass.getuser()}, then log in again")


def test_missing_tools_for_boards_are_no_problem(doctor, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda tool, **more: None)
    code, findings = doctor()
    assert code == 0
    assert "apt-get install" in about(findings, "boards", "note")[0]


def test_what_is_shown_fits_eighty_columns(coordinator, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    coordinator.ahead_s, coordinator.version = 1e9, "0.0.1-with-a-long-name.of.a.branch"
    coordinator.agents = [coordinator_pb2.Agent(name=f"{'long-' * 12}{n}") for n in range(9)]
    with serving(coordinator) as address:
        more = ("--aggregator", "127.0.0.1:1", "--metrics", "none", "--data", "x/" * 60)
        assert program.run(["doctor", "--coordinator", address, *more]) == 4
    lines = capsys.readouterr().out.splitlines()
    words = [line for line in lines if len(line) > 80 and " " in line[22:].strip()]
    assert words == []
    assert any(line.startswith("problem ") for line in lines)
