"""The settings of the aggregator."""

from __future__ import annotations

from dataclasses import dataclass

from services.hosting.settings import ServiceSettings
from tinyfleet.config import setting


@dataclass(frozen=True, kw_only=True)
class AggregatorSettings(ServiceSettings):
    """Settings of `tinyfleet-aggregator`. The defaults are our choice."""

    listen: str = setting(
        "127.0.0.1:7311", help="address to listen on, host:port; port 0: a free one"
    )
    metrics: str = setting("", help="address of the metrics service to report to")
    snapshot_rounds: int = setting(
        256, help="rounds after which a run's model is stored anew", low=1, high=1_000_000
    )
    snapshot_bytes: int = setting(
        4 * 1024 * 1024,
        help="bytes of updates after which a run's model is stored anew",
        low=1,
        high=1 << 40,
    )
