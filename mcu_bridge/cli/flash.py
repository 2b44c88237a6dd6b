"""`tinyfleet device flash`: builds a board's firmware and brings it into the board.

Emulated boards load it when they start. Into an nRF52840 OpenOCD writes it through a debug probe
(SWD): the image starts at address 0, where a bootloader would be, so no bootloader can take it.
Not tried on hardware; OpenOCD 0.12 took the commands as far as "no such probe".
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import click

from mcu_bridge import images
from mcu_bridge.cli.connection import identity_document, look_at, run
from mcu_bridge.cli.program_image import program_image
from mcu_bridge.lines.url import EMULATED_BOARDS, parse_url
from tinyfleet.cli.console import examples, json_option, note, print_json, print_table
from tinyfleet.errors import InvalidInput, Refused, unknown_name

HARDWARE = "nrf52840"
HOST = "host"
BOARDS = (*EMULATED_BOARDS, HARDWARE)
OPENOCD = "openocd"
FLASH_TIMEOUT_S = 300.0
PROBES = {"cmsis-dap": "swd", "jlink": "swd", "stlink": "hla_swd"}  # and how they reach the chip


@click.command(
    "flash",
    short_help="Build firmware and write it into a board.",
    epilog=examples(
        "tinyfleet device flash --board nrf52840 --build-only",
        "tinyfleet device flash serial:///dev/ttyUSB0",
        "tinyfleet device flash --probe jlink",
    ),
)
@click.argument("url", metavar="[URL]", required=False)
@click.option("--board", metavar="NAME", help=f"Board to flash. [default: {HARDWARE}]")
@click.option(
    "--probe",
    type=click.Choice(list(PROBES)),
    default="cmsis-dap",
    help="Kind of debug probe that the board hangs on.",
)
@click.option("--build-only", is_flag=True, help="Build, name the files and sizes, stop there.")
@json_option
def flash(url: str | None, board: str | None, probe: str, build_only: bool, as_json: bool) -> None:
    """Build a board's firmware and write it into the board.

    A real board is written through a debug probe with OpenOCD, whose command is printed before it
    runs; the board at URL is then asked who it is. It loses the bootloader it has. Emulated boards
    load the firmware when they start.
    """
    name = _board(url, board)
    note(f"firmware for {name}: building where it is missing or old")
    path = images.firmware_image(name)
    document = _describe(name, path, quiet=as_json)
    if not build_only:
        document["flashed"] = _write(name, path, probe)
        if document["flashed"] and url is not None:
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
    name = board or HARDWARE
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


def _write(board: str, path: Path, probe: str) -> bool:
    """Bring the firmware into the board; returns whether something was written."""
    if board in EMULATED_BOARDS:
        note(f"emulated boards load this image when they start: emulated://{board} has it now")
        return False
    _run_openocd(path.with_suffix(".hex"), probe)
    return True


def _run_openocd(image: Path, probe: str) -> None:
    """Write `image`; raises when OpenOCD is missing or does not succeed."""
    program = f"program {{{image}}} verify reset exit"
    reach = ["-f", f"interface/{probe}.cfg", "-c", f"transport select {PROBES[probe]}"]
    command = [OPENOCD, *reach, "-f", "target/nrf52.cfg", "-c", program]
    if shutil.which(OPENOCD) is None:
        raise InvalidInput(
            f"{OPENOCD} is missing: sudo apt-get install {OPENOCD}, wire a debug probe to the "
            "board's SWDIO, SWCLK and GND, and try again"
        )
    note(f"running: {shlex.join(command)}")
    try:
        done = subprocess.run(command, stdout=2, timeout=FLASH_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        raise Refused(f"{OPENOCD} was not done after {FLASH_TIMEOUT_S:g} s: is it wired?") from None
    if done.returncode != 0:
        raise Refused(
            f"{OPENOCD} ended with status {done.returncode}, see above: is the probe plugged in, "
            "the board powered, SWDIO and SWCLK the right way round, --probe right?"
        )
