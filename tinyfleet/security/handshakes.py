"""What a failed TLS handshake means, said by its remedy; gRPC tells it in words of its library."""

from __future__ import annotations

from pathlib import Path

# All that gRPC tells of a peer that closes: `diagnosed` finds out more.
HUNG_UP = "it hung up: with --tls, it refuses our certificate; without, it wants TLS: give --tls"

# In order: the first whose words are all there counts. The words are BoringSSL's and gRPC's.
_CAUSES: tuple[tuple[tuple[str, ...], str], ...] = (
    (
        ("WRONG_VERSION_NUMBER",),
        "it speaks without TLS: start it with --tls FOLDER, or leave --tls out here",
    ),
    (
        ("CERTIFICATE_VERIFY_FAILED", "expired"),
        "its certificate has expired: issue a new one for it, or set this machine's clock",
    ),
    (
        ("CERTIFICATE_VERIFY_FAILED", "not yet valid"),
        "its certificate is not valid yet: set the clock of this machine or of its",
    ),
    (
        ("CERTIFICATE_VERIFY_FAILED",),
        "its certificate is from an authority that ca.pem here does not name: is it of this site?",
    ),
    (
        ("Hostname Verification Check failed",),
        "its certificate is that of another service: correct the address",
    ),
    (
        ("failed to connect", "Socket closed"),
        HUNG_UP,
    ),
)


def explained(details: str) -> str | None:
    """The cause in one line; None when `details` of a call tell of no failed handshake."""
    for words, cause in _CAUSES:
        if all(word in details for word in words):
            return cause
    return None


def diagnosed(details: str, address: str, tls: Path | None) -> str | None:
    """The same, and for a peer that hung up what a look at `address` tells, in 4 s at most.

    tls: the folder that was used.
    """
    cause = explained(details)
    if cause != HUNG_UP:
        return cause
    from tinyfleet.security.probing import probed  # 4 MB of OpenSSL, for whoever fails

    return probed(address, tls) or cause
