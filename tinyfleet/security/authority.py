"""The site's certificate authority: a folder with its key, and what it issued.

`ca.pem` and `ca.key`, and `issued.jsonl` with one line for every certificate. Keys are P-256
(our choice: every TLS library has it, and a Pi signs in under a millisecond); certificates follow
RFC 5280. Needs the extra [tls].
"""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tinyfleet.errors import InvalidInput
from tinyfleet.files import write_whole
from tinyfleet.security.bearer import OPERATOR, SERVICE, Bearer, internal_hosts
from tinyfleet.security.folder import CA, CERTIFICATE, KEY, REVOKED

CA_KEY, ISSUED = "ca.key", "issued.jsonl"
CA_DAYS = 3650  # our choice: a site outlives a few Pis
DAYS = 90  # our choice: so long is a lost card of use to its finder, unless it is revoked
MAX_HOSTS = 32
_SKEW = dt.timedelta(minutes=10)  # clocks of Pis that have just booted

Key = ec.EllipticCurvePrivateKey


class Authority:
    """An authority that can sign; `create` makes one, `open` reads one."""

    def __init__(self, folder: Path, key: Key, certificate: x509.Certificate) -> None:
        self.folder = folder
        self._key = key
        self.certificate = certificate

    @classmethod
    def create(cls, folder: Path, site: str, days: int = CA_DAYS) -> Authority:
        """A new authority in `folder`; raises InvalidInput when there is one already."""
        if (folder / CA_KEY).exists() or (folder / CA).exists():
            raise InvalidInput(f"there is an authority in {folder} already: choose another --ca")
        key = new_key()
        certificate = _own_certificate(key, site, days)
        with _named_folder(folder):
            write_whole(folder / CA_KEY, key_pem(key), mode=0o600)
            write_whole(folder / CA, pem(certificate))
        return cls(folder, key, certificate)

    @classmethod
    def open(cls, folder: Path) -> Authority:
        """The authority in `folder`; raises InvalidInput when there is none."""
        try:
            key = serialization.load_pem_private_key((folder / CA_KEY).read_bytes(), None)
            certificates = x509.load_pem_x509_certificates((folder / CA).read_bytes())
        except OSError as error:
            raise InvalidInput(
                f"no authority in {folder} ({error.strerror}): make one with 'tinyfleet ca init'"
            ) from None
        except (ValueError, TypeError) as error:
            raise InvalidInput(f"the authority in {folder} is damaged: {error}") from None
        if not isinstance(key, Key):
            raise InvalidInput(f"{folder / CA_KEY} holds no P-256 key")
        for certificate in certificates:
            if certificate.public_key() == key.public_key():
                return cls(folder, key, certificate)
        raise InvalidInput(f"{folder / CA_KEY} belongs to none of the certificates in {CA}")

    @property
    def trusted(self) -> bytes:
        """The certificates that members of the site trust, PEM."""
        return (self.folder / CA).read_bytes()

    @property
    def der(self) -> bytes:
        """Its own certificate, DER."""
        return self.certificate.public_bytes(serialization.Encoding.DER)

    def issue(
        self,
        bearer: Bearer,
        public_key: ec.EllipticCurvePublicKey,
        hosts: Sequence[str] = (),
        days: float = DAYS,
    ) -> x509.Certificate:
        """A certificate for `bearer`, noted in the register before it is given out.

        hosts: further host names of a service. days: how long it lives; a negative number makes
        one that has expired, for tests.
        """
        now = dt.datetime.now(dt.UTC)
        end = min(now + dt.timedelta(days=days), self.certificate.not_valid_after_utc)
        certificate = (
            _builder(bearer.name, self.certificate.subject, public_key)
            .not_valid_before(min(now, end) - _SKEW)
            .not_valid_after(end)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=False), critical=True)
            .add_extension(_purposes(bearer), critical=False)
            .add_extension(_names(bearer, hosts), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()),
                critical=False,
            )
            .sign(self._key, hashes.SHA256())
        )
        self._note(bearer, certificate)
        return certificate

    def issue_folder(
        self, bearer: Bearer, out: Path, hosts: Sequence[str] = (), days: float = DAYS
    ) -> x509.Certificate:
        """A new key and its certificate, with what to trust, as files in `out`."""
        key = new_key()
        certificate = self.issue(bearer, key.public_key(), hosts, days)
        write_folder(out, key, pem(certificate), self.trusted)
        return certificate

    def check_issued(self, certificate: x509.Certificate) -> None:
        """Raise InvalidInput, what is wrong with it, unless the site trusts the certificate."""
        if certificate.serial_number in self._revoked():
            raise InvalidInput("is revoked: issue a new one")
        for trusted in x509.load_pem_x509_certificates(self.trusted):
            with contextlib.suppress(ValueError, TypeError, InvalidSignature):
                certificate.verify_directly_issued_by(trusted)
                return
        raise InvalidInput(
            f"is not from the authority in {self.folder}: name another --ca, or issue a new one"
        )

    def revoke(self, who: str) -> list[str]:
        """Revoke the certificates of a name, or the one of a serial number; gives their serials.

        Rewrites `revoked.pem`. Raises InvalidInput when nothing was issued to such a one.
        """
        found = [one for one in self._issued() if who in (one["serial"], one["name"])]
        if not found:
            raise InvalidInput(f"nothing was issued to '{who[:80]}': see {self.folder / ISSUED}")
        if len({one["role"] for one in found}) > 1:
            raise InvalidInput(f"'{who}' has several roles: name a serial of {ISSUED}")
        serials = {int(one["serial"], 16) for one in found} | self._revoked()
        with _named_folder(self.folder):
            write_whole(self.folder / REVOKED, self._list(serials))
        return [one["serial"] for one in found]

    def rotate(self) -> None:
        """Sign with a new key from now on; the certificates of the old one are still trusted."""
        attributes = self.certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        key = new_key()
        certificate = _own_certificate(key, str(attributes[0].value), CA_DAYS)
        serials = self._revoked()
        with _named_folder(self.folder):
            write_whole(self.folder / CA, pem(certificate) + pem(self.certificate))
            write_whole(self.folder / CA_KEY, key_pem(key), mode=0o600)
        self._key, self.certificate = key, certificate
        if serials:
            with _named_folder(self.folder):
                write_whole(self.folder / REVOKED, self._list(serials))

    def finish_rotation(self) -> None:
        """Trust the certificate of the present key alone."""
        with _named_folder(self.folder):
            write_whole(self.folder / CA, pem(self.certificate))

    def _issued(self) -> list[dict[str, Any]]:
        path = self.folder / ISSUED
        try:
            return [json.loads(line) for line in path.read_text("utf-8").splitlines()]
        except FileNotFoundError:
            return []
        except (OSError, ValueError) as error:
            raise InvalidInput(f"cannot read {path}: {error}") from None

    def _revoked(self) -> set[int]:
        path = self.folder / REVOKED
        if not path.exists():
            return set()
        try:
            return {one.serial_number for one in x509.load_pem_x509_crl(path.read_bytes())}
        except (OSError, ValueError) as error:
            raise InvalidInput(f"cannot read {path}: {error}") from None

    def _list(self, serials: set[int]) -> bytes:
        now = dt.datetime.now(dt.UTC)
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.certificate.subject)
            .last_update(now)
            .next_update(now + dt.timedelta(days=CA_DAYS))
        )
        for serial in sorted(serials):
            entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now)
            builder = builder.add_revoked_certificate(entry.build())
        signed = builder.sign(self._key, hashes.SHA256())
        return signed.public_bytes(serialization.Encoding.PEM)

    def _note(self, bearer: Bearer, certificate: x509.Certificate) -> None:
        entry = {
            "serial": f"{certificate.serial_number:x}",
            "role": bearer.role,
            "name": bearer.name,
            "also": list(bearer.also),
            "not_after": certificate.not_valid_after_utc.isoformat(),
        }
        with _named_folder(self.folder), (self.folder / ISSUED).open("a", encoding="utf-8") as file:
            file.write(f"{json.dumps(entry)}\n")
            file.flush()
            os.fsync(file.fileno())


def new_key() -> Key:
    """A fresh private key."""
    return ec.generate_private_key(ec.SECP256R1())


def key_pem(key: Key) -> bytes:
    """A private key as it is written to a file."""
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def pem(certificate: x509.Certificate) -> bytes:
    """A certificate as it is written to a file."""
    return certificate.public_bytes(serialization.Encoding.PEM)


def write_folder(out: Path, key: Key, certificate: bytes, ca: bytes) -> None:
    """The files that `tinyfleet.security.folder` reads; the key is for its owner alone.

    Written by root, they belong to whom the folder belongs to.
    """
    with _named_folder(out):
        write_whole(out / KEY, key_pem(key), mode=0o600)
        write_whole(out / CERTIFICATE, certificate)
        write_whole(out / CA, ca)
        owner = out.stat()
        if os.geteuid() == 0 and owner.st_uid != 0:
            for name in (KEY, CERTIFICATE, CA):
                os.chown(out / name, owner.st_uid, owner.st_gid)


def _own_certificate(key: Key, site: str, days: int) -> x509.Certificate:
    now = dt.datetime.now(dt.UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, site)])
    return (
        _builder(site, subject, key.public_key())
        .not_valid_before(now - _SKEW)
        .not_valid_after(now + dt.timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .sign(key, hashes.SHA256())
    )


def _builder(
    name: str, issuer: x509.Name, public_key: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    try:
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    except ValueError as error:
        raise InvalidInput(f"'{name[:80]}' is no name for a certificate: {error}") from None
    identifier = x509.SubjectKeyIdentifier.from_public_key(public_key)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .add_extension(identifier, critical=False)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _purposes(bearer: Bearer) -> x509.ExtendedKeyUsage:
    """Everybody dials; services are dialled, and agents that predict."""
    purposes = [ExtendedKeyUsageOID.CLIENT_AUTH]
    if bearer.role != OPERATOR:
        purposes.append(ExtendedKeyUsageOID.SERVER_AUTH)
    return x509.ExtendedKeyUsage(purposes)


def _names(bearer: Bearer, hosts: Sequence[str]) -> x509.SubjectAlternativeName:
    names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(uri) for uri in bearer.uris]
    if hosts and bearer.role != SERVICE:
        raise InvalidInput(f"only services have host names, not the {bearer}")
    if len(hosts) > MAX_HOSTS:
        raise InvalidInput(f"a certificate has at most {MAX_HOSTS} host names")
    try:
        names += [x509.DNSName(host) for host in (*internal_hosts(bearer), *hosts)]
    except ValueError as error:
        raise InvalidInput(f"no host name: {error}") from None
    return x509.SubjectAlternativeName(names)


class _named_folder:  # noqa: N801 - reads like contextlib's
    """Raises what the file system refuses as InvalidInput that names the folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, OSError):
            raise InvalidInput(f"cannot write to {self._folder}: {error.strerror}") from None
