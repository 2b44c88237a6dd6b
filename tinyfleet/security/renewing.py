"""Renews certificates in place, by whoever has the authority: those of services and operators.

Agents renew theirs by themselves, see `tinyfleet.security.joining`. Needs the extra [tls].
"""

from __future__ import annotations

from pathlib import Path

from cryptography import x509

from tinyfleet.errors import InvalidInput
from tinyfleet.security.authority import Authority
from tinyfleet.security.bearer import Bearer, bearer_of, internal_hosts
from tinyfleet.security.folder import CERTIFICATE


def renew_folder(
    authority: Authority, folder: Path, days: float
) -> tuple[Bearer, x509.Certificate]:
    """Replace key and certificate in `folder` by new ones for the same bearer, names and hosts.

    days: how long the new one lives. What it trusts becomes what the authority's folder says now.
    Raises InvalidInput when there is none, or it is not one of this site's.
    """
    old = _certificate_in(folder)
    try:
        authority.check_issued(old)
    except InvalidInput as error:
        raise InvalidInput(f"the certificate in {folder} {error}") from None
    uris, hosts = _names_of(old)
    bearer = bearer_of(uris)
    if bearer is None:
        raise InvalidInput(f"the certificate in {folder} is nobody's of a fleet: issue a new one")
    own = internal_hosts(bearer)
    further = [host for host in hosts if host not in own]
    return bearer, authority.issue_folder(bearer, folder, further, days)


def _certificate_in(folder: Path) -> x509.Certificate:
    path = folder / CERTIFICATE
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except OSError as error:
        raise InvalidInput(f"cannot read {path}: {error.strerror}") from None
    except ValueError:
        raise InvalidInput(f"{path} is no certificate: issue a new one") from None


def _names_of(certificate: x509.Certificate) -> tuple[list[str], list[str]]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return [], []
    return (
        names.get_values_for_type(x509.UniformResourceIdentifier),
        names.get_values_for_type(x509.DNSName),
    )
