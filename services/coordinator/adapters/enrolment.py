"""Lets new agents in: signs a request for a token, or for a certificate that is still good."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

import grpc

from services.hosting.access import ANSWERED, caller
from services.hosting.audit import OK, REFUSED, Audit
from services.hosting.credentials import ServerCredentials
from services.hosting.errors import Forbidden, Occupied
from services.hosting.limits import Limiter, Limits
from services.hosting.translation import ErrorTranslator
from tinyfleet.errors import InvalidInput
from tinyfleet.logs import fields
from tinyfleet.security.authority import Authority, pem
from tinyfleet.security.requests import read_request
from tinyfleet.security.tokens import TokenRefused, Tokens
from tinyfleet.v1 import enrolment_pb2, enrolment_pb2_grpc

MAX_MESSAGE_BYTES = 16 * 1024
# Of all callers together: a token is used once, so a fleet of hundreds joins within minutes.
LIMITS = Limits(open_calls=16, rate=5.0, burst=50.0)
_EVERYBODY = "everybody"

log = logging.getLogger("enrolment")


class Enrolment(enrolment_pb2_grpc.EnrolmentServiceServicer):
    """Serves `Enrol` on a port of its own, where callers have no certificate yet."""

    def __init__(self, ca: Path, tls: Path, listen: str, audit: Path) -> None:
        """Raises InvalidInput when a folder will not do."""
        self._ca = ca
        Authority.open(ca)  # anew for each certificate: its key may have been replaced
        self._tokens = Tokens(ca)
        self._credentials = ServerCredentials(tls, "coordinator", ask=False)
        self._listen = listen
        self._audit_path = audit
        self._limiter = Limiter(LIMITS)
        self._server: grpc.aio.Server | None = None
        self._audit: Audit | None = None

    async def start(self) -> None:
        """Listen. Raises Occupied when the address is taken."""
        self._audit = Audit(self._audit_path)
        server = grpc.aio.server(
            interceptors=[ErrorTranslator()],
            options=[
                ("grpc.so_reuseport", 0),
                ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
                ("grpc.max_concurrent_streams", 16),
            ],
        )
        enrolment_pb2_grpc.add_EnrolmentServiceServicer_to_server(self, server)
        try:
            port = server.add_secure_port(self._listen, self._credentials.make())
        except RuntimeError:
            raise Occupied(
                f"cannot listen on {self._listen}: choose another --enrol-listen"
            ) from None
        await server.start()
        self._server = server
        address = f"{self._listen.rpartition(':')[0]}:{port}"
        log.info("enrolling", extra=fields(address=address))

    async def stop(self) -> None:
        """End it; may be started again."""
        server, self._server = self._server, None
        audit, self._audit = self._audit, None
        if server is not None:
            await server.stop(1.0)
        if audit is not None:
            audit.close()

    def register_renewal(self, server: grpc.aio.Server) -> None:
        """Serve `Renew` on the coordinator's own server."""
        renewal = Renewal(self._ca)
        enrolment_pb2_grpc.add_RenewalServiceServicer_to_server(renewal, server)

    async def Enrol(  # noqa: N802 - the contract's name
        self, request: enrolment_pb2.EnrolRequest, context: Any
    ) -> enrolment_pb2.EnrolResponse:
        """A certificate for a token."""
        if reason := self._limiter.begin(_EVERYBODY):
            trailer = ((ANSWERED, "1"),)
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, reason, trailer)
        try:
            return await asyncio.to_thread(self._enrol, request, context.peer())
        finally:
            self._limiter.end(_EVERYBODY)

    def _enrol(self, request: enrolment_pb2.EnrolRequest, peer: str) -> enrolment_pb2.EnrolResponse:
        try:
            name, key = read_request(request.request)
            bearer = self._tokens.take(request.secret, name)
        except (TokenRefused, InvalidInput) as error:
            self._note(peer, REFUSED, str(error))
            raise Forbidden(
                "this token does not open: it is used, expired, or for another name; ask for a new "
                "one from 'tinyfleet ca token'"
            ) from None
        authority = Authority.open(self._ca)
        certificate = authority.issue(bearer, key)
        self._note(peer, OK, f"{bearer} has certificate {certificate.serial_number:x}")
        return enrolment_pb2.EnrolResponse(
            certificate=pem(certificate),
            ca=authority.trusted,
            name=bearer.name,
        )

    def _note(self, peer: str, outcome: str, what: str) -> None:
        if self._audit is not None:
            self._audit.note(peer, "Enrol", outcome, what)


class Renewal(enrolment_pb2_grpc.RenewalServiceServicer):
    """Serves `Renew` beside the coordinator's own service."""

    def __init__(self, ca: Path) -> None:
        self._ca = ca

    async def Renew(  # noqa: N802 - the contract's name
        self, request: enrolment_pb2.RenewRequest, context: Any
    ) -> enrolment_pb2.RenewResponse:
        """The next certificate of whoever calls."""
        bearer = caller(context)
        if bearer is None:
            raise Forbidden("only a bearer of a certificate can renew it: use --tls")
        _, key = read_request(request.request)
        authority = Authority.open(self._ca)
        certificate = await asyncio.to_thread(authority.issue, bearer, key)
        serial = f"{certificate.serial_number:x}"
        log.info("certificate renewed", extra=fields(bearer=bearer, serial=serial))
        return enrolment_pb2.RenewResponse(certificate=pem(certificate), ca=authority.trusted)
