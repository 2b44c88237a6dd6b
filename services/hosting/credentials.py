"""What a server shows and asks for: its certificate, and one of its site from every caller.

The files are looked at with every handshake: a certificate that was renewed, or an authority that
is new, counts from the next connection on.
"""

from __future__ import annotations

import logging
from pathlib import Path

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from tinyfleet.errors import InvalidInput
from tinyfleet.logs import fields
from tinyfleet.security.bearer import SERVICE, Bearer, bearer_of
from tinyfleet.security.folder import Material, TlsFolder

log = logging.getLogger("tls")


class ServerCredentials:
    """The credentials of the service of that name, from a folder of its own."""

    def __init__(self, folder: Path, service: str, *, ask: bool = True) -> None:
        """ask: for a certificate of the caller's, which then has to be of this site.

        Raises InvalidInput when the files will not do, or are not this service's.
        """
        self._ask = ask
        self._folder = TlsFolder(folder)
        self._service = service
        self._used = self._read()
        self._complaint = ""

    def make(self) -> grpc.ServerCredentials:
        """Credentials that follow the files."""
        return grpc.dynamic_ssl_server_credentials(
            _configuration(self._used),
            self._changed,  # type: ignore[arg-type]  # None is what gRPC documents for no change
            require_client_authentication=self._ask,
        )

    def _read(self) -> Material:
        material = self._folder.read()
        check_service(material, self._service, self._folder.path)
        return material

    def _changed(self) -> grpc.ServerCertificateConfiguration | None:
        """Called by gRPC with every handshake, in a thread of its own; None: go on as before."""
        try:
            fresh = self._folder.read()
            if fresh is self._used:
                return None
            check_service(fresh, self._service, self._folder.path)
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


def check_service(material: Material, service: str, folder: Path) -> None:
    """Raise InvalidInput unless certificate and key belong together and are the service's."""
    try:
        certificate = x509.load_pem_x509_certificate(material.certificate)
        key = serialization.load_pem_private_key(material.key, None)
        x509.load_pem_x509_certificates(material.ca)
    except (ValueError, TypeError) as error:
        raise InvalidInput(f"{folder}: a file is damaged: {error}") from None
    if key.public_key() != certificate.public_key():
        raise InvalidInput(f"{folder}: key.pem is not the key of cert.pem")
    bearer = bearer_in(certificate)
    if bearer is None or (bearer.role, bearer.name) != (SERVICE, service):
        raise InvalidInput(
            f"{folder} holds a certificate of {bearer or 'nobody of a fleet'}, not of the service "
            f"{service}: 'tinyfleet ca issue service {service} --out FOLDER'"
        )


def bearer_in(certificate: x509.Certificate) -> Bearer | None:
    """Whose certificate it is."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return None
    return bearer_of(names.get_values_for_type(x509.UniformResourceIdentifier))


def _configuration(material: Material) -> grpc.ServerCertificateConfiguration:
    pair = (material.key, material.certificate)
    return grpc.ssl_server_certificate_configuration([pair], material.ca)
