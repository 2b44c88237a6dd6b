"""The coordinator's process: wires the parts together."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc

from services.coordinator.adapters.aggregator_client import AggregatorClient
from services.coordinator.adapters.memory import MemoryStore
from services.coordinator.adapters.sql import open_store
from services.coordinator.coordinator import Coordinator
from services.coordinator.core import Rules
from services.coordinator.messages import spec_from_bytes
from services.coordinator.ports import Store
from services.coordinator.servicer import CoordinatorServicer
from services.coordinator.settings import CoordinatorSettings
from services.hosting import server
from services.hosting.grants import Grants, new_secret
from tinyfleet.errors import InvalidInput
from tinyfleet.telemetry_grpc import Reporter
from tinyfleet.v1.coordinator_pb2_grpc import add_CoordinatorServiceServicer_to_server

if TYPE_CHECKING:  # signing is loaded where it is wanted
    from services.coordinator.adapters.enrolment import Enrolment

RENEWAL = "tinyfleet.v1.RenewalService"
SERVICE = "tinyfleet.v1.CoordinatorService"
DRAIN_S = 2.0  # our choice: longest wait for the metrics service when stopping


def main() -> None:
    """Entry point of `tinyfleet-coordinator`."""
    server.main(
        "coordinator",
        "Runs the fleet: knows the agents, hands out the work of each round, keeps the runs.",
        CoordinatorSettings,
        build,
    )


def node() -> None:
    """Entry point of `tinyfleet-coordinator-node`; needs rclpy."""
    from services.hosting.ros import host

    host("coordinator", CoordinatorSettings, build)


def build(settings: CoordinatorSettings) -> server.Service:
    """The coordinator as a service to host. Called inside the event loop."""
    reporter = Reporter("coordinator", settings.metrics, tls=settings.tls)
    rules = Rules(settings.heartbeat_s, settings.round_deadline_s, settings.max_agents)
    store = _store(settings)
    grants = Grants(store.secret("grants", new_secret()))
    coordinator = Coordinator(
        store,
        AggregatorClient(settings.aggregator, grants, settings.tls),
        reporter,
        spec_from_bytes,
        rules,
        settings.max_runs,
    )
    servicer = CoordinatorServicer(
        coordinator,
        settings.advertised_aggregator or settings.aggregator,
        settings.advertised_metrics or settings.metrics,
        grants,
    )

    enrolment = _enrolment(settings)

    def register(grpc_server: grpc.aio.Server) -> None:
        add_CoordinatorServiceServicer_to_server(servicer, grpc_server)
        if enrolment is not None:
            enrolment.register_renewal(grpc_server)

    async def start() -> None:
        await coordinator.start()
        if enrolment is not None:
            await enrolment.start()

    async def drain() -> None:
        if enrolment is not None:
            await enrolment.stop()
        await coordinator.drain()

    async def close() -> None:
        await coordinator.close()
        await reporter.close(DRAIN_S)

    return server.Service(
        names=(SERVICE, RENEWAL) if settings.ca else (SERVICE,),
        register=register,
        start=start,
        drain=drain,
        close=close,
        readings=coordinator.readings,
        bearer="coordinator",
    )


def _enrolment(settings: CoordinatorSettings) -> Enrolment | None:
    """What lets new agents in, if it is wanted; raises InvalidInput when it cannot work."""
    if settings.ca is None:
        return None
    if settings.tls is None:
        raise InvalidInput("--ca is of use with TLS only: give --tls FOLDER as well")
    from services.coordinator.adapters.enrolment import Enrolment

    audit = settings.state / "audit-enrolment.jsonl"
    return Enrolment(settings.ca, settings.tls, settings.enrol_listen, audit)


def _store(settings: CoordinatorSettings) -> Store:
    return open_store(settings.state) if settings.storage == "sqlite" else MemoryStore()
