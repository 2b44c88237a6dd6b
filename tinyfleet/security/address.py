"""What may be reached without TLS: this machine and nothing else."""

from __future__ import annotations

import ipaddress
from pathlib import Path

from tinyfleet.errors import InvalidInput


def check_plaintext(service: str, address: str) -> None:
    """Raise InvalidInput unless `address`, host:port, is on this machine."""
    host = address.rpartition(":")[0]
    if not is_loopback(host):
        raise InvalidInput(
            f"refusing to reach the {service} at '{host[:80]}' without TLS: give --tls FOLDER "
            "with a certificate, from 'tinyfleet ca issue' or 'tinyfleet agent join'"
        )


def check_exposed(host: str, tls: Path | None) -> None:
    """Raise InvalidInput when a server on `host` could be reached without TLS from elsewhere."""
    if tls is None and not is_loopback(host):
        raise InvalidInput(
            f"refusing to listen on '{host}' without TLS: give --tls FOLDER with a certificate, or "
            "use 127.0.0.1, ::1 or localhost"
        )


def is_loopback(host: str) -> bool:
    """Whether `host`, in brackets or not, is this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
