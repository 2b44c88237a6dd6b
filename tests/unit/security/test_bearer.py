"""Names in certificates, and what an authority signs."""

from __future__ import annotations

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given
from hypothesis import strategies as st

from services.hosting.credentials import bearer_in, check_service
from tinyfleet.errors import InvalidInput
from tinyfleet.security.address import check_plaintext
from tinyfleet.security.authority import Authority, new_key
from tinyfleet.security.bearer import (
    SERVICES,
    Bearer,
    bearer_of,
    checked_bearer,
    internal_host,
    internal_hosts,
)
from tinyfleet.security.channels import channel
from tinyfleet.security.folder import TlsFolder
from tinyfleet.security.handshakes import explained

NAMES = st.from_regex(r"[A-Za-z0-9._-]{1,64}", fullmatch=True)


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority.create(tmp_path_factory.mktemp("site") / "ca", "site")


@given(st.sampled_from(["agent", "operator"]), NAMES)
def test_a_bearer_is_read_back_from_its_names(role, name):
    bearer = checked_bearer(role, name)
    assert bearer_of(bearer.uris) == bearer


@given(st.lists(st.text(max_size=40) | st.text(max_size=20).map("tinyfleet://agent/{}".format)))
def test_names_of_anybody_else_are_nobody_s(uris):
    bearer = bearer_of(uris)
    assert bearer is None or checked_bearer(bearer.role, bearer.name, bearer.also) == bearer


@pytest.mark.parametrize(
    "uris",
    [
        (),
        ("https://example.org/pi-1",),
        ("tinyfleet://captain/pi-1",),
        ("tinyfleet://agent/pi-1", "tinyfleet://operator/desk"),
        ("tinyfleet://agent/pi-1/x",),
        ("tinyfleet://service/mine",),
    ],
)
def test_one_bearer_has_one_role(uris):
    assert bearer_of(uris) is None


@pytest.mark.parametrize(
    ("name", "allowed"),
    [
        ("pi-1", True),
        ("pi-1.board-1", True),
        ("lamp", True),
        ("pi-10", False),
        ("pi-2", False),
        ("pi-1x.board", False),
        ("", False),
        ("lamp.x", False),
    ],
)
def test_an_agent_speaks_for_itself_and_for_what_is_attached_to_it(name, allowed):
    assert Bearer("agent", "pi-1", ("lamp",)).may_act_as(name) is allowed


@pytest.mark.parametrize(
    ("role", "name", "also", "reason"),
    [
        ("root", "x", (), "a role is one of agent, operator, service"),
        ("service", "mine", (), "a service is one of"),
        ("operator", "desk", ("night-desk",), "only agents have further names"),
        ("agent", "a/b", (), "a name has 1 to 64"),
        ("agent", "", (), "a name has 1 to 64"),
        ("agent", "a", tuple("b" * 33), "at most 32 further names"),
    ],
)
def test_what_can_have_no_certificate_is_refused(role, name, also, reason):
    with pytest.raises(InvalidInput, match=reason):
        checked_bearer(role, name, also)


def test_a_certificate_says_whose_it_is_and_what_it_is_for(authority):
    client, agent, server = (
        authority.issue(checked_bearer(*who), new_key().public_key())
        for who in (("operator", "desk"), ("agent", "pi-1", ("lamp",)), ("service", "metrics"))
    )
    assert bearer_in(client) == Bearer("operator", "desk")
    assert bearer_in(agent) == Bearer("agent", "pi-1", ("lamp",))
    assert bearer_in(server) == Bearer("service", "metrics")
    purposes = [
        one.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        for one in (client, agent, server)
    ]
    assert [ExtendedKeyUsageOID.SERVER_AUTH in one for one in purposes] == [False, True, True]
    client.verify_directly_issued_by(authority.certificate)


@given(NAMES)
def test_an_agent_s_host_names_are_no_service_s_and_none_of_another_agent_s(name):
    any_agent, own = internal_hosts(checked_bearer("agent", name))
    assert (any_agent, own) == ("agent.tinyfleet.internal", f"{name}.agent.tinyfleet.internal")
    assert not {any_agent, own} & {internal_host(service) for service in SERVICES}
    assert internal_hosts(checked_bearer("operator", name)) == ()


@pytest.mark.parametrize("name", ["a_b", "." * 64, "-", "A" * 64, "agent", "coordinator"])
def test_an_agent_of_any_name_has_its_host_names_in_its_certificate(authority, name):
    bearer = checked_bearer("agent", name)
    certificate = authority.issue(bearer, new_key().public_key())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == list(internal_hosts(bearer))
    assert bearer_in(certificate) == bearer


def test_an_authority_is_not_made_twice(authority):
    with pytest.raises(InvalidInput, match="choose another --ca"):
        Authority.create(authority.folder, "site")
    assert Authority.open(authority.folder).certificate == authority.certificate


def test_what_it_issued_is_in_its_register(authority):
    certificate = authority.issue(checked_bearer("operator", "desk"), new_key().public_key())
    last = (authority.folder / "issued.jsonl").read_text().splitlines()[-1]
    assert f'"{certificate.serial_number:x}"' in last
    assert '"desk"' in last


def test_a_service_shows_only_its_own_certificate(authority, tmp_path):
    authority.issue_folder(checked_bearer("agent", "pi-1"), tmp_path)
    with pytest.raises(InvalidInput, match="of agent pi-1, not of the service metrics"):
        check_service(TlsFolder(tmp_path).read(), "metrics", tmp_path)


def test_a_key_of_another_certificate_is_refused(authority, tmp_path):
    for name in ("one", "other"):
        authority.issue_folder(checked_bearer("service", "metrics"), tmp_path / name)
    (tmp_path / "one" / "key.pem").write_bytes((tmp_path / "other" / "key.pem").read_bytes())
    with pytest.raises(InvalidInput, match="is not the key of"):
        check_service(TlsFolder(tmp_path / "one").read(), "metrics", tmp_path)


@pytest.mark.parametrize("address", ["10.0.0.1:7310", "box.local:7310", "0.0.0.0:1", "[fd00::1]:1"])
def test_without_tls_only_this_machine_is_dialled(address):
    with pytest.raises(InvalidInput, match=r"refusing to reach the metrics.*without TLS.*--tls"):
        channel(address, "metrics", None)


@pytest.mark.parametrize("address", ["127.0.0.1:1", "localhost:1", "[::1]:1", "127.8.9.1:2"])
def test_this_machine_is_dialled_without_tls(address):
    check_plaintext("metrics", address)


def test_an_ordinary_failure_is_not_taken_for_a_handshake():
    assert explained("failed to connect to all addresses; last error: Connection refused") is None
    assert explained("Socket closed") is None  # in the middle of a call
