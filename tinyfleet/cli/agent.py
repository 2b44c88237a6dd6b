"""`tinyfleet agent`: what is done once on a machine that becomes an agent."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from tinyfleet.cli.console import examples, json_option, print_json
from tinyfleet.cli.options import checked_address
from tinyfleet.config import check_address
from tinyfleet.errors import InvalidInput
from tinyfleet.files import write_whole
from tinyfleet.security.joining import join as get_certificate

ENROL_PORT = 7313


@click.group("agent")
def command() -> None:
    """Make this machine an agent of a fleet."""


@command.command(
    "join",
    epilog=examples(
        "tinyfleet agent join 10.0.0.2:7310 tf1.kJq...",
        "tinyfleet agent join 10.0.0.2:7310 tf1.kJq... --out /etc/tinyfleet --start",
    ),
)
@click.argument("coordinator", callback=checked_address, metavar="HOST:PORT")
@click.argument("token")
@click.option("--name", default="", show_default=False, help="Join only if the token is for NAME.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("agent"),
    metavar="FOLDER",
    help="Where to write agent.toml and the folder tls.",
)
@click.option(
    "--enrol",
    default="",
    show_default=False,
    metavar="HOST:PORT",
    help=f"Where the coordinator takes tokens. [default: its host, port {ENROL_PORT}]",
)
@click.option("--start", is_flag=True, help="Then become the agent, in this process.")
@json_option
def join(
    coordinator: str, token: str, name: str, out: Path, enrol: str, start: bool, as_json: bool
) -> None:
    """Get this machine its certificate with the token of 'tinyfleet ca token', and configure it.

    The coordinator is verified by the token; the key is made here and stays here.
    """
    where = enrol or f"{coordinator.rpartition(':')[0]}:{ENROL_PORT}"
    check_address("--enrol", where)
    folder = out.absolute()
    named = get_certificate(where, token, name, folder / "tls")
    config = folder / "agent.toml"
    try:
        write_whole(config, _document(coordinator, named, folder / "tls").encode())
    except OSError as error:
        raise InvalidInput(f"cannot write {config}: {error.strerror}") from None
    words = [str(Path(sys.executable).parent / "tinyfleet-agent"), "--config", str(config)]
    if as_json:
        print_json({"name": named, "config": str(config), "command": words})
    else:
        print(f"joined as {named}; start the agent with:\n{' '.join(words)}")
    if start:
        sys.stdout.flush()
        os.execv(words[0], words)  # noqa: S606 - our own program


def _document(coordinator: str, name: str, tls: Path) -> str:
    """The agent's settings as TOML; its strings are JSON's for what can be in these."""
    values = {"coordinator": coordinator, "name": name, "tls": str(tls)}
    return "".join(f"{key} = {_quoted(value)}\n" for key, value in values.items())


def _quoted(text: str) -> str:
    if not text.isprintable():
        raise InvalidInput(f"a path with control characters cannot be configured: {text!a}")
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
