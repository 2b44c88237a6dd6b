"""The settings of the aggregator."""

from __future__ import annotations

from dataclasses import dataclass

from services.hosting.settings import ServiceSettings
from tinyfleet.config import ADDRESS, check_listen_address, check_optional_address, setting


@dataclass(frozen=True, kw_only=True)
class AggregatorSettings(ServiceSettings):
    """Settings of `tinyfleet-aggregator`. The defaults are our choice."""

    listen: str = setting(
        "127.0.0.1:7311",
        help="address to listen on, loopback without --tls; port 0 takes a free one",
        check=check_listen_address,
        metavar=ADDRESS,
    )
    metrics: str = setting(
        "127.0.0.1:7312",
        help="address of the metrics service to report to; empty: none",
        check=check_optional_address,
        metavar=ADDRESS,
    )
    snapshot_rounds: int = setting(
        256, help="rounds after which a run's model is stored anew", low=1, high=1_000_000
    )
    snapshot_bytes: int = setting(
        4 * 1024 * 1024,
        help="bytes of updates after which a run's model is stored anew",
        low=1,
        high=1 << 40,
    )
    stored_files: int = setting(
        256, help="most files for runs, such as extractors, that are kept", low=0, high=1_000_000
    )
    stored_bytes: int = setting(
        1024**3, help="most bytes that those files have together", low=0, high=1 << 40
    )
