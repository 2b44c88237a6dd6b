"""`tinyfleet device flash`: builds a board's firmware and brings it into the board.

Emulated boards load it when they start. An Arduino Nano 33 BLE takes it over USB from its own
bootloader, behind which it starts (nano33ble). A bare nRF52840 is written through a debug probe:
that image starts at address 0, where a bootloader would be.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from mcu_bridge import images
from mcu_bridge.cli.connection import identity_document, look_at, run
from mcu_bridge.cli.program_image import program_image
from mcu_bridge.cli.programmers import (
    PROBES,
    check_usb_port,
    write_over_usb,
    write_through_probe,
)
from mcu_bridge.lines.url import EMULATED_BOARDS, LineUrl, parse_url
from tinyfleet.cli.console import examples, json_option, note, print_json, print_table
from tinyfleet.errors import InvalidInput, unknown_name

OVER_USB = "nano33ble"
THROUGH_PROBE = "nrf52840"
HOST = "host"
BOARDS = (*EMULATED_BOARDS, OVER_USB, THROUGH_PROBE)
DEFAULT_PROBE = "cmsis-dap"


@click.command(
    "flash",
    short_help="Build firmware and write it into a board.",
    epilog=examples(
        "tinyfleet device flash --build-only",
        "tinyfleet device flash serial:///dev/ttyACM0",
        "tinyfleet device flash --board nrf52840 --probe jlink",
    ),
)
@click.argument("url", metavar="[URL]", required=False)
@click.option("--board", metavar="NAME", help=f"{', '.join(BOARDS)}. [default: {OVER_USB}]")
@click.option(
    "--probe",
    type=click.Choice(list(PROBES)),
    help=f"Debug probe that a {THROUGH_PROBE} hangs on. [default: {DEFAULT_PROBE}]",
)
@click.option("--build-only", is_flag=True, help="Build, name the files and sizes, stop there.")
@json_option
def flash(
    url: str | None, board: str | None, probe: str | None, build_only: bool, as_json: bool
) -> None:
    """Build a board's firmware and write it into the board.

    nano33ble, an Arduino Nano 33 BLE: press its reset button twice; bossac then writes the firmware
    behind the bootloader, over the USB port URL. The bootloader stays.

    nrf52840: OpenOCD writes through a debug probe, and a bootloader is lost; the board at URL, its
    line, is then asked who it is.

    The command is printed before it runs. Emulated boards load the firmware when they start.
    """
    name = _board(url, board)
    if probe is not None and name != THROUGH_PROBE:
        raise InvalidInput(f"{name} takes no --probe; that is for --board {THROUGH_PROBE}")
    place = None if url is None else parse_url(url)
    if name == OVER_USB and not build_only:
        check_usb_port(place)
    note(f"firmware for {name}: building where it is missing or old")
    path = images.firmware_image(name)
    document = _describe(name, path, quiet=as_json)
    if not build_only:
        document["flashed"] = _write(name, path, probe or DEFAULT_PROBE, place)
        if name == THROUGH_PROBE and url is not None:
            identity, _ = run(look_at(url))
            document["identity"] = identity_document(identity)
            note(f"{url} is {identity.board}, firmware {identity.firmware}")
    if as_json:
        print_json(document)


def _board(url: str | None, board: str | None) -> str:
    """The name of the board to build for; raises InvalidInput when URL and name disagree."""
    place = None if url is None else parse_url(url)
    if place is not None and place.kind == "emulated":
        if board not in (None, place.target):
            raise InvalidInput(f"{url} is no {board}: leave out the URL or --board")
        return place.target
    name = board or OVER_USB
    if name not in BOARDS:
        raise unknown_name("board", name, BOARDS)
    return name


def _describe(board: str, path: Path, quiet: bool) -> dict[str, Any]:
    """What was built, printed unless quiet; the same for JSON."""
    if board == HOST:
        if not quiet:
            print(f"{_shown(path)}: a program of this machine, {path.stat().st_size:,} bytes")
        return {"board": board, "program": str(path)}
    image = program_image(path)
    if not quiet:
        files = (image.elf, image.binary, image.hex)
        print_table(
            ("file", "bytes"), [[_shown(file), f"{file.stat().st_size:,}"] for file in files]
        )
        size = f"{image.flash_bytes:,} bytes from {image.start:#x}"
        print(f"flash {size}, RAM {image.ram_bytes:,} bytes")
    return {
        "board": board,
        "elf": str(image.elf),
        "binary": str(image.binary),
        "hex": str(image.hex),
        "flash_start": image.start,
        "flash_bytes": image.flash_bytes,
        "ram_bytes": image.ram_bytes,
    }


def _shown(path: Path) -> str:
    """A path as short as it can be given from here."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def _write(board: str, path: Path, probe: str, place: LineUrl | None) -> bool:
    """Bring the firmware into the board; returns whether something was written."""
    if board in EMULATED_BOARDS:
        note(f"emulated boards load this image when they start: emulated://{board} has it now")
        return False
    if board == THROUGH_PROBE:
        write_through_probe(path.with_suffix(".hex"), probe)
        return True
    write_over_usb(path.with_suffix(".bin"), check_usb_port(place))
    note(
        "it runs, and its USB port is gone: the line is TX and RX on its header, through an "
        "adapter; next: tinyfleet device info serial:///dev/ttyUSB0"
    )
    return True
