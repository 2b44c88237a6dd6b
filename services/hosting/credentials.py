"""What a service shows and asks for: the certificate of its own name; reads X.509."""

from __future__ import annotations

from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from tinyfleet.errors import InvalidInput
from tinyfleet.security.bearer import SERVICE, Bearer, bearer_of
from tinyfleet.security.folder import Material
from tinyfleet.security.serving import FolderCredentials


class ServerCredentials(FolderCredentials):
    """The credentials of the service of that name, from a folder of its own."""

    def __init__(self, folder: Path, service: str, *, ask: bool = True) -> None:
        """ask: for a certificate of the caller's, which then has to be of this site.

        Raises InvalidInput when the files will not do, or are not this service's.
        """
        super().__init__(folder, lambda material: check_service(material, service, folder), ask=ask)


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
