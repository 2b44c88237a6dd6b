"""The settings of the metrics service."""

from __future__ import annotations

from dataclasses import dataclass

from services.hosting.settings import ServiceSettings
from tinyfleet.config import ADDRESS, check_listen_address, setting


@dataclass(frozen=True, kw_only=True)
class MetricsSettings(ServiceSettings):
    """Where the metrics service listens and how much it keeps."""

    listen: str = setting(
        "127.0.0.1:7312",
        help="address to listen on, loopback without --tls; port 0 takes a free one",
        check=check_listen_address,
        metavar=ADDRESS,
    )
    keep_days: float = setting(
        30.0,
        help="samples measured longer ago are deleted, days",
        low=0.01,
        high=36500,
        metavar="DAYS",
    )
    max_rows: int = setting(
        10_000_000,
        help="most samples kept, the oldest go first; one takes about 70 bytes on disk",
        low=1000,
        high=1_000_000_000,
    )
