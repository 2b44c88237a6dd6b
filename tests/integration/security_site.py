"""Three services over TLS, and callers of all sorts: what the tests of their security share."""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from types import SimpleNamespace

import grpc
import pytest

from tinyfleet.cli.local_fleet import LocalFleet
from tinyfleet.security.authority import Authority
from tinyfleet.security.bearer import Bearer, internal_host
from tinyfleet.security.channels import channel


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Three services over TLS, with certificates of two agents, an operator and a stranger."""
    os.environ.pop("GRPC_VERBOSITY", None)  # what a test that hosts a service itself has chosen
    folder = tmp_path_factory.mktemp("site")
    with LocalFleet(folder, 0, secure=True) as fleet:
        authority = Authority.open(folder / "tls" / "ca")
        other = Authority.create(folder / "other", "another site")
        for name in ("pi-1", "pi-2", "flood"):
            authority.issue_folder(Bearer("agent", name), folder / name)
        authority.issue_folder(Bearer("agent", "pi-1"), folder / "expired", days=-1)
        other.issue_folder(Bearer("operator", "eve"), folder / "stranger")
        yield SimpleNamespace(folder=folder, fleet=fleet, authority=authority)


def audited(site, service, *words, since=0):
    """Wait for a line of the service's audit log with these words in it."""
    path = site.folder / "state" / service / "audit.jsonl"
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        for line in path.read_text().splitlines()[since:]:
            if all(word in line for word in words):
                return json.loads(line)
        time.sleep(0.05)
    raise AssertionError(f"no line with {words} in {path.read_text()}")


def dial(site, service, who):
    address = getattr(site.fleet, service)
    return channel(address, service, site.folder / who)


def raw(site, service, credentials):
    """A channel as a program of somebody else would open it."""
    name = (("grpc.ssl_target_name_override", internal_host(service)),)
    return grpc.secure_channel(getattr(site.fleet, service), credentials, options=name)


def ca(site):
    return (site.folder / "tls" / "ca" / "ca.pem").read_bytes()


def refusal(call):
    with pytest.raises(grpc.RpcError) as refused:
        call()
    return refused.value.code(), refused.value.details()


@contextlib.contextmanager
def kept_open():
    """Gives a function that makes a stream of messages, which does not end before this does."""
    over = threading.Event()

    def stream(*messages):
        yield from messages
        over.wait(60)

    yield stream
    over.set()
