"""A folder with a certificate: `ca.pem`, `cert.pem` and `key.pem`, as `tinyfleet ca issue` writes.

Read again whenever a file has changed, so that a new certificate needs no restart. Of X.509 only
a certificate's validity is read here; the rest is gRPC's.
"""

from __future__ import annotations

import base64
import binascii
import calendar
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from tinyfleet.errors import InvalidInput

CA, CERTIFICATE, KEY, REVOKED = "ca.pem", "cert.pem", "key.pem", "revoked.pem"
MAX_FILE_BYTES = 256 * 1024  # our choice: a chain has a few kilobytes
_BEGIN, _END = b"-----BEGIN CERTIFICATE-----", b"-----END CERTIFICATE-----"
_SEQUENCE, _CONTEXT_0, _UTC_TIME = 0x30, 0xA0, 0x17


class Material(NamedTuple):
    """What the files hold, PEM. ca: whom to trust.

    begins_s, expires_s: when the certificate counts, seconds since 1970.
    """

    ca: bytes
    certificate: bytes
    key: bytes
    begins_s: int
    expires_s: int

    @property
    def der(self) -> bytes:
        """The first certificate, DER."""
        return der_of(self.certificate)


class TlsFolder:
    """A process's own certificate, its key, and the certificates of those it trusts."""

    def __init__(self, path: Path, now: Callable[[], float] = time.time) -> None:
        self.path = path
        self._now = now
        self._stamp: tuple[tuple[int, int], ...] = ()
        self._material: Material | None = None

    def stamp(self) -> tuple[tuple[int, int], ...]:
        """Changes when a file does; raises InvalidInput when one is missing."""
        return tuple(self._stamp_of(name) for name in (CA, CERTIFICATE, KEY))

    def read(self) -> Material:
        """The files as they are now; raises InvalidInput with the remedy when they will not do."""
        stamp = self.stamp()
        if self._material is None or stamp != self._stamp:
            self._material, self._stamp = self._load(), stamp
        self._check_expiry(self._material)
        return self._material

    def _load(self) -> Material:
        _check_private(self.path / KEY)
        ca, certificate, key = (self._bytes(name) for name in (CA, CERTIFICATE, KEY))
        if _BEGIN not in ca:
            raise InvalidInput(f"{self.path / CA} holds no certificate: copy the site's {CA} there")
        try:
            return Material(ca, certificate, key, *validity(certificate))
        except InvalidInput as error:
            raise InvalidInput(f"{self.path / CERTIFICATE}: {error}") from None

    def _check_expiry(self, material: Material) -> None:
        if self._now() >= material.expires_s:
            when = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(material.expires_s))
            raise InvalidInput(
                f"the certificate in {self.path} expired on {when}: issue a new one "
                "('tinyfleet ca issue'), or set this machine's clock if it is wrong"
            )

    def _stamp_of(self, name: str) -> tuple[int, int]:
        try:
            about = (self.path / name).stat()
        except OSError as error:
            raise _unreadable(self.path / name, error) from None
        return about.st_mtime_ns, about.st_ino

    def _bytes(self, name: str) -> bytes:
        try:
            with (self.path / name).open("rb") as file:
                data = file.read(MAX_FILE_BYTES + 1)
        except OSError as error:
            raise _unreadable(self.path / name, error) from None
        if len(data) > MAX_FILE_BYTES:
            raise InvalidInput(f"{self.path / name} has more than {MAX_FILE_BYTES} bytes")
        return data


def expiry(tls: Path | None) -> int | None:
    """When the certificate in the folder ends, seconds since 1970; None when that is unknown."""
    try:
        return None if tls is None else validity((tls / CERTIFICATE).read_bytes())[1]
    except (OSError, InvalidInput):
        return None


def validity(pem: bytes) -> tuple[int, int]:
    """When the first certificate of `pem` begins and ends, in seconds since 1970.

    Raises InvalidInput.
    """
    try:
        return _validity(der_of(pem))
    except (ValueError, IndexError, binascii.Error) as error:
        reason = error if isinstance(error, InvalidInput) else "it is no certificate"
        raise InvalidInput(str(reason)) from None


def der_of(pem: bytes) -> bytes:
    """The first certificate of `pem`; raises InvalidInput when there is none."""
    _, _, rest = pem.partition(_BEGIN)
    body, end, _ = rest.partition(_END)
    if not end:
        raise InvalidInput("it holds no certificate")
    return base64.b64decode(body)


def _validity(der: bytes) -> tuple[int, int]:
    """RFC 5280, 4.1: version (optional), serial, signature and issuer stand before validity."""
    certificate, _ = _element(der, _SEQUENCE)
    rest, _ = _element(certificate, _SEQUENCE)
    if rest[0] == _CONTEXT_0:
        _, rest = _element(rest)
    for _ in range(3):
        _, rest = _element(rest)
    both, _ = _element(rest, _SEQUENCE)
    _, after = _element(both)
    return _time(both), _time(after)


def _time(der: bytes) -> int:
    text, _ = _element(der)
    digits = text.decode("ascii")
    if der[0] == _UTC_TIME:  # two digits of the year, 1950 to 2049
        digits = ("19" if digits[:2] >= "50" else "20") + digits
    return calendar.timegm(time.strptime(digits, "%Y%m%d%H%M%SZ"))


def _element(der: bytes, tag: int | None = None) -> tuple[bytes, bytes]:
    """The content of the first DER element, and what follows it."""
    if tag is not None and der[0] != tag:
        raise ValueError(der[0])
    size, start = der[1], 2
    if size >= 0x80:
        start = 2 + (size & 0x7F)
        size = int.from_bytes(der[2:start], "big")
    if start + size > len(der):
        raise ValueError(size)
    return der[start : start + size], der[start + size :]


def _check_private(path: Path) -> None:
    """Raise InvalidInput when others could read the key.

    The group may where the file is root's: so a key is given to a process that is not root.
    """
    try:
        about = path.stat()
    except OSError as error:
        raise _unreadable(path, error) from None
    allowed = 0o640 if about.st_uid == 0 else 0o600
    mode = stat.S_IMODE(about.st_mode)
    if mode & 0o077 & ~allowed:
        raise InvalidInput(f"others can read the private key {path} (mode {mode:o}): chmod 600 it")


def _unreadable(path: Path, error: OSError) -> InvalidInput:
    return InvalidInput(
        f"cannot read {path}: {error.strerror}; 'tinyfleet ca issue' writes such a folder"
    )
