"""`tinyfleet ca`: the site's certificate authority, a folder that stays with the operator."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from tinyfleet.cli.console import examples, json_option, print_json
from tinyfleet.security.authority import DAYS, Authority
from tinyfleet.security.bearer import ROLES, checked_bearer

_ca_option = click.option(
    "--ca",
    "folder",
    type=click.Path(path_type=Path),
    default=Path("ca"),
    envvar="TINYFLEET_CA",
    show_envvar=True,
    metavar="FOLDER",
    help="Folder of the authority; whoever has it can let anybody in.",
)


@click.group("ca")
def command() -> None:
    """Let services, agents and operators prove who they are."""


@command.command("init")
@click.option("--site", default="tinyfleet", metavar="NAME", help="What the authority is called.")
@_ca_option
@json_option
def init(site: str, folder: Path, as_json: bool) -> None:
    """Make the authority of a site."""
    authority = Authority.create(folder, site)
    _say({"ca": str(folder), "not_after": _date(authority.certificate)}, as_json)


@command.command(
    "issue",
    epilog=examples(
        "tinyfleet ca issue service coordinator --out tls/coordinator",
        "tinyfleet ca issue operator anna --out ~/.tinyfleet/tls",
        "tinyfleet ca issue agent pi-1 --also board-1 --out tls/pi-1",
    ),
)
@click.argument("role", metavar="|".join(ROLES))
@click.argument("name")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    required=True,
    show_default=False,
    metavar="FOLDER",
    help="Where to write ca.pem, cert.pem and key.pem: what --tls takes.",
)
@click.option("--also", multiple=True, metavar="NAME", help="A further name of an agent.")
@click.option("--host", multiple=True, metavar="HOST", help="A further host name of a service.")
@click.option(
    "--days", type=click.FloatRange(0, 3650, min_open=True), default=DAYS, help="Valid so long."
)
@_ca_option
@json_option
def issue(
    role: str,
    name: str,
    out: Path,
    also: tuple[str, ...],
    host: tuple[str, ...],
    days: float,
    folder: Path,
    as_json: bool,
) -> None:
    """Make a key and its certificate for a service, an agent or an operator.

    An agent may speak for itself, for names that begin with its own and a dot, and for those given
    with --also. Services that run read a new certificate with the next connection.
    """
    bearer = checked_bearer(role, name, also)
    certificate = Authority.open(folder).issue_folder(bearer, out, host, days)
    entry = {"bearer": str(bearer), "folder": str(out), "not_after": _date(certificate)}
    _say({**entry, "serial": f"{certificate.serial_number:x}"}, as_json)


def _say(entry: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(entry)
        return
    for key, value in entry.items():
        print(f"{key.replace('_', ' ')}: {value}")


def _date(certificate: Any) -> str:
    return str(certificate.not_valid_after_utc.strftime("%Y-%m-%d %H:%M UTC"))
