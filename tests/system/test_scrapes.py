"""Prometheus asks a fleet at work: every process answers, in its format, as the page says."""

from __future__ import annotations

import contextlib
import http.client
import re
import time
from pathlib import Path

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tinyfleet.cli.local_fleet import LocalFleet
from tinyfleet.client import Fleet
from tinyfleet.predictions import LiveModel
from tinyfleet.run import make_run
from tinyfleet.tasks import make_task
from tinyfleet.v1 import coordinator_pb2

PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"
PROCESSES = ("coordinator", "aggregator", "metrics", "agent")
ADDRESS = re.compile(r"answering Prometheus, whoever asks address=(\S+)")
ANSWERS = re.compile(r"answering with this agent's model address=(\S+)")
ROUNDS = 60


@pytest.fixture
def local(tmp_path, monkeypatch):
    for process in PROCESSES:
        monkeypatch.setenv(f"TINYFLEET_{process.upper()}_PROMETHEUS", "0")
    monkeypatch.setenv("TINYFLEET_AGENT_PREDICT", "127.0.0.1:0")
    with LocalFleet(tmp_path / "fleet", 2, boards=["emulated://host"], secure=True) as local:
        yield local


def address_of(local, name, said):
    """Where the process `name` listens, by its log."""
    return said.findall((local.folder / "logs" / f"{name}.log").read_text("utf-8"))[-1]


def scraped(local, name):
    """The families that the process `name` tells."""
    address = address_of(local, name, ADDRESS)
    with contextlib.closing(http.client.HTTPConnection(address)) as connection:
        connection.request("GET", "/metrics")
        answer = connection.getresponse()
        assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        return list(text_string_to_metric_families(answer.read().decode()))


def values(families):
    """(name, values of the labels) -> value."""
    samples = [sample for family in families for sample in family.samples]
    return {(one.name, *one.labels.values()): one.value for one in samples}


def documented():
    """(process, name, type, help) of the page's table."""
    row = re.compile(r"^\| `(\w+)` \| (counter|gauge|histogram) \| .* \| (\w+) \| (.*) \|$", re.M)
    processes = {"all": PROCESSES, "services": PROCESSES[:3]}
    return {
        (process, name, kind, what)
        for name, kind, who, what in row.findall(PAGE.read_text("utf-8"))
        for process in processes.get(who, (who,))
    }


def found(process, families):
    for family in families:
        suffix = "_total" if family.type == "counter" else ""
        yield process, family.name + suffix, family.type, family.documentation


def test_every_process_tells_what_the_page_says(local):
    run = make_run(make_task("sine", {}, None), "reptile", ROUNDS, 3, "mlp_32", {})
    slots = run.make_strategy().agents_per_round
    with Fleet(local.coordinator, tls=local.tls) as fleet:
        local.wait_for_agents(fleet)
        run_id = fleet.create_run(run).run_id
        while fleet.get_run(run_id).status != coordinator_pb2.RUN_STATUS_FINISHED:
            local.check()
            time.sleep(0.05)
        end = fleet.get_run(run_id)
    with LiveModel(address_of(local, "agent-1", ANSWERS), tls=local.tls) as model:
        asked = model.predict(np.zeros((3, 1), np.float32))
    scrapes = {
        "coordinator": scraped(local, "coordinator"),
        "aggregator": scraped(local, "aggregator"),
        "metrics": scraped(local, "metrics"),
        "agent": [*scraped(local, "boards"), *scraped(local, "agent-1")],
    }
    told = {one for name, families in scrapes.items() for one in found(name, families)}
    assert told == documented()

    agent = values(scraped(local, "agent-1"))
    assert agent["tinyfleet_predictions_total", "answered"] == 1
    assert agent["tinyfleet_predicted_samples_total",] == 3
    assert agent["tinyfleet_prediction_seconds_count",] == 1
    assert agent["tinyfleet_models_total",] == asked.version.number

    coordinator, aggregator = values(scrapes["coordinator"]), values(scrapes["aggregator"])
    assert coordinator["tinyfleet_agents", "attached"] == 3
    assert coordinator["tinyfleet_runs_ended_total", "finished"] == 1
    assert coordinator["tinyfleet_rounds_total",] == ROUNDS
    assert aggregator["tinyfleet_updates_total", "accepted"] == ROUNDS * slots
    assert aggregator["tinyfleet_updates_total", "refused"] == 0
    assert aggregator["tinyfleet_update_bytes_total", "up"] == end.bytes_up
    assert aggregator["tinyfleet_update_bytes_total", "down"] == end.bytes_down
    made = ("tinyfleet.v1.CoordinatorService", "CreateRun")
    assert coordinator["grpc_server_handled_total", *made, "OK"] == 1
    assert coordinator["grpc_server_handling_seconds_count", *made] == 1
    assert coordinator["grpc_server_started_total", made[0], "Attend"] == 3
    trained = [values(scraped(local, name)) for name in ("agent-1", "agent-2", "boards")]
    assert (
        sum(
            value
            for one in trained
            for name, value in one.items()
            if name[0] == "tinyfleet_trained_rounds_total"
        )
        >= ROUNDS * slots
    )
