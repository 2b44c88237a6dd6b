"""`tinyfleet health` tells people by a word and supervisors by its exit code how a service is."""

import json
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from tinyfleet.cli import program

STATUS = health_pb2.HealthCheckResponse


@pytest.fixture
def service():
    """A health servicer, and its address."""
    server = grpc.server(ThreadPoolExecutor(2))
    servicer = health.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield servicer, f"127.0.0.1:{port}"
    server.stop(None)


def test_a_service_that_serves_is_0(service, capsys):
    servicer, address = service
    servicer.set("", STATUS.SERVING)
    assert program.run(["health", "aggregator", "--address", address, "--json"]) == 0
    said = {"service": "aggregator", "address": address, "status": "serving"}
    assert json.loads(capsys.readouterr().out) == said


def test_a_service_that_says_no_is_4(service, capsys):
    servicer, address = service
    servicer.set("", STATUS.NOT_SERVING)
    assert program.run(["health", "metrics", "--address", address]) == 4
    assert "answers that it is not serving" in capsys.readouterr().err


def test_nobody_there_is_3(service, capsys):
    port = grpc.server(ThreadPoolExecutor(1)).add_insecure_port("127.0.0.1:0")
    words = ["health", "coordinator", "--address", f"127.0.0.1:{port}", "--timeout-s", "0.5"]
    assert program.run(words) == 3
    assert "no health from" in capsys.readouterr().err
