"""What a server shows and asks for: its certificate, and one of its site from every caller.

The files are looked at with every handshake: a certificate that was renewed, or an authority that
is new, counts from the next connection on.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import grpc

from tinyfleet.errors import InvalidInput
from tinyfleet.logs import fields
from tinyfleet.security.bearer import Bearer, bearer_of
from tinyfleet.security.folder import Material, TlsFolder

_NAMES = "x509_subject_alternative_name"

log = logging.getLogger("tls")

Check = Callable[[Material], None]
"""check(material) raises InvalidInput unless the server can be who it is with these files."""


class FolderCredentials:
    """The credentials of a server, from a folder of its own."""

    def __init__(self, folder: Path, check: Check, *, ask: bool = True) -> None:
        """ask: for a certificate of the caller's, which then has to be of this site.

        Raises InvalidInput when the files will not do.
        """
        self._ask = ask
        self._folder = TlsFolder(folder)
        self._check = check
        self._used = self._folder.read()
        self._check(self._used)
        self._complaint = ""

    def make(self) -> grpc.ServerCredentials:
        """Credentials that follow the files."""
        return grpc.dynamic_ssl_server_credentials(
            _configuration(self._used),
            self._changed,  # type: ignore[arg-type]  # None is what gRPC documents for no change
            require_client_authentication=self._ask,
        )

    def _changed(self) -> grpc.ServerCertificateConfiguration | None:
        """Called by gRPC with every handshake, in a thread of its own; None: go on as before."""
        try:
            fresh = self._folder.read()
            if fresh is self._used:
                return None
            self._check(fresh)
        except InvalidInput as error:
            self._complain(str(error))
            return None
        self._used, self._complaint = fresh, ""
        log.info("certificate read anew", extra=fields(folder=self._folder.path))
        return _configuration(fresh)

    def _complain(self, reason: str) -> None:
        if reason != self._complaint:
            log.error(
                "certificate not usable, going on with the one before", extra=fields(reason=reason)
            )
        self._complaint = reason


def caller_of(authentication: dict[str, list[bytes]]) -> Bearer | None:
    """Who calls, by what gRPC tells of its certificate; None when it is nobody's of a fleet."""
    names = authentication.get(_NAMES) or ()
    return bearer_of(name.decode("ascii", "replace") for name in names)


def _configuration(material: Material) -> grpc.ServerCertificateConfiguration:
    pair = (material.key, material.certificate)
    return grpc.ssl_server_certificate_configuration([pair], material.ca)
