"""The programs that write an image into a real board: bossac over USB, OpenOCD through a probe.

Not tried on hardware. bossac's options are those of Arduino's own board definition; OpenOCD 0.12
took its commands as far as "no such probe".
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
from pathlib import Path

from mcu_bridge.lines.url import LineUrl
from tinyfleet.cli.console import note
from tinyfleet.errors import InvalidInput, Refused

BOSSAC = "bossac"
OPENOCD = "openocd"
PROBES = {"cmsis-dap": "swd", "jlink": "swd", "stlink": "hla_swd"}  # and how they reach the chip
FLASH_TIMEOUT_S = 300.0
_ARDUINO_TOOLS = ".arduino15/packages/arduino/tools/bossac"  # below the user's home
_ENTER_BOOTLOADER = "press the reset button twice within half a second (the orange light pulses)"


def check_usb_port(place: LineUrl | None) -> Path:
    """The bootloader's serial port, which is there; raises InvalidInput and says how to get it."""
    if place is None or place.kind not in ("serial", "pty"):
        raise InvalidInput(
            f"name the board's own USB port: {_ENTER_BOOTLOADER}, then "
            "tinyfleet device flash serial:///dev/ttyACM0"
        )
    port = Path(place.target)
    if not port.exists():
        raise InvalidInput(f"{port} is not there: {_ENTER_BOOTLOADER}, then see ls /dev/ttyACM*")
    return port


def bossac_command(image: Path, port: Path) -> list[str]:
    """Erase, write and restart: the bootloader puts `image` behind itself, wherever it says."""
    return [find_bossac(), f"--port={port}", "-U", "-i", "-e", "-w", str(image), "-R"]


def find_bossac() -> str:
    """Arduino's, where its tools put it, else the one on PATH; raises InvalidInput without any."""
    arduino = sorted((Path.home() / _ARDUINO_TOOLS).glob("*/bossac"))
    found = str(arduino[-1]) if arduino else shutil.which(BOSSAC)
    if found is None:
        raise InvalidInput(
            f"{BOSSAC} is missing: arduino-cli core install arduino:mbed_nano brings the one that "
            "knows this chip (Arduino's 1.9.1-arduino2; Debian's bossa-cli does not)"
        )
    return found


def write_over_usb(image: Path, port: Path) -> None:
    """Write a raw `image` through the bootloader; raises Refused when it does not succeed."""
    _run(
        bossac_command(image, port),
        f"is the board in its bootloader ({_ENTER_BOOTLOADER}), may this user open the port, is "
        f"this {BOSSAC} Arduino's (Debian's does not know the chip)?",
    )


def openocd_command(image: Path, probe: str) -> list[str]:
    """Write `image` (Intel hex), compare and restart, through a probe of the kind `probe`."""
    if shutil.which(OPENOCD) is None:
        raise InvalidInput(
            f"{OPENOCD} is missing: sudo apt-get install {OPENOCD}, wire a debug probe to the "
            "board's SWDIO, SWCLK and GND, and try again"
        )
    program = f"program {{{image}}} verify reset exit"
    reach = ["-f", f"interface/{probe}.cfg", "-c", f"transport select {PROBES[probe]}"]
    return [OPENOCD, *reach, "-f", "target/nrf52.cfg", "-c", program]


def write_through_probe(image: Path, probe: str) -> None:
    """Write an Intel hex `image`; raises Refused when it does not succeed."""
    _run(
        openocd_command(image, probe),
        "is the probe plugged in, the board powered, SWDIO and SWCLK the right way round, "
        "--probe right?",
    )


def _run(command: list[str], questions: str) -> None:
    """Print the command, then run it; its output goes to stderr."""
    name = Path(command[0]).name
    note(f"running: {shlex.join(command)}")
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=2, timeout=FLASH_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise Refused(f"{name} was not done after {FLASH_TIMEOUT_S:g} s: {questions}") from None
    except OSError as error:
        raise InvalidInput(f"{command[0]} cannot be run: {error.strerror}") from None
    if done.returncode != 0:
        raise Refused(f"{name} ended with status {done.returncode}, see above: {questions}")
