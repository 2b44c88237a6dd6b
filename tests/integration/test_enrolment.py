"""An agent joins a real site with a token, trains, and renews its certificate."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from types import SimpleNamespace

import grpc
import pytest

from tinyfleet.cli.local_fleet import LocalFleet
from tinyfleet.client import Fleet
from tinyfleet.security.bearer import Bearer
from tinyfleet.security.folder import TlsFolder
from tinyfleet.security.joining import renew
from tinyfleet.security.tokens import Tokens, token_text
from tinyfleet.v1 import enrolment_pb2
from tinyfleet.v1.enrolment_pb2_grpc import EnrolmentServiceStub

pytestmark = pytest.mark.slow
CLI = (sys.executable, "-m", "tinyfleet.cli")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A site whose coordinator signs; where it enrols is in its log."""
    folder = tmp_path_factory.mktemp("site")
    with LocalFleet(folder, 0, secure=True, signing=True) as fleet:
        log = folder / "logs" / "coordinator.log"
        deadline = time.monotonic() + 30
        while not (found := re.search(r"enrolling address=(\S+)", log.read_text())):
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        yield SimpleNamespace(folder=folder, fleet=fleet, enrol=found[1], ca=folder / "tls" / "ca")


def run(*words):
    return subprocess.run(words, capture_output=True, text=True, timeout=90, check=False)


def token_for(site, name, *options):
    done = run(*CLI, "ca", "token", name, "--ca", str(site.ca), *options)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def join(site, token, out, *options):
    where = ("--enrol", site.enrol, "--out", str(out), *options)
    return run(*CLI, "agent", "join", site.fleet.coordinator, token, *where)


def audited(site, *words):
    path = site.folder / "state" / "coordinator" / "audit-enrolment.jsonl"
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        for line in path.read_text().splitlines():
            if all(word in line for word in words):
                return json.loads(line)
        time.sleep(0.05)
    raise AssertionError(f"no line with {words} in {path.read_text()}")


def test_an_agent_joins_by_one_command_and_attends(site, tmp_path):
    token = token_for(site, "pi-1", "--also", "lamp")
    done = join(site, token, tmp_path / "agent", "--json")
    assert done.returncode == 0, done.stderr
    joined = json.loads(done.stdout)
    assert joined["name"] == "pi-1"
    assert audited(site, "agent pi-1 has certificate")["outcome"] == "ok"
    agent = subprocess.Popen([sys.executable, "-m", "edge_agents", *joined["command"][1:]])
    try:
        with Fleet(site.fleet.coordinator, tls=site.fleet.tls) as fleet:
            deadline = time.monotonic() + 30
            while not fleet.list_agents(attached_only=True):
                assert time.monotonic() < deadline
                assert agent.poll() is None
                time.sleep(0.1)
            assert [one.name for one in fleet.list_agents()] == ["pi-1"]
    finally:
        agent.terminate()
        assert agent.wait(30) == 0


def test_a_used_token_does_not_open(site, tmp_path):
    token = token_for(site, "pi-2")
    assert join(site, token, tmp_path / "one").returncode == 0
    done = join(site, token, tmp_path / "two")
    assert done.returncode == 4
    assert "this token does not open" in done.stderr
    assert not (tmp_path / "two").exists()
    audited(site, "refused", "the token for agent pi-2 was used already")


def test_an_expired_token_does_not_open(site, tmp_path):
    secret = Tokens(site.ca).make(Bearer("agent", "pi-3"), -1.0)
    text = token_text(secret, _der(site))
    done = join(site, text, tmp_path / "agent")
    assert done.returncode == 4
    assert "this token does not open" in done.stderr
    audited(site, "refused", "the token for agent pi-3 has expired")


def test_a_token_for_another_name_does_not_open(site, tmp_path):
    done = join(site, token_for(site, "pi-4"), tmp_path / "agent", "--name", "pi-5")
    assert "this token does not open" in done.stderr
    audited(site, "refused", "the token for agent pi-4 was shown by 'pi-5'")


def test_whoever_does_not_hold_the_site_s_authority_gets_no_token_shown(site, tmp_path):
    from tinyfleet.security.authority import Authority

    other = Authority.create(tmp_path / "ca", "another site")
    text = token_text(b"s" * 16, other.der)  # as if this site pretended to be that one
    done = join(site, text, tmp_path / "agent")
    assert done.returncode == 4
    assert "is from an authority" in done.stderr


def test_on_the_port_for_tokens_there_is_nothing_else(site):
    with _open(site) as opened, pytest.raises(grpc.RpcError) as refused:
        opened.unary_unary("/tinyfleet.v1.CoordinatorService/ListRuns")(b"", timeout=10)
    assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_a_large_message_is_cut_off_there(site):
    request = enrolment_pb2.EnrolRequest(secret=b"x" * 100_000)
    with _open(site) as opened, pytest.raises(grpc.RpcError) as refused:
        EnrolmentServiceStub(opened).Enrol(request, timeout=10)
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_a_certificate_is_renewed_by_itself(site, tmp_path):
    assert join(site, token_for(site, "pi-6", "--also", "x"), tmp_path).returncode == 0
    before = TlsFolder(tmp_path / "tls").read()
    renew(site.fleet.coordinator, tmp_path / "tls")
    after = TlsFolder(tmp_path / "tls").read()
    assert after.key != before.key
    assert after.expires_s >= before.expires_s
    done = run(*CLI, "agents", "--coordinator", site.fleet.coordinator, "--tls", tmp_path / "tls")
    assert "agent pi-6 may not call ListAgents" in done.stderr  # it is known as before


def _der(site):
    from tinyfleet.security.authority import Authority

    return Authority.open(site.ca).der


def _open(site):
    trust = grpc.ssl_channel_credentials((site.ca / "ca.pem").read_bytes())
    name = (("grpc.ssl_target_name_override", "coordinator.tinyfleet.internal"),)
    return grpc.secure_channel(site.enrol, trust, options=name)
