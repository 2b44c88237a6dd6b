"""The process `tinyfleet-metrics`: wires store, collector and RPCs."""

from __future__ import annotations

import time

import grpc

from services.hosting import server
from services.hosting.server import Service
from services.metrics.adapters.memory import MemoryStore
from services.metrics.collector import Collector, Keep
from services.metrics.ports import MetricsStore
from services.metrics.servicer import MetricsServicer
from services.metrics.settings import MetricsSettings
from tinyfleet.v1 import metrics_pb2, metrics_pb2_grpc

DESCRIPTION = "Keeps what all processes of a fleet measure, and answers questions about it."


def main() -> None:
    """Entry point."""
    server.main("metrics", DESCRIPTION, MetricsSettings, build)


def node() -> None:
    """Entry point of `tinyfleet-metrics-node`; needs rclpy."""
    from services.hosting.ros import host

    host("metrics", MetricsSettings, build)


def build(settings: MetricsSettings) -> Service:
    """The service with its store open."""
    keep = Keep(settings.keep_days, settings.max_rows)
    collector = Collector(_store(settings), keep, time.time_ns)

    def register(target: grpc.aio.Server) -> None:
        servicer = MetricsServicer(collector, time.time_ns)
        metrics_pb2_grpc.add_MetricsServiceServicer_to_server(servicer, target)

    async def start() -> None:
        collector.start()

    return Service(
        names=[metrics_pb2.DESCRIPTOR.services_by_name["MetricsService"].full_name],
        register=register,
        start=start,
        close=collector.close,
        drain=collector.end_watches,
        report_health=collector.tell_health,
        readings=collector.readings,
        bearer="metrics",
    )


def _store(settings: MetricsSettings) -> MetricsStore:
    if settings.storage == "memory":
        return MemoryStore()
    from services.metrics.adapters.sql import open_store

    return open_store(settings.state)
