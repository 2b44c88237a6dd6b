"""Whoever is refused in the handshake reads what it probably is, and what to do."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import sys
import threading

import pytest
from security_site import site

from tinyfleet.cli.local_fleet import LocalFleet
from tinyfleet.cli.metrics_client import Metrics
from tinyfleet.client import Fleet
from tinyfleet.errors import Refused
from tinyfleet.security.authority import Authority
from tinyfleet.security.bearer import Bearer
from tinyfleet.security.joining import join
from tinyfleet.security.probing import probed
from tinyfleet.security.tokens import Tokens, token_text

pytestmark = pytest.mark.slow
__all__ = ["site"]  # the fixture

NO_CERTIFICATE = "it wants TLS: give --tls FOLDER with a certificate of its site"
OTHER_AUTHORITY = (
    "our certificate is from an authority that ca.pem beside it does not name: join again"
)
GOOD_BUT_REFUSED = (
    r"refuses our certificate, which ca\.pem here finds good until .* its clock is wrong"
)
WITHOUT_TLS = "it speaks without TLS: start it with --tls FOLDER, or leave --tls out here"


@pytest.fixture
def mixed(site, tmp_path):
    """A folder with another site's certificate, and this one's ca.pem."""
    shutil.copytree(site.folder / "stranger", tmp_path / "mixed")
    shutil.copy(site.folder / "tls" / "ca" / "ca.pem", tmp_path / "mixed")
    return tmp_path / "mixed"


@pytest.fixture
def bridged(site, tmp_path):
    """A folder that trusts both authorities, with the other one's certificate."""
    other = Authority.open(site.folder / "other")
    other.issue_folder(Bearer("operator", "eve"), tmp_path / "bridged")
    with (tmp_path / "bridged" / "ca.pem").open("ab") as file:
        file.write((site.folder / "tls" / "ca" / "ca.pem").read_bytes())
    return tmp_path / "bridged"


def told(address, tls):
    with Fleet(address, tls=tls) as fleet, pytest.raises(Refused) as refused:
        fleet.list_runs()
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_no_certificate(site):
    assert NO_CERTIFICATE in told(site.fleet.coordinator, None)


def test_another_authority(site, mixed):
    assert OTHER_AUTHORITY in told(site.fleet.coordinator, mixed)


def test_an_authority_that_the_service_trusts_no_more(site, bridged):
    with (
        Fleet(site.fleet.coordinator, tls=bridged) as fleet,
        pytest.raises(Refused, match=GOOD_BUT_REFUSED),
    ):
        fleet.list_runs()


def test_a_service_without_tls(site, tmp_path):
    with LocalFleet(tmp_path, 0) as plain:
        assert WITHOUT_TLS in told(plain.coordinator, site.fleet.tls)


def test_the_metrics_service_is_told_apart_as_well(site):
    with Metrics(site.fleet.metrics, None) as metrics, pytest.raises(Refused) as refused:
        metrics.summarize("x")
    assert NO_CERTIFICATE in str(refused.value)


def test_a_certificate_that_expired_by_the_clock_of_the_service(site):
    """This side's clock may be late, so that it calls; here only the question is asked."""
    said = probed(site.fleet.coordinator, site.folder / "expired")
    assert said == "our certificate has expired: issue a new one, or set this machine's clock"


def test_files_that_do_not_belong_together(site, mixed):
    shutil.copy(site.folder / "pi-1" / "key.pem", mixed)
    assert "do not belong together (KEY_VALUES_MISMATCH)" in probed(site.fleet.coordinator, mixed)


@contextlib.contextmanager
def answering(answer):
    """The address of a program that says `answer` to everybody and closes, or says nothing."""
    listening = socket.create_server(("127.0.0.1", 0))
    over = threading.Event()

    def serve():
        with contextlib.suppress(OSError):
            while True:
                caller, _ = listening.accept()
                with caller:
                    caller.sendall(answer)
                    if not answer:
                        over.wait(60)

    thread = threading.Thread(target=serve)
    thread.start()
    yield f"127.0.0.1:{listening.getsockname()[1]}"
    over.set()
    listening.shutdown(socket.SHUT_RDWR)
    listening.close()
    thread.join()


def test_another_program():
    with answering(b"HTTP/1.1 400 Bad Request\r\n\r\n") as address:
        assert "does not speak TLS: is it a service?" in probed(address, None)


def test_one_that_says_nothing_is_given_up():
    with answering(b"") as address:
        assert probed(address, None) is None


def test_nobody():
    with answering(b"x") as address:
        pass
    assert probed(address, None) is None


def command_of_an_agent(site, *words):
    command = [sys.executable, "-m", "edge_agents", "--coordinator", site.fleet.coordinator]
    done = subprocess.run(
        [*command, "--give-up-s", "0.1", "--reconnect-s", "0.1", *map(str, words)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 3
    return done.stderr.splitlines()


@pytest.mark.parametrize("with_certificate", [False, True])
def test_the_log_of_an_agent(site, mixed, with_certificate):
    words = ("--tls", mixed) if with_certificate else ()
    expected = OTHER_AUTHORITY if with_certificate else NO_CERTIFICATE
    warned, *_, last = command_of_an_agent(site, *words)[1:]
    assert "no coordinator, trying again" in warned
    assert expected in warned
    assert expected in last


def test_a_token_at_the_wrong_port(site, tmp_path):
    ca = site.folder / "tls" / "ca"
    secret = Tokens(ca).make(Bearer("agent", "new"), 60.0)
    token = token_text(secret, site.authority.der)
    with pytest.raises(Refused, match="asks for a certificate already: name with --enrol where"):
        join(site.fleet.coordinator, token, "", tmp_path / "new")
