"""Lets in whom the table of roles lets in, within limits, and has it noted.

Without TLS the callers are processes of this machine, whoever they are: nothing is checked then.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import AsyncIterator
from contextvars import ContextVar
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import grpc

if TYPE_CHECKING:  # it loads what reads certificates, which a server without TLS does without
    from services.hosting.revocation import Revocations

from services.hosting.audit import OK, REFUSED, Audit
from services.hosting.errors import Forbidden
from services.hosting.limits import Limiter, Limits
from services.hosting.messages import bounded, each_message, only_message
from tinyfleet.errors import one_line
from tinyfleet.security.bearer import AGENT, Bearer, bearer_of
from tinyfleet.security.roles import CHANGES, MAY_CALL

ANSWERED = "tinyfleet-answered"  # MUST match tinyfleet/client.py: the service said it, not gRPC
LOOK_EVERY_S = 1.0
_NAMES = "x509_subject_alternative_name"


class _Call(NamedTuple):
    """A call that goes on, and where to note what becomes of it."""

    audit: Audit
    who: str
    method: str


_CALL: ContextVar[_Call | None] = ContextVar("call", default=None)


def caller(context: Any) -> Bearer | None:
    """Who calls, by its certificate; None without TLS, or when the certificate is nobody's."""
    names = context.auth_context().get(_NAMES)
    return _bearer(tuple(names)) if names else None


def check_acts_as(context: Any, name: str, deed: str) -> None:
    """Raise Forbidden unless the caller may do something in the name of an agent or service.

    deed: what, for the message: "submit for". Without TLS anybody may.
    """
    bearer = caller(context)
    if bearer is not None and not bearer.may_act_as(name):
        raise Forbidden(
            f"{bearer} may not {deed} '{one_line(name)}': its certificate does not name that one"
        )


def note_refusal(what: str) -> None:
    """Have the audit log say that a part of the call that is going on was refused."""
    call = _CALL.get()
    if call is not None:
        call.audit.note(call.who, call.method, REFUSED, what)


class AccessControl(grpc.aio.ServerInterceptor):
    """Stands before every handler of a server that uses TLS."""

    def __init__(
        self, audit: Audit, revocations: Revocations, limits: Limits | None = None
    ) -> None:
        self._audit = audit
        self._revocations = revocations
        self._limiter = Limiter(limits or Limits())
        self._open: dict[asyncio.Task[Any], bytes] = {}  # and the certificate, PEM, of its caller
        self._ended: set[asyncio.Task[Any]] = set()

    async def end_revoked(self) -> None:
        """Look for revocations every second, and end the open calls of their bearers; for ever."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            if self._revocations.look():
                for task, certificate in list(self._open.items()):
                    if self._revocations.is_revoked(certificate):
                        self._ended.add(task)
                        task.cancel()

    async def intercept_service(self, continuation: Any, details: Any) -> Any:
        handler = await continuation(details)
        if handler is None:
            return None
        requests, responses = _count(handler.request_streaming), _count(handler.response_streaming)
        method = getattr(handler, f"{requests}_{responses}")
        wrap = self._stream if inspect.isasyncgenfunction(method) else self._coroutine
        read = each_message if handler.request_streaming else only_message
        # gRPC reads the one message before it asks the handler, but those of streams after that.
        return getattr(grpc, f"stream_{responses}_rpc_method_handler")(
            wrap(details.method, method, read),
            request_deserializer=bounded(handler.request_deserializer),
            response_serializer=handler.response_serializer,
        )

    def _coroutine(self, name: str, method: Any, read: Any) -> Any:
        async def call(requests: Any, context: Any) -> Any:
            async with self._admitted(name, context):
                return await method(await read(requests), context)

        return call

    def _stream(self, name: str, method: Any, read: Any) -> Any:
        async def call(requests: Any, context: Any) -> Any:
            async with self._admitted(name, context):
                async for response in method(await read(requests), context):
                    yield response

        return call

    @contextlib.asynccontextmanager
    async def _admitted(self, name: str, context: Any) -> AsyncIterator[None]:
        """Around a call; ends it at once when its caller may not make it."""
        bearer = await self._admit(name, context)
        who = str(bearer)
        _CALL.set(_Call(self._audit, who, _short(name)))
        if name in CHANGES:
            self._note(who, name, OK)
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a handler is run by one
        self._open[task] = certificate_of(context)
        try:
            yield
        except Forbidden as error:
            self._note(who, name, REFUSED, str(error))
            raise
        except asyncio.CancelledError:
            if task not in self._ended:
                raise
            task.uncancel()
            await self._refuse(bearer, name, *_revoked(bearer), context)
        finally:
            del self._open[task]
            self._ended.discard(task)
            if bearer.role == AGENT:
                self._limiter.end(who)

    async def _admit(self, name: str, context: Any) -> Bearer:
        """Who calls; ends the call when that one may not. Only agents are limited in number."""
        bearer, allowed = caller(context), MAY_CALL.get(name, frozenset())
        if bearer is None:
            status, text = grpc.StatusCode.UNAUTHENTICATED, "the certificate is nobody's of a fleet"
        elif self._revocations.is_revoked(certificate_of(context)):
            status, text = _revoked(bearer)
        elif bearer.role not in allowed:
            status = grpc.StatusCode.PERMISSION_DENIED
            text = f"{bearer} may not call {_short(name)}: that is for {_listed(allowed)}"
        elif bearer.role == AGENT and (reason := self._limiter.begin(str(bearer))):
            status, text = grpc.StatusCode.RESOURCE_EXHAUSTED, f"{bearer}: {reason}"
        else:
            return bearer
        await self._refuse(bearer or context.peer(), name, status, text, context)
        raise AssertionError  # it does not come back

    async def _refuse(
        self, who: object, name: str, status: grpc.StatusCode, text: str, context: Any
    ) -> None:
        self._note(str(who), name, REFUSED, text)
        await context.abort(status, text, ((ANSWERED, "1"),))

    def _note(self, who: str, name: str, outcome: str, what: str = "") -> None:
        self._audit.note(who, _short(name), outcome, what)


def certificate_of(context: Any) -> bytes:
    """The caller's certificate, PEM."""
    return bytes(context.auth_context()["x509_pem_cert"][0])


def _revoked(bearer: Bearer) -> tuple[grpc.StatusCode, str]:
    return grpc.StatusCode.UNAUTHENTICATED, f"the certificate of {bearer} is revoked"


@lru_cache(maxsize=4096)
def _bearer(names: tuple[bytes, ...]) -> Bearer | None:
    return bearer_of(name.decode("ascii", "replace") for name in names)


def _short(method: str) -> str:
    """`CreateRun` for `/tinyfleet.v1.CoordinatorService/CreateRun`."""
    return method.rpartition("/")[2]


def _listed(roles: frozenset[str]) -> str:
    return " and ".join(f"{role}s" for role in sorted(roles)) or "nobody"


def _count(streaming: bool) -> str:
    return "stream" if streaming else "unary"
