"""The program `tinyfleet-aggregator`: puts the parts together."""

from __future__ import annotations

from services.aggregator.adapters.memory import MemoryJournal
from services.aggregator.checkpoints import write_newest
from services.aggregator.files import Quota
from services.aggregator.keeper import Keeper, SnapshotPolicy
from services.aggregator.ports import Journal
from services.aggregator.servicer import AggregatorServicer
from services.aggregator.settings import AggregatorSettings
from services.hosting import server
from tinyfleet.telemetry_grpc import Reporter
from tinyfleet.v1 import aggregator_pb2, aggregator_pb2_grpc

NAME = aggregator_pb2.DESCRIPTOR.services_by_name["AggregatorService"].full_name
TELEMETRY_DRAIN_S = 1.0


def main() -> None:
    """Run the aggregator until it is told to stop."""
    server.main(
        "aggregator", "Keeps the models and applies the updates.", AggregatorSettings, build
    )


def node() -> None:
    """Entry point of `tinyfleet-aggregator-node`; needs rclpy."""
    from services.hosting.ros import host

    host("aggregator", AggregatorSettings, build, has_models=True)


def build(settings: AggregatorSettings) -> server.Service:
    """The aggregator as a service to host; called inside the event loop."""
    reporter = Reporter("aggregator", settings.metrics, tls=settings.tls)
    policy = SnapshotPolicy(settings.snapshot_rounds, settings.snapshot_bytes)
    quota = Quota(settings.stored_files, settings.stored_bytes)
    keeper = Keeper(_open_journal(settings), policy, reporter, quota)
    servicer = AggregatorServicer(keeper)

    async def close() -> None:
        await keeper.close()
        await reporter.close(TELEMETRY_DRAIN_S)

    return server.Service(
        names=[NAME],
        register=lambda grpc_server: aggregator_pb2_grpc.add_AggregatorServiceServicer_to_server(
            servicer, grpc_server
        ),
        start=keeper.start,
        close=close,
        drain=servicer.drain,
        report_health=keeper.report_storage_to,
        readings=keeper.readings,
        bearer="aggregator",
        checkpoint=lambda: write_newest(keeper, settings.state / "checkpoints"),
    )


def _open_journal(settings: AggregatorSettings) -> Journal:
    if settings.storage == "memory":
        return MemoryJournal()
    from services.aggregator.adapters.sql import open_journal

    return open_journal(settings.state)
