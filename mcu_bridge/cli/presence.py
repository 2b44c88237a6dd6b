"""`tinyfleet device list`: which boards there may be on this machine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mcu_bridge import images
from mcu_bridge.cli.connection import identity_document, look_at, run
from mcu_bridge.cli.flash import HOST
from mcu_bridge.lines.emulated import HostBoard, QemuBoard
from mcu_bridge.lines.url import EMULATED_BOARDS
from tinyfleet.cli.console import examples, json_option, note, print_json, print_table
from tinyfleet.errors import InvalidInput, TinyFleetError

if TYPE_CHECKING:
    from serial.tools.list_ports_common import ListPortInfo

DEVICE_FOLDER = Path("/dev")
SERIAL_PATTERNS = ("ttyACM*", "ttyUSB*")
BOOTLOADER_USB_ID = (0x2341, 0x005A)  # by Arduino's boards.txt
BOOTLOADER = "Nano 33 BLE in its bootloader"


@dataclass
class Found:
    """A board that may be there: `state` says in words what is known of it."""

    url: str
    what: str
    state: str
    ready: bool
    identity: dict[str, Any] | None = None


@click.command(
    "list",
    short_help="List serial ports and emulated boards.",
    epilog=examples(
        "tinyfleet device list",
        "tinyfleet device list --probe",
    ),
)
@click.option("--probe", is_flag=True, help="Ask every serial port who is there; opens them.")
@json_option
def list_boards(probe: bool, as_json: bool) -> None:
    """List the serial ports of this machine and the boards it can emulate.

    Nothing is opened without --probe: opening a port makes some boards restart.
    """
    ports = [_port(device, what, probe) for device, what in serial_ports()]
    found = [*ports, *(_emulated(board) for board in EMULATED_BOARDS)]
    if as_json:
        print_json({"boards": [vars(board) for board in found]})
        return
    print_table(("url", "what", "state"), [[b.url, b.what, b.state] for b in found])
    if not ports:
        note("no serial port: plug a board in; to open it this user needs the group dialout")


def serial_ports(folder: Path = DEVICE_FOLDER) -> list[tuple[str, str]]:
    """Device files of serial ports and what is known of each; by pyserial where it is installed."""
    try:
        from serial.tools.list_ports import comports
    except ImportError:
        files = sorted(path for pattern in SERIAL_PATTERNS for path in folder.glob(pattern))
        return [(str(path), "serial port") for path in files]
    usb = [port for port in comports() if port.vid is not None]
    return [(port.device, _usb_port(port)) for port in sorted(usb)]


def _usb_port(port: ListPortInfo) -> str:
    if (port.vid, port.pid) == BOOTLOADER_USB_ID:
        return BOOTLOADER
    return port.description or "serial port"


def _emulated(board: str) -> Found:
    url = f"emulated://{board}"
    what = "the firmware as a process" if board == HOST else "Cortex-M4F under QEMU"
    try:
        (HostBoard if board == HOST else QemuBoard).check_tools()
    except InvalidInput as error:
        return Found(url, what, str(error), ready=False)
    if missing := images.missing_packages(board):
        return Found(url, what, f"to build it, install {' '.join(missing)}", ready=False)
    built = images.image_path(board).is_file()
    return Found(url, what, "ready" if built else "ready, built when first used", ready=True)


def _port(device: str, what: str, probe: bool) -> Found:
    url = f"serial://{device}"
    if what == BOOTLOADER:
        return Found(url, what, f"to be flashed: tinyfleet device flash {url}", ready=False)
    if not probe:
        return Found(url, what, "not asked (--probe)", ready=False)
    try:
        identity, _ = run(look_at(url))
    except TinyFleetError as error:
        return Found(url, what, str(error), ready=False)
    state = f"{identity.board}, {identity.firmware}, {identity.memory_bytes:,} bytes"
    return Found(url, what, state, ready=True, identity=identity_document(identity))
