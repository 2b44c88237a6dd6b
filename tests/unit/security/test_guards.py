"""Limits, the audit log, grants, and what gRPC says of failed handshakes."""

from __future__ import annotations

import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.hosting.audit import MAX_FILES, OK, REFUSED, Audit
from services.hosting.grants import Grants, grant, is_granted, new_secret
from services.hosting.handshakes import failed_handshakes, reason_in
from services.hosting.limits import Limiter, Limits
from tinyfleet.errors import InvalidInput
from tinyfleet.grpc_engine import choose_verbosity


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


def test_a_bearer_has_so_many_calls_open_and_no_more():
    limiter = Limiter(Limits(open_calls=2), Clock())
    assert [limiter.begin("a"), limiter.begin("a")] == ["", ""]
    assert limiter.begin("a") == "2 calls are open already: end some first"
    assert limiter.begin("b") == ""
    limiter.end("a")
    assert limiter.begin("a") == ""


def test_a_bearer_that_calls_too_often_has_to_wait_and_nobody_else():
    clock = Clock()
    limiter = Limiter(Limits(rate=10, burst=3), clock)

    def call(who):
        reason = limiter.begin(who)
        if not reason:
            limiter.end(who)
        return reason

    assert [call("a") for _ in range(3)] == [""] * 3
    assert call("a") == "more than 10 calls a second: slow down"
    assert call("b") == ""
    clock.now += 0.1
    assert [bool(call("a")) for _ in range(2)] == [False, True]
    clock.now += 1000
    assert [bool(call("a")) for _ in range(4)] == [False] * 3 + [True]


def test_the_bearers_that_are_remembered_are_bounded(monkeypatch):
    monkeypatch.setattr("services.hosting.limits.MAX_BEARERS", 3)
    limiter = Limiter(Limits(), Clock())
    limiter.begin("busy")
    for number in range(10):
        limiter.begin(f"a{number}")
        limiter.end(f"a{number}")
    limiter.end("busy")  # not forgotten while its call was open
    assert len(limiter._accounts) == 3


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_what_was_noted_is_on_disk_once_it_is_closed(tmp_path):
    audit = Audit(tmp_path / "state" / "audit.jsonl", now=lambda: 1.5)
    audit.note("agent pi-1", "Attend", OK)
    for _ in range(3):
        audit.note("agent pi-1", "CreateRun", REFUSED, "it may not")
    audit.close()
    first, second = lines(tmp_path / "state" / "audit.jsonl")
    assert first == {
        "time": "1970-01-01T00:00:01.500Z",
        "who": "agent pi-1",
        "method": "Attend",
        "outcome": "ok",
        "what": "",
    }
    assert (second["outcome"], second["times"]) == ("refused", 3)


def test_the_audit_log_goes_on_where_it_was_and_stays_bounded(tmp_path):
    path = tmp_path / "audit.jsonl"
    for number in range(MAX_FILES + 3):
        audit = Audit(path, max_bytes=1)
        audit.note(f"agent {number}", "Attend", OK)
        audit.close()
    assert len(list(tmp_path.iterdir())) == MAX_FILES
    assert lines(path)[0]["who"] == f"agent {MAX_FILES + 2}"
    assert lines(tmp_path / f"audit.jsonl.{MAX_FILES - 1}")[0]["who"] == "agent 3"


def test_an_audit_log_that_cannot_be_written_is_refused_at_the_start(tmp_path):
    (tmp_path / "state").write_text("a file")
    with pytest.raises(InvalidInput, match="cannot write audit log"):
        Audit(tmp_path / "state" / "audit.jsonl")


NAMES = st.from_regex(r"[A-Za-z0-9._-]{1,64}", fullmatch=True)
IDS = st.from_regex(r"[a-z0-9]{1,8}-\d{1,3}-\d{1,3}-\d{1,3}", fullmatch=True)


@given(IDS, NAMES, IDS, NAMES)
def test_a_grant_is_for_one_assignment_and_one_agent(one, agent, other, stranger):
    grants = Grants(b"s" * 32)
    shown, key = grants.grant("run", one, agent), grants.key("run")
    assert is_granted(key, other, stranger, shown) is ((one, agent) == (other, stranger))
    assert not is_granted(grants.key("another"), one, agent, shown)
    assert not is_granted(key, one, agent, shown[:-1])
    assert not is_granted(key, one, agent, b"")


def test_a_grant_is_made_as_the_contract_says():
    # By hand: openssl dgst -sha256 -mac HMAC over "run-0-1-0|pi-1".
    made = grant(bytes(range(32)), "run-0-1-0", "pi-1")
    assert made.hex() == "14c95f9ea935e3196f95071334a0fded"


def test_a_run_from_before_grants_needs_none():
    assert is_granted(b"", "run-0-1-0", "pi-1", b"")


def test_a_run_has_a_key_of_its_own_that_follows_from_the_secret():
    first, again, other = (Grants(secret) for secret in (b"s" * 32, b"s" * 32, new_secret()))
    assert first.key("run") == again.key("run")
    assert len({first.key("run"), first.key("other"), other.key("run")}) == 3


LINE = b"I1130 22:37:09.700911 1 ssl_transport_security.cc:2563] Handshake failed with error "
LINE += b"SSL_ERROR_SSL: error:1000007d:SSL routines:OPENSSL_internal:%b: %b\n"


@pytest.mark.parametrize(
    ("code", "detail", "reason"),
    [
        (b"CERTIFICATE_VERIFY_FAILED", b"certificate has expired", "that has expired"),
        (b"CERTIFICATE_VERIFY_FAILED", b"unable to get local issuer certificate", "another auth"),
        (b"PEER_DID_NOT_RETURN_A_CERTIFICATE", b"x", "no certificate"),
        (b"WRONG_VERSION_NUMBER", b"x", "plain text"),
        (b"BAD_DECRYPT", b"odd", "bad decrypt odd"),
    ],
)
def test_the_reason_of_a_failed_handshake_is_read(code, detail, reason):
    assert reason in reason_in(LINE % (code, detail))


@given(st.binary())
def test_any_other_line_is_no_handshake(line):
    assert reason_in(line.replace(b"Handshake", b"")) is None


def test_lines_about_handshakes_are_taken_and_others_go_on(capfd):
    noted = []
    with failed_handshakes(noted.append):
        os.write(2, LINE % (b"WRONG_VERSION_NUMBER", b"x"))
        os.write(2, b"another line\n")
    os.write(2, b"and after\n")
    assert noted == ["plain text where TLS is wanted"]
    assert capfd.readouterr().err == "another line\nand after\n"


@pytest.mark.parametrize(
    ("arguments", "environment", "level"),
    [
        (["/path/of/tls", "--state", "tls"], {}, "NONE"),
        (["--tls", "x"], {}, None),
        (["--config=x.toml"], {}, None),
        (["-p", "tls:=x"], {}, None),
        ([], {"TINYFLEET_METRICS_TLS": "x"}, None),
        (["--tls", "x"], {"GRPC_VERBOSITY": "ERROR"}, "ERROR"),
    ],
)
def test_grpc_is_heard_where_there_may_be_tls(arguments, environment, level):
    choose_verbosity(arguments, environment)
    assert environment.get("GRPC_VERBOSITY") == level


def test_what_grpc_logs_besides_is_dropped(capfd):
    with failed_handshakes(pytest.fail):
        os.write(2, b"I1130 22:37:09.700911   24501 some_file.cc:12] Something happened\n")
    assert capfd.readouterr().err == ""
