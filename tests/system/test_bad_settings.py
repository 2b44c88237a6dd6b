"""Services and agents that cannot start or are alone: one clear line with the remedy."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest
from refusals import (
    INVALID,
    NOBODY,
    NOT_REACHABLE,
    a_run,
    address_of,
    attached,
    limit_files,
    refused,
    service,
    started,
    until,
    with_message,
)

from tinyfleet.client import Fleet
from tinyfleet.v1 import coordinator_pb2


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
        preexec_fn=lambda: limit_files(16_000),
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
            agents = until(lambda: attached(fleet), "attached")
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
                state = until(lambda: with_message(fleet, run.run_id, "aggregator"), "a message")
                assert f"waiting for the aggregator at {aggregator}" in state.message
                assert state.status == coordinator_pb2.RUN_STATUS_PENDING


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
