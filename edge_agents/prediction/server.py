"""The one port that an agent may open: it answers with the model that it has adapted.

Nothing is served there unless the setting `predict` names an address. On loopback anybody of this
machine may ask; over TLS, which every other address needs, operators and the agent itself.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import grpc

from edge_agents.prediction.answering import MAX_INPUT_BYTES, MAX_WAITING, Answering
from edge_agents.prediction.personal import Personal
from edge_agents.prediction.servicer import PredictionServicer
from edge_agents.settings import AgentSettings
from tinyfleet.errors import InvalidInput
from tinyfleet.logs import fields
from tinyfleet.security.bearer import AGENT, internal_host
from tinyfleet.security.folder import Material
from tinyfleet.security.serving import FolderCredentials
from tinyfleet.v1 import prediction_pb2_grpc

GRACE_S = 1.0  # our choice: for the questions that are open when the agent stops
NO_MODEL = (
    "this agent has no model of its own yet: it has one once it has trained a round since it began"
)
NO_MODEL_OF_BOARDS = (
    "this agent leaves training to its boards, and what a board has adapted stays on the board: "
    "start the agent without --no-host-training to have a model here"
)
_OPTIONS = [
    ("grpc.so_reuseport", 0),
    ("grpc.max_receive_message_length", 2 * MAX_INPUT_BYTES),  # what is over ours gets our words
    ("grpc.max_concurrent_streams", 2 * MAX_WAITING),
    ("grpc.http2.bdp_probe", 0),  # its pings would cost more than small questions
]

log = logging.getLogger("prediction")


@contextlib.asynccontextmanager
async def predicting(
    settings: AgentSettings, personal: Personal
) -> AsyncIterator[PredictionServicer]:
    """Answer questions at `settings.predict`, host:port, meanwhile.

    Raises InvalidInput when it cannot listen there.
    """
    tls = settings.tls
    answering = Answering(personal, NO_MODEL_OF_BOARDS if settings.no_host_training else NO_MODEL)
    servicer = PredictionServicer(answering, settings.name, with_tls=tls is not None)
    server = grpc.aio.server(options=_OPTIONS, maximum_concurrent_rpcs=2 * MAX_WAITING)
    prediction_pb2_grpc.add_PredictionServiceServicer_to_server(servicer, server)
    address = _bind(server, settings.predict, tls)
    await server.start()
    log.info("answering with this agent's model", extra=fields(address=address, tls=bool(tls)))
    try:
        yield servicer
    finally:
        await server.stop(GRACE_S)


def _bind(server: grpc.aio.Server, address: str, tls: Path | None) -> str:
    try:
        if tls is None:
            port = server.add_insecure_port(address)
        else:
            port = server.add_secure_port(address, _credentials(tls))
    except RuntimeError:
        port = 0
    if not port:
        raise InvalidInput(
            f"cannot listen on {address}: the port is taken; choose another --predict"
        )
    return f"{address.rpartition(':')[0]}:{port}"


def _credentials(tls: Path) -> grpc.ServerCredentials:
    return FolderCredentials(tls, lambda material: _check_dialled(material, tls)).make()


def _check_dialled(material: Material, tls: Path) -> None:
    """Raise InvalidInput unless callers would take the certificate for an agent's.

    The name stands in the certificate as it is, see RFC 5280, 4.2.1.6.
    """
    if internal_host(AGENT).encode() not in material.der:
        raise InvalidInput(
            f"the certificate in {tls} is not one to predict with: it is no agent's, or older than "
            "that; issue a new one with 'tinyfleet ca issue agent NAME', or join again"
        )
