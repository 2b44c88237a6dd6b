"""`tinyfleet device`: list, look at, flash, watch and test boards."""

from __future__ import annotations

import click

from mcu_bridge.cli.flash import flash
from mcu_bridge.cli.info import info
from mcu_bridge.cli.monitor import monitor
from mcu_bridge.cli.presence import list_boards
from mcu_bridge.cli.selftest import selftest


@click.group("device")
def command() -> None:
    """List, look at, flash, watch and test microcontroller boards.

    A board is named by its URL: serial:///dev/ttyACM0?baud=1000000, pty:///path, tcp://host:port,
    emulated://mps2-an386 (QEMU) or emulated://host (the firmware as a process).
    """


for _part in (list_boards, info, flash, monitor, selftest):
    command.add_command(_part)
