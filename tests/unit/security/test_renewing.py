"""An authority renews what it issued, in place, and nothing else."""

from __future__ import annotations

import datetime as dt
import json
import os

import pytest
from cryptography import x509

from services.hosting.credentials import bearer_in, check_service
from tinyfleet.cli import program
from tinyfleet.errors import InvalidInput
from tinyfleet.exposition.families import process_families
from tinyfleet.security.authority import Authority
from tinyfleet.security.bearer import Bearer
from tinyfleet.security.folder import TlsFolder, expiry
from tinyfleet.security.renewing import renew_folder

AGENT = Bearer("agent", "pi-1", ("lamp",))
SERVICE = Bearer("service", "metrics")


@pytest.fixture
def authority(tmp_path):
    return Authority.create(tmp_path / "ca", "site")


def certificate_in(folder):
    return x509.load_pem_x509_certificate((folder / "cert.pem").read_bytes())


def test_it_is_the_same_bearer_s_with_another_key_for_longer(authority, tmp_path):
    authority.issue_folder(AGENT, tmp_path / "pi", days=5)
    before = certificate_in(tmp_path / "pi")
    bearer, fresh = renew_folder(authority, tmp_path / "pi", 90)
    assert bearer == AGENT == bearer_in(fresh)
    assert fresh == certificate_in(tmp_path / "pi")
    assert fresh.public_key() != before.public_key()
    assert fresh.not_valid_after_utc - before.not_valid_after_utc > dt.timedelta(days=84)


def test_a_service_keeps_its_hosts(authority, tmp_path):
    authority.issue_folder(SERVICE, tmp_path / "metrics", ["box.example"])
    _, fresh = renew_folder(authority, tmp_path / "metrics", 90)
    names = fresh.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    hosts = names.get_values_for_type(x509.DNSName)
    assert hosts == ["metrics.tinyfleet.internal", "box.example"]
    check_service(TlsFolder(tmp_path / "metrics").read(), "metrics", tmp_path / "metrics")


def test_one_that_has_expired_is_renewed_as_well(authority, tmp_path):
    authority.issue_folder(SERVICE, tmp_path / "metrics", days=-1)
    renew_folder(authority, tmp_path / "metrics", 90)
    TlsFolder(tmp_path / "metrics").read()


def test_with_a_new_key_of_the_authority_it_is_trusted_after_the_old_one_is_not(
    authority, tmp_path
):
    authority.issue_folder(SERVICE, tmp_path / "metrics")
    authority.rotate()
    renew_folder(authority, tmp_path / "metrics", 90)
    authority.finish_rotation()
    renew_folder(authority, tmp_path / "metrics", 90)


def test_one_of_another_authority_with_the_same_name_is_refused(authority, tmp_path):
    other = Authority.create(tmp_path / "other", "site")
    other.issue_folder(Bearer("operator", "eve"), tmp_path / "eve")
    with pytest.raises(InvalidInput, match=r"is not from the authority in .*: name another --ca"):
        renew_folder(authority, tmp_path / "eve", 90)


def test_a_revoked_one_is_refused(authority, tmp_path):
    authority.issue_folder(AGENT, tmp_path / "pi")
    authority.revoke("pi-1")
    with pytest.raises(InvalidInput, match="is revoked: issue a new one"):
        renew_folder(authority, tmp_path / "pi", 90)


@pytest.mark.parametrize("data", [None, b"", b"-----BEGIN CERTIFICATE-----\nAAAA\n"])
def test_a_folder_without_a_certificate_is_refused(authority, tmp_path, data):
    if data is not None:
        (tmp_path / "cert.pem").write_bytes(data)
    with pytest.raises(InvalidInput, match=r"cannot read|is no certificate: issue a new one"):
        renew_folder(authority, tmp_path, 90)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_written_by_root_it_belongs_to_whom_the_folder_belongs_to(authority, tmp_path):
    folder = tmp_path / "metrics"
    folder.mkdir()
    os.chown(folder, 10001, 10001)
    authority.issue_folder(SERVICE, folder)
    renew_folder(authority, folder, 90)
    owners = {(one.stat().st_uid, one.stat().st_gid) for one in folder.iterdir()}
    assert owners == {(10001, 10001)}


def test_the_command_renews_all_that_it_is_given(authority, tmp_path, capsys):
    folders = [tmp_path / "metrics", tmp_path / "pi"]
    for bearer, folder in zip((SERVICE, AGENT), folders, strict=True):
        authority.issue_folder(bearer, folder, days=1)
    words = ["ca", "renew", *map(str, folders), "--ca", str(tmp_path / "ca")]
    assert program.run([*words, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["renewed"]
    assert [one["bearer"] for one in told] == ["service metrics", "agent pi-1"]
    assert [one["serial"] for one in told] == [
        f"{certificate_in(folder).serial_number:x}" for folder in folders
    ]


def test_a_process_tells_prometheus_when_its_certificate_ends(authority, tmp_path):
    authority.issue_folder(SERVICE, tmp_path / "metrics")
    (family,) = (
        one
        for one in process_families("metrics", tmp_path / "metrics")
        if one.name == "tinyfleet_certificate_end_time_seconds"
    )
    ends_s = certificate_in(tmp_path / "metrics").not_valid_after_utc.timestamp()
    assert [sample.value for sample in family.samples] == [ends_s]
    assert expiry(tmp_path / "nothing") is None
