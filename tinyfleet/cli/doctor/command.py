"""The command: which checks are made, and how what they find is shown."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import click

from tinyfleet.cli.console import examples, json_option, print_json, wrapped
from tinyfleet.cli.doctor.certificates import look_at_certificate
from tinyfleet.cli.doctor.finding import Finding, Level, ok
from tinyfleet.cli.doctor.fleet import (
    HERE,
    PORTS,
    NoAnswer,
    ask,
    look_at_agents,
    look_at_clock,
    look_at_ports,
    look_at_service,
)
from tinyfleet.cli.doctor.machine import (
    look_at_boards,
    look_at_data,
    look_at_installation,
    look_at_state,
)
from tinyfleet.cli.exits import ExitCode
from tinyfleet.cli.fleet_options import tls_option
from tinyfleet.cli.options import data_option
from tinyfleet.config import check_address

NONE = "none"
Command = Callable[..., Any]
_COLUMNS = 22  # of level and subject, before the message


def _checked(_context: click.Context, parameter: click.Parameter, text: str | None) -> str | None:
    if text not in (None, NONE):
        check_address(parameter.opts[0], str(text))
    return text


def _address_option(name: str, default: str) -> Callable[[Command], Command]:
    return click.option(
        f"--{name}",
        envvar=f"TINYFLEET_{name.upper()}",
        show_envvar=True,
        callback=_checked,
        metavar="HOST:PORT",
        help=f"Address of the {name}. [default: {default}]",
    )


@click.command(
    "doctor",
    epilog=examples(
        "tinyfleet doctor",
        "tinyfleet doctor --coordinator 10.0.0.5:7310 --metrics none",
        "tinyfleet doctor --coordinator 10.0.0.5:7310 --tls tls/desk",
        "tinyfleet doctor --state /var/lib/tinyfleet --json",
    ),
)
@_address_option("coordinator", "this machine's, if there is one")
@_address_option("aggregator", "the coordinator's host, port 7311; none: not checked")
@_address_option("metrics", "the coordinator's host, port 7312; none: not checked")
@click.option(
    "--state",
    "states",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="State folder of services here; may be repeated. [default: state, if it is there]",
)
@tls_option
@data_option
@json_option
def command(
    coordinator: str | None,
    aggregator: str | None,
    metrics: str | None,
    states: tuple[Path, ...],
    tls: Path | None,
    data: Path | None,
    as_json: bool,
) -> int:
    """Look for what is wrong, on this machine and with a fleet, and say what to do.

    Nothing is changed, no board is opened. Ends with 0 when no problem was found, with 4 when one
    was; a note is no problem.
    """
    findings = [
        *look_at_installation(),
        look_at_data(data),
        *(finding for state in states or _usual_states() for finding in look_at_state(state)),
        *look_at_boards(),
        *([look_at_certificate(tls)] if tls else []),
        *_look_at_fleet((coordinator, aggregator, metrics), tls),
    ]
    if as_json:
        _print_json(findings)
    else:
        _print(findings)
    problems = any(finding.level is Level.PROBLEM for finding in findings)
    return ExitCode.FAILED if problems else ExitCode.DONE


def _usual_states() -> Iterator[Path]:
    usual = Path("state")
    if usual.is_dir():
        yield usual


def _look_at_fleet(
    addresses: tuple[str | None, str | None, str | None], tls: Path | None
) -> Iterator[Finding]:
    coordinator, aggregator, metrics = addresses
    if coordinator is None and not _is_here(tls):
        yield ok("fleet", "no coordinator on this machine; --coordinator HOST:PORT checks another")
        yield from look_at_ports()
        return
    address = coordinator or f"{HERE}:{PORTS['coordinator']}"
    host = address.rpartition(":")[0]
    start = "start it, or correct --{0}; 'tinyfleet-{0} --help'"
    answer, finding = look_at_service("coordinator", address, start.format("coordinator"), tls)
    yield finding
    for name, given in (("aggregator", aggregator), ("metrics", metrics)):
        if given != NONE:
            remedy = f"{start.format(name)}, or --{name} none"
            yield look_at_service(name, given or f"{host}:{PORTS[name]}", remedy, tls)[1]
    if answer is not None:
        yield look_at_clock(answer)
        yield from look_at_agents(address, tls)


def _is_here(tls: Path | None) -> bool:
    """Whether this machine has a coordinator where one is by default."""
    try:
        ask("coordinator", f"{HERE}:{PORTS['coordinator']}", tls)
    except NoAnswer:
        return False
    return True


def _print_json(findings: Iterable[Finding]) -> None:
    rows = [vars(finding) | {"level": finding.level.value} for finding in findings]
    problems = sum(row["level"] == Level.PROBLEM.value for row in rows)
    print_json({"problems": problems, "findings": rows})


def _print(findings: Iterable[Finding]) -> None:
    colours = {Level.OK: "green", Level.NOTE: "yellow", Level.PROBLEM: "red"}
    indent = " " * _COLUMNS
    for finding in findings:
        head = f"{finding.level.value:8}  {finding.about:11} "
        text = wrapped(finding.message, head, indent)
        level, rest = text[:8], text[8:]
        click.echo(click.style(level, fg=colours[finding.level]) + rest)
        if finding.remedy:
            click.echo(wrapped(f"-> {finding.remedy}", indent, f"{indent}   "))
