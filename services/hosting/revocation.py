"""Which certificates count no longer: `revoked.pem` beside a service's own, if it is there.

A list (RFC 5280, CRL) that one of the authorities in `ca.pem` has signed, as `tinyfleet ca revoke`
writes it. Looked at once a second. One that is damaged or gone changes nothing: what was revoked
stays so.
"""

from __future__ import annotations

import logging
from functools import lru_cache
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from tinyfleet.errors import InvalidInput
from tinyfleet.logs import fields
from tinyfleet.security.folder import CA, REVOKED

log = logging.getLogger("tls")


class Revocations:
    """The serial numbers that are revoked, as of the last look."""

    def __init__(self, tls: Path) -> None:
        """Raises InvalidInput when there is a list and it will not do."""
        self._tls = tls
        self._serials: frozenset[int] = frozenset()
        self._stamp: tuple[int, int] | None = None
        self._read(self._now())

    def is_revoked(self, certificate: bytes) -> bool:
        """Whether the certificate, PEM, is revoked."""
        return bool(self._serials) and serial_of(certificate) in self._serials

    def look(self) -> bool:
        """Read the list if it has changed; whether it has."""
        stamp = self._now()
        if stamp == self._stamp or stamp is None:
            return False
        try:
            self._read(stamp)
        except InvalidInput as error:
            self._stamp = stamp
            log.error("list of revoked certificates not usable", extra=fields(reason=error))
            return False
        log.info("certificates revoked", extra=fields(count=len(self._serials)))
        return True

    def _now(self) -> tuple[int, int] | None:
        try:
            about = (self._tls / REVOKED).stat()
        except OSError:
            return None
        return about.st_mtime_ns, about.st_ino

    def _read(self, stamp: tuple[int, int] | None) -> None:
        if stamp is not None:
            self._serials = _serials(self._tls)
        self._stamp = stamp


def _serials(tls: Path) -> frozenset[int]:
    try:
        revoked = x509.load_pem_x509_crl((tls / REVOKED).read_bytes())
        trusted = x509.load_pem_x509_certificates((tls / CA).read_bytes())
    except (OSError, ValueError) as error:
        raise InvalidInput(f"{tls / REVOKED}: {error}") from None
    keys = [one.public_key() for one in trusted]
    ours = [key for key in keys if isinstance(key, ec.EllipticCurvePublicKey)]
    if not any(revoked.is_signature_valid(key) for key in ours):
        raise InvalidInput(f"{tls / REVOKED} is not signed by an authority in {CA}")
    return frozenset(entry.serial_number for entry in revoked)


@lru_cache(maxsize=4096)
def serial_of(certificate: bytes) -> int:
    """The serial number of a certificate, PEM."""
    return x509.load_pem_x509_certificate(certificate).serial_number
