"""The settings of an agent, checked before anything is opened."""

from __future__ import annotations

import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from edge_agents.device_url import NAME, NAME_RULE, check_device, parse_device
from tinyfleet.config import (
    ADDRESS,
    Sources,
    check_address,
    check_optional_listen_address,
    load_settings,
    setting,
)
from tinyfleet.errors import InvalidInput
from tinyfleet.exposition.serving import HELP, check_scrape_address
from tinyfleet.logs import FORMATS, LEVELS
from tinyfleet.security.address import check_exposed, check_plaintext
from tinyfleet.security.folder import TlsFolder
from tinyfleet.tasks.holders import MAX_HOLDERS

DESCRIPTION = "An edge agent: attends a coordinator, trains on this device, delivers updates."
EXIT_CODES = (
    "Exit codes: 0 stopped, 1 internal error, 2 a setting is wrong, 3 no coordinator for "
    "--give-up-s, 4 another process has this name."
)
DATA_VARIABLE = "TINYFLEET_DATA"


@dataclass(frozen=True, kw_only=True)
class AgentSettings:
    """What an agent can be told."""

    coordinator: str = setting(
        "127.0.0.1:7310", help="address of the coordinator", check=check_address, metavar=ADDRESS
    )
    tls: Path | None = setting(
        None,
        help="folder with the certificate of this process: ca.pem, cert.pem, key.pem; without one "
        "only this machine is reached",
        metavar="FOLDER",
    )
    name: str = setting(
        "",
        help="name in the fleet, letters, digits, '.', '_', '-'; empty: the host's",
        metavar="NAME",
    )
    data: Path | None = setting(
        None, help=f"file or folder with the task's data; else the variable {DATA_VARIABLE}"
    )
    own_data: Path | None = setting(
        None,
        help="train on this .npz (arrays inputs, targets) instead of the task's samples",
        metavar="FILE",
    )
    models: Path | None = setting(
        None,
        help="folder for files that runs need, such as extractors; else tinyfleet/models in the "
        "user's cache",
        metavar="FOLDER",
    )
    holder: int = setting(
        0,
        help="train on the data of this holder alone, 1 to the run's holders; 0: on whatever the "
        "task draws, so that it does not matter who serves a slot",
        low=0,
        high=MAX_HOLDERS,
    )
    device: tuple[str, ...] = setting(
        (),
        help="an attached board that trains as an agent of its own; may be given again; "
        "?name= is its name in the fleet, ?samples=sensor lets it train on its own sensor",
        check=check_device,
        metavar="URL",
    )
    no_host_training: bool = setting(False, help="leave all training to the devices")
    engine: str = setting("auto", help="what trains", choices=("auto", "native", "reference"))
    reconnect_s: float = setting(
        5.0,
        help="longest pause between two attempts to connect, seconds",
        low=0.1,
        high=600,
        metavar="SECONDS",
    )
    give_up_s: float = setting(
        0.0,
        help="exit with 3 after so long without the coordinator, seconds; 0: never",
        low=0,
        metavar="SECONDS",
    )
    drain_s: float = setting(
        10.0,
        help="longest wait for trained work when stopping, seconds",
        low=0,
        high=600,
        metavar="SECONDS",
    )
    predict: str = setting(
        "",
        help="address to answer predictions on with the model that this agent has adapted, "
        "loopback without --tls; port 0 takes a free one; empty: none",
        check=check_optional_listen_address,
        metavar=ADDRESS,
    )
    prometheus: str = setting("", help=HELP, check=check_scrape_address, metavar=ADDRESS)
    alive_file: Path | None = setting(
        None,
        help="file to touch every 5 seconds while all is well, for whoever watches over the agent",
        metavar="FILE",
    )
    log_level: str = setting("info", help="lowest level that is logged", choices=LEVELS)
    log_format: str = setting("text", help="how log lines look", choices=FORMATS)


def load_agent_settings(sources: Sources) -> AgentSettings:
    """The settings with name and data filled in; raises InvalidInput with the remedy."""
    settings = load_settings(AgentSettings, "agent", DESCRIPTION, sources, EXIT_CODES)
    return completed(settings, sources.environment)


def completed(settings: AgentSettings, environment: Mapping[str, str]) -> AgentSettings:
    """The same with name and data filled in; raises InvalidInput when they do not go together."""
    settings = replace(
        settings,
        name=settings.name or _host_name(),
        data=settings.data or _data_of(environment),
    )
    if not NAME.fullmatch(settings.name):
        raise InvalidInput(f"name must be {NAME_RULE}, got '{settings.name[:80]}'")
    if settings.no_host_training and not settings.device:
        raise InvalidInput("with --no-host-training something else must train: give a --device")
    if settings.holder and settings.own_data is not None:
        raise InvalidInput("own data are all of this device: leave --holder or --own-data out")
    _check_names(settings)
    _check_tls(settings)
    if settings.data is not None and not settings.data.exists():
        raise InvalidInput(f"no data at {settings.data}: correct --data or {DATA_VARIABLE}")
    return settings


def _check_tls(settings: AgentSettings) -> None:
    """Raise InvalidInput when the agent cannot reach, or be reached, as these settings want it."""
    if settings.tls is None:
        check_plaintext("coordinator", settings.coordinator)
    else:
        TlsFolder(settings.tls).read()
    if settings.predict:
        check_exposed(settings.predict.rpartition(":")[0], settings.tls)


def _check_names(settings: AgentSettings) -> None:
    """Raise InvalidInput when two members would replace each other."""
    names = [] if settings.no_host_training else [settings.name]
    names += [parse_device("device", text).name for text in settings.device]
    for name in names:
        if name and names.count(name) > 1:
            raise InvalidInput(f"two members named '{name}': give each device a ?name= of its own")


def _host_name() -> str:
    """The host's name with what the contract does not allow turned to '-'."""
    return re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname())[:64] or "agent"


def _data_of(environment: Mapping[str, str]) -> Path | None:
    path = environment.get(DATA_VARIABLE)
    return Path(path) if path else None
