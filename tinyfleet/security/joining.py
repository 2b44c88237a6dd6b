"""How a machine gets its certificate: the first for a token, the next for the one it has.

The key is made here and never leaves. Run as a program, it renews: agents start it so, because it
needs `cryptography`, which an agent that runs does without.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from tinyfleet.errors import InvalidInput, Refused, TinyFleetError, Unreachable
from tinyfleet.security.authority import new_key, write_folder
from tinyfleet.security.bearer import internal_host
from tinyfleet.security.channels import channel
from tinyfleet.security.folder import KEY
from tinyfleet.security.handshakes import HUNG_UP, diagnosed, explained
from tinyfleet.security.requests import make_request
from tinyfleet.security.tokens import read_token
from tinyfleet.v1 import enrolment_pb2, enrolment_pb2_grpc

CALL_S = 20.0
_OPTIONS = (("grpc.enable_http_proxy", 0),)
_NAME = (("grpc.ssl_target_name_override", internal_host("coordinator")),)


def join(enrol: str, token: str, name: str, folder: Path) -> str:
    """Get a certificate for `token` from the listener at `enrol`, host:port, into `folder`.

    name: who is asking, empty for whom the token is; gives that name. Raises InvalidInput,
    Refused, Unreachable.
    """
    secret, ca = read_token(token)
    if (folder / KEY).exists():
        raise InvalidInput(f"there is a key in {folder} already: choose another --out")
    key = new_key()
    request = enrolment_pb2.EnrolRequest(secret=secret, request=make_request(key, name))
    trust = grpc.ssl_channel_credentials(_pem(ca))
    with grpc.secure_channel(enrol, trust, options=(*_OPTIONS, *_NAME)) as opened:
        try:
            answer = enrolment_pb2_grpc.EnrolmentServiceStub(opened).Enrol(request, timeout=CALL_S)
        except grpc.RpcError as error:
            raise _not_enrolled(error, enrol) from None
    write_folder(folder, key, answer.certificate, answer.ca)
    return str(answer.name)


def renew(coordinator: str, folder: Path) -> None:
    """Replace the certificate in `folder` by a new one with the same names, for a new key."""
    key = new_key()
    request = enrolment_pb2.RenewRequest(request=make_request(key))
    with channel(coordinator, "coordinator", folder, _OPTIONS) as opened:
        try:
            answer = enrolment_pb2_grpc.RenewalServiceStub(opened).Renew(request, timeout=CALL_S)
        except grpc.RpcError as error:
            raise _translated(error, coordinator, folder) from None
    write_folder(folder, key, answer.certificate, answer.ca)


def main() -> None:
    """Renew the certificate in a folder; exits with 1 and one line when that does not work."""
    parser = argparse.ArgumentParser(description="Renew the certificate in a folder.")
    parser.add_argument("--coordinator", required=True, metavar="HOST:PORT")
    parser.add_argument("--tls", required=True, type=Path, metavar="FOLDER")
    chosen = parser.parse_args()
    try:
        renew(chosen.coordinator, chosen.tls)
    except TinyFleetError as error:
        sys.exit(str(error))


def _pem(der: bytes) -> bytes:
    try:
        return x509.load_der_x509_certificate(der).public_bytes(serialization.Encoding.PEM)
    except ValueError:
        raise InvalidInput("the token is damaged: copy all of it") from None


def _not_enrolled(error: grpc.RpcError, address: str) -> TinyFleetError:
    if explained(error.details() or "") == HUNG_UP:
        return Refused(
            f"whoever is at {address} asks for a certificate already: name with --enrol where the "
            "coordinator takes tokens (its --enrol-listen)"
        )
    return _translated(error, address, None)


def _translated(error: grpc.RpcError, address: str, tls: Path | None) -> TinyFleetError:
    details = error.details() or ""
    if (cause := diagnosed(details, address, tls)) is not None:
        return Refused(f"coordinator at {address}: {cause}")
    if error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
        return Unreachable(
            f"nobody enrols at {address}: start the coordinator with --ca, or name another address"
        )
    if error.code() is grpc.StatusCode.UNIMPLEMENTED:
        return Refused(f"the coordinator at {address} signs nothing: start it with --ca")
    return Refused(f"coordinator: {details}")


if __name__ == "__main__":
    main()
