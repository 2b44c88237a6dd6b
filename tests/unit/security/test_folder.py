"""A folder of certificates: what is refused, and that it is read again."""

from __future__ import annotations

import datetime as dt
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyfleet.errors import InvalidInput
from tinyfleet.security.authority import Authority, pem
from tinyfleet.security.bearer import Bearer
from tinyfleet.security.folder import TlsFolder, validity

PI = Bearer("agent", "pi-1")


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority.create(tmp_path_factory.mktemp("site") / "ca", "site")


@pytest.fixture
def folder(authority, tmp_path):
    authority.issue_folder(PI, tmp_path)
    return tmp_path


def test_the_end_of_a_certificate_is_read_as_its_issuer_wrote_it(folder, authority):
    certificate = authority.issue_folder(PI, folder)
    end = int(certificate.not_valid_after_utc.timestamp())
    assert TlsFolder(folder).read().expires_s == end


@pytest.mark.parametrize("year", [1970, 2049, 2050, 2199])  # two digits of a year up to 2049
def test_the_end_is_read_in_both_forms_of_a_date(year):
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([])
    end = dt.datetime(year, 12, 31, 23, 59, 58, tzinfo=dt.UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 7)
    builder = builder.not_valid_before(dt.datetime(1950, 1, 1, tzinfo=dt.UTC)).not_valid_after(end)
    made = pem(builder.sign(key, hashes.SHA256()))
    assert validity(made) == (-631152000, int(end.timestamp()))


@given(st.binary(max_size=300), st.integers(0, 2000), st.booleans())
def test_whatever_stands_there_instead_is_refused_in_one_line(noise, place, keep):
    from base64 import b64encode

    body = noise if keep else b"0\x82\x01\x00" * (place % 7) + noise
    text = b"-----BEGIN CERTIFICATE-----\n" + b64encode(body) + b"\n-----END CERTIFICATE-----\n"
    for damaged in (text, text[:place], noise):
        with pytest.raises(InvalidInput) as refused:
            validity(damaged)
        assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", ["ca.pem", "cert.pem", "key.pem"])
def test_a_missing_file_is_named_with_the_remedy(folder, name):
    (folder / name).unlink()
    with pytest.raises(InvalidInput, match=rf"{name}: No such file.*tinyfleet ca issue"):
        TlsFolder(folder).read()


@pytest.mark.parametrize("mode", [0o604, 0o660, 0o644, 0o777])
def test_a_key_that_others_can_read_is_refused(folder, mode):
    (folder / "key.pem").chmod(mode)
    with pytest.raises(InvalidInput, match=r"others can read the private key.*chmod 600"):
        TlsFolder(folder).read()


def test_keys_are_written_for_their_owner_alone(folder, authority):
    assert (folder / "key.pem").stat().st_mode & 0o777 == 0o600
    assert (authority.folder / "ca.key").stat().st_mode & 0o777 == 0o600


def test_an_expired_certificate_is_refused_before_it_is_shown(folder):
    end = TlsFolder(folder).read().expires_s
    assert TlsFolder(folder, now=lambda: end - 1).read()
    with pytest.raises(InvalidInput, match=r"expired on .* UTC: issue a new one"):
        TlsFolder(folder, now=lambda: end).read()


def test_a_new_certificate_is_read_without_a_restart(folder, authority):
    reader = TlsFolder(folder)
    before = reader.read()
    assert reader.read() is before
    authority.issue_folder(PI, folder)
    after = reader.read()
    assert after.certificate != before.certificate
    assert after.key != before.key


def test_a_file_without_end_is_not_read(folder):
    os.truncate(folder / "cert.pem", 10_000_000)
    with pytest.raises(InvalidInput, match="more than"):
        TlsFolder(folder).read()
