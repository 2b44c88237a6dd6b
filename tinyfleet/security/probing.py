"""Why a peer hung up in the handshake: found out after a call has failed, as far as this side can.

A service that refuses a certificate closes the connection without a word. So this side looks
whether TLS is spoken there at all, and whether its own certificate is good by its own ca.pem, in a
handshake between two ends in memory. Run as a program, it prints the answer: agents start it so,
because they do without OpenSSL.
"""

from __future__ import annotations

import argparse
import contextlib
import socket
import ssl
import time
from pathlib import Path

from tinyfleet.errors import InvalidInput
from tinyfleet.security.folder import CA, CERTIFICATE, KEY, validity

CONNECT_S = 2.0  # longest wait to be connected, and again for the whole handshake
_FLIGHTS = 4  # of a handshake of TLS 1.3, and one to spare
_NOT_YET_VALID, _EXPIRED = 9, 10  # OpenSSL's codes: X509_V_ERR_CERT_NOT_YET_VALID, _HAS_EXPIRED


def probed(address: str, tls: Path | None) -> str | None:
    """The likely cause with its remedy, one line; None when there is no finding out.

    address: host:port of who hung up. tls: the folder that was used. Takes 4 s at most, and sends
    nothing but the beginning of a handshake.
    """
    speaks_tls = _speaks_tls(address)
    if speaks_tls is None:
        return None
    if not speaks_tls:
        return "it hung up, and does not speak TLS: is it a service? If not, name another address"
    if tls is None:
        return (
            "it wants TLS: give --tls FOLDER with a certificate of its site, from 'tinyfleet agent "
            "join' or 'tinyfleet ca issue'"
        )
    return _about_ours(tls)


def main() -> None:
    """Print what `probed` gives, or nothing."""
    parser = argparse.ArgumentParser(description="Say why a service hung up in the handshake.")
    parser.add_argument("address", metavar="HOST:PORT")
    parser.add_argument("--tls", type=Path, metavar="FOLDER")
    chosen = parser.parse_args()
    print(probed(chosen.address, chosen.tls) or "")  # noqa: T201 - that is what it is run for


def _speaks_tls(address: str) -> bool | None:
    """None: nobody answers now."""
    context = _unverified()
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), CONNECT_S) as plain:
            context.wrap_socket(plain).close()
    except ssl.SSLError:
        return False
    except (OSError, ValueError):
        return None
    return True


def _about_ours(tls: Path) -> str | None:
    try:
        problem = _problem_of(tls)
        _, until_s = validity((tls / CERTIFICATE).read_bytes())
    except (OSError, InvalidInput):
        return None
    until = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(until_s))
    return problem or (
        f"it refuses our certificate, which ca.pem here finds good until {until}: either it trusts "
        "another authority by now ('tinyfleet ca rotate'), then join again or issue a new one, or "
        "its clock is wrong"
    )


def _problem_of(tls: Path) -> str | None:
    """What is wrong with our certificate, in the eyes of a service with our ca.pem."""
    try:
        service = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        service.load_cert_chain(tls / CERTIFICATE, tls / KEY)
        service.load_verify_locations(tls / CA)
        service.verify_mode = ssl.CERT_REQUIRED
        ours = _unverified()
        ours.load_cert_chain(tls / CERTIFICATE, tls / KEY)
        _shake_hands(ours, service)
    except ssl.SSLCertVerificationError as error:
        return _said(error.verify_code)
    except ssl.SSLError as error:
        return f"the files in {tls} do not belong together ({error.reason}): join or issue again"
    return None


def _said(code: int) -> str:
    if code == _EXPIRED:
        return "our certificate has expired: issue a new one, or set this machine's clock"
    if code == _NOT_YET_VALID:
        return "our certificate is not valid yet: set this machine's clock"
    return (
        "our certificate is from an authority that ca.pem beside it does not name: join again, or "
        "issue a new one"
    )


def _shake_hands(ours: ssl.SSLContext, service: ssl.SSLContext) -> None:
    """A whole handshake in memory; raises ssl.SSLError."""
    to_service, to_us = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (
        ours.wrap_bio(to_us, to_service),
        service.wrap_bio(to_service, to_us, server_side=True),
    )
    for _ in range(_FLIGHTS):
        for end in ends:
            with contextlib.suppress(ssl.SSLWantReadError):
                end.do_handshake()


def _unverified() -> ssl.SSLContext:
    """For handshakes that only look: nothing is said after them."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    return context


if __name__ == "__main__":
    main()
