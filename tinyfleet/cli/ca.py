"""`tinyfleet ca`: the site's certificate authority, a folder that stays with the operator."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from tinyfleet.cli.console import examples, json_option, print_json, print_table
from tinyfleet.errors import InvalidInput
from tinyfleet.files import write_whole
from tinyfleet.security.authority import DAYS, Authority
from tinyfleet.security.bearer import AGENT, ROLES, checked_bearer
from tinyfleet.security.folder import CA, REVOKED
from tinyfleet.security.renewing import renew_folder
from tinyfleet.security.tokens import Tokens, token_text

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
        "tinyfleet ca issue operator desk --out ~/.tinyfleet/tls",
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


@command.command(
    "renew",
    epilog=examples(
        "tinyfleet ca renew tls/coordinator tls/aggregator tls/metrics ~/.tinyfleet/tls",
    ),
)
@click.argument(
    "folders",
    nargs=-1,
    required=True,
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    metavar="FOLDER...",
)
@click.option(
    "--days", type=click.FloatRange(0, 3650, min_open=True), default=DAYS, help="Valid so long."
)
@_ca_option
@json_option
def renew(folders: tuple[Path, ...], days: float, folder: Path, as_json: bool) -> None:
    """Replace certificates and keys by new ones of the same bearers, where they are.

    Services that run use the new one with the next connection. Agents renew theirs themselves.
    """
    authority, entries = Authority.open(folder), []
    for one in folders:
        bearer, certificate = renew_folder(authority, one, days)
        entries.append(
            {
                "bearer": str(bearer),
                "folder": str(one),
                "not_after": _date(certificate),
                "serial": f"{certificate.serial_number:x}",
            }
        )
    if as_json:
        print_json({"renewed": entries})
    else:
        print_table(("bearer", "folder", "not after"), [list(e.values())[:3] for e in entries])


@command.command(
    "token",
    epilog=examples(
        "tinyfleet ca token pi-1",
        "tinyfleet ca token pi-1 --also board-1 --valid-h 1",
    ),
)
@click.argument("name")
@click.option("--also", multiple=True, metavar="NAME", help="A further name of the agent.")
@click.option(
    "--valid-h",
    type=click.FloatRange(0, 24 * 365, min_open=True),
    default=24.0,
    metavar="HOURS",
    help="How long it may be used.",
)
@_ca_option
@json_option
def token(name: str, also: tuple[str, ...], valid_h: float, folder: Path, as_json: bool) -> None:
    """Make a token with which one agent joins, once: see 'tinyfleet agent join'.

    The coordinator takes it when it was started with --ca and this folder.
    """
    bearer = checked_bearer(AGENT, name, also)
    authority = Authority.open(folder)
    text = token_text(Tokens(folder).make(bearer, 3600.0 * valid_h), authority.der)
    if as_json:
        print_json({"name": name, "token": text})
    else:
        print(text)


_to_option = click.option(
    "--to",
    multiple=True,
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    metavar="FOLDER",
    help="Folder of a service's certificate to copy the result to; may be given again.",
)


@command.command("revoke", epilog=examples("tinyfleet ca revoke pi-1 --to tls/coordinator"))
@click.argument("who", metavar="NAME|SERIAL")
@_to_option
@_ca_option
@json_option
def revoke(who: str, to: tuple[Path, ...], folder: Path, as_json: bool) -> None:
    """Let the certificates of NAME count no longer.

    Writes revoked.pem. Services that have it beside their certificate end the streams of its bearer
    within seconds, and let it in no more.
    """
    serials = Authority.open(folder).revoke(who)
    _copy(folder / REVOKED, to)
    _say({"revoked": who, "serials": ", ".join(serials), "list": str(folder / REVOKED)}, as_json)


@command.command("rotate", epilog=examples("tinyfleet ca rotate --to tls/coordinator"))
@click.option("--finish", is_flag=True, help="Trust the old certificates no longer.")
@_to_option
@_ca_option
@json_option
def rotate(finish: bool, to: tuple[Path, ...], folder: Path, as_json: bool) -> None:
    """Replace the authority's key; what the old one signed stays good until --finish.

    Give all services the new ca.pem first, then let agents renew, then issue the services anew.
    """
    authority = Authority.open(folder)
    if finish:
        authority.finish_rotation()
    else:
        authority.rotate()
    _copy(folder / CA, to)
    if (folder / REVOKED).exists():
        _copy(folder / REVOKED, to)
    _say({"trusted": str(folder / CA), "not_after": _date(authority.certificate)}, as_json)


def _copy(file: Path, folders: tuple[Path, ...]) -> None:
    for folder in folders:
        try:
            write_whole(folder / file.name, file.read_bytes())
        except OSError as error:
            raise InvalidInput(f"cannot write to {folder}: {error.strerror}") from None


def _say(entry: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(entry)
        return
    for key, value in entry.items():
        print(f"{key.replace('_', ' ')}: {value}")


def _date(certificate: Any) -> str:
    return str(certificate.not_valid_after_utc.strftime("%Y-%m-%d %H:%M UTC"))
