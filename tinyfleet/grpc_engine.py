"""Which of gRPC's two input/output engines the processes of a fleet use.

By default gRPC's EventEngine hands each message through two threads of its own before Python
sees it. Its other engine polls in the thread that Python waits in. For the small messages of a
round that is a tenth to a seventh less time, and half the context switches (decision 0007).
"""

from __future__ import annotations

import os
import re
from collections.abc import MutableMapping, Sequence

_WITHOUT_EVENT_ENGINE = ",".join(
    f"-{name}"
    for name in (
        "event_engine_client",
        "event_engine_listener",
        "event_engine_for_all_other_endpoints",
    )
)

# Where a service may be told its folder of certificates, as a program and as a ROS node.
_MAY_NAME_TLS = {"--tls", "tls:", "--config", "--params-file"}
_VARIABLE = re.compile(r"TINYFLEET_[A-Z]+_(TLS|CONFIG)")


def choose_engine() -> None:
    """Choose the polling engine, unless GRPC_EXPERIMENTS says otherwise. Call it before grpc loads.

    A release of gRPC that no longer has the choice ignores it.
    """
    os.environ.setdefault("GRPC_EXPERIMENTS", _WITHOUT_EVENT_ENGINE)


def choose_verbosity(arguments: Sequence[str], environment: MutableMapping[str, str]) -> None:
    """Choose what gRPC logs, unless GRPC_VERBOSITY says so. Call it before grpc loads.

    Nothing at all, as it reaches us as errors too; but for a server that may use TLS, which hears
    of failed handshakes in no other way (services/hosting/handshakes.py). That is long before the
    settings are read, so it goes by where they may come from.
    """
    told = any(word.partition("=")[0] in _MAY_NAME_TLS for word in arguments)
    told |= any(_VARIABLE.fullmatch(name) for name in environment)
    if not told:
        environment.setdefault("GRPC_VERBOSITY", "NONE")
