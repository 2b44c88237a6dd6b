"""`tinyfleet device info`: who a board is and how it has been."""

from __future__ import annotations

from dataclasses import asdict

import click

from mcu_bridge.cli.connection import identity_document, look_at, run, url_argument
from mcu_bridge.cli.describe import counter_rows, identity_rows
from tinyfleet.cli.console import examples, json_option, print_json, print_table


@click.command(
    "info",
    short_help="Show who a board is and how it has been.",
    epilog=examples(
        "tinyfleet device info serial:///dev/ttyACM0",
        "tinyfleet device info emulated://mps2-an386 --json",
    ),
)
@url_argument
@json_option
def info(url: str, as_json: bool) -> None:
    """Show who the board at URL is: identity, memory, versions, last fault, counters.

    A look only: the board keeps its model. An emulated board is started for it and ended after it.
    """
    identity, counters = run(look_at(url))
    if as_json:
        document = {"url": url, "identity": identity_document(identity)}
        print_json(document | {"counters": asdict(counters)})
        return
    print_table(("board", identity.board), identity_rows(identity))
    print()
    print_table(("since its reset", ""), counter_rows(counters))
