"""Who a certificate is for: a role and a name, written as a URI.

    tinyfleet://agent/pi-1   tinyfleet://operator/desk   tinyfleet://service/coordinator

A certificate has one such URI, and one more of the same role for every name it may use besides.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from tinyfleet.errors import InvalidInput, one_line

AGENT, OPERATOR, SERVICE = "agent", "operator", "service"
ROLES = (AGENT, OPERATOR, SERVICE)
SERVICES = ("coordinator", "aggregator", "metrics")
MAX_ALSO = 32  # our choice: names that a bearer has besides its own
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_SCHEME = "tinyfleet://"


@dataclass(frozen=True)
class Bearer:
    """Who bears a certificate. also: further names that it may use."""

    role: str
    name: str
    also: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.role} {self.name}"

    @property
    def uris(self) -> tuple[str, ...]:
        """Its names as the certificate has them, its own first."""
        return tuple(f"{_SCHEME}{self.role}/{name}" for name in (self.name, *self.also))

    def may_act_as(self, name: str) -> bool:
        """Whether `name` is its own, one it has besides, or begins with its own and a dot."""
        return name in (self.name, *self.also) or name.startswith(f"{self.name}.")


def checked_bearer(role: str, name: str, also: Iterable[str] = ()) -> Bearer:
    """The bearer; raises InvalidInput when it can have no certificate."""
    bearer = Bearer(role, name, tuple(also))
    if role not in ROLES:
        raise InvalidInput(f"a role is one of {', '.join(ROLES)}, got '{one_line(role)}'")
    if role == SERVICE and name not in SERVICES:
        raise InvalidInput(f"a service is one of {', '.join(SERVICES)}, got '{one_line(name)}'")
    if role != AGENT and bearer.also:
        raise InvalidInput(f"only agents have further names, not the {bearer}")
    if len(bearer.also) > MAX_ALSO:
        raise InvalidInput(f"a bearer has at most {MAX_ALSO} further names")
    for one in (name, *bearer.also):
        if not _NAME.fullmatch(one):
            raise InvalidInput(
                f"a name has 1 to 64 letters, digits, '.', '_', '-', got '{one_line(one)}'"
            )
    return bearer


def bearer_of(uris: Iterable[str]) -> Bearer | None:
    """Whom a certificate with these names is for; None when it is nobody's of a fleet."""
    ours = [uri.removeprefix(_SCHEME).split("/") for uri in uris if uri.startswith(_SCHEME)]
    if not ours or any(len(parts) != 2 or parts[0] != ours[0][0] for parts in ours):
        return None
    names = [name for _, name in ours]
    try:
        return checked_bearer(ours[0][0], names[0], names[1:])
    except InvalidInput:
        return None


def internal_host(service: str) -> str:
    """The host name that a service's certificate has, wherever the service runs."""
    return f"{service}.tinyfleet.internal"


def internal_hosts(bearer: Bearer) -> tuple[str, ...]:
    """The host names of a bearer that is dialled: of a service, or of an agent that predicts.

    An agent has two, so that a caller may take any agent of the site, or that one alone.
    """
    if bearer.role == SERVICE:
        return (internal_host(bearer.name),)
    if bearer.role == AGENT:
        return internal_host(AGENT), internal_host(f"{bearer.name}.{AGENT}")
    return ()
