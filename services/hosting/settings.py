"""The settings that every service has."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tinyfleet.config import ADDRESS, check_listen_address, setting
from tinyfleet.exposition.serving import HELP, check_scrape_address
from tinyfleet.logs import FORMATS, LEVELS


@dataclass(frozen=True, kw_only=True)
class ServiceSettings:
    """Base of each service's settings class."""

    listen: str = setting(
        help="address to listen on, loopback without --tls; port 0 takes a free one",
        check=check_listen_address,
        metavar=ADDRESS,
    )
    state: Path = setting(
        Path("state"), help="folder of the database, created if missing", metavar="FOLDER"
    )
    storage: str = setting("sqlite", help="where state is kept", choices=("sqlite", "memory"))
    port_file: Path | None = setting(
        None,
        help="file to write the address to once the service accepts connections",
        metavar="FILE",
    )
    tls: Path | None = setting(
        None,
        help="folder with the certificate of this process: ca.pem, cert.pem, key.pem; without one "
        "only this machine is listened to and reached",
        metavar="FOLDER",
    )
    drain_s: float = setting(
        5.0,
        help="longest wait for open calls when stopping, seconds",
        low=0,
        high=600,
        metavar="SECONDS",
    )
    prometheus: str = setting("", help=HELP, check=check_scrape_address, metavar=ADDRESS)
    log_level: str = setting("info", help="lowest level that is logged", choices=LEVELS)
    log_format: str = setting("text", help="how log lines look", choices=FORMATS)
