"""The coordinator's settings."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from services.hosting.settings import ServiceSettings
from tinyfleet.config import (
    ADDRESS,
    check_address,
    check_listen_address,
    check_optional_address,
    setting,
)


@dataclass(frozen=True, kw_only=True)
class CoordinatorSettings(ServiceSettings):
    """Of the times, the first two are all there is to set; the rest follows from them."""

    listen: str = setting(
        "127.0.0.1:7310",
        help="address to listen on, loopback without --tls; port 0 takes a free one",
        check=check_listen_address,
        metavar=ADDRESS,
    )
    aggregator: str = setting(
        "127.0.0.1:7311", help="address of the aggregator", check=check_address, metavar=ADDRESS
    )
    metrics: str = setting(
        "127.0.0.1:7312",
        help="address of the metrics service to report to; empty: none",
        check=check_optional_address,
        metavar=ADDRESS,
    )
    advertised_aggregator: str = setting(
        "",
        help="address of the aggregator that agents are told; empty: the same",
        check=check_optional_address,
        metavar=ADDRESS,
    )
    advertised_metrics: str = setting(
        "",
        help="address of the metrics service that agents are told; empty: the same",
        check=check_optional_address,
        metavar=ADDRESS,
    )
    heartbeat_s: float = setting(
        15.0,
        help="agents give a sign of life this often; three missing ones and they are lost, seconds",
        low=0.1,
        high=3600,
        metavar="SECONDS",
    )
    round_deadline_s: float = setting(
        60.0,
        help="after this long, a slot is also given to a second agent if one is idle, seconds",
        low=0.1,
        high=604800,
        metavar="SECONDS",
    )
    max_agents: int = setting(
        10_000, help="most agents that are remembered, attached or not", low=1, high=1_000_000
    )
    ca: Path | None = setting(
        None,
        help="folder of the site's authority, to sign for agents that join; needs --tls",
        metavar="FOLDER",
    )
    enrol_listen: str = setting(
        "127.0.0.1:7313",
        help="address to listen on for agents that join by token; used with --ca only",
        check=check_listen_address,
        metavar=ADDRESS,
    )
    max_runs: int = setting(100, help="most runs that go on at the same time", low=1, high=10_000)
