"""How a setting names an attached board: the URL of its line, and what the agent is to make of it.

    serial:///dev/ttyACM*?baud=1000000&name=shed&samples=sensor

`name` and `samples` are the agent's; what is left is the line's, for mcu_bridge to judge.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from tinyfleet.errors import InvalidInput, one_line

NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")  # coordinator.proto, Hello.agent
NAME_RULE = "1 to 64 letters, digits, '.', '_' or '-'"
SAMPLES = ("task", "sensor")
_MOST = 64
_LINE = re.compile(r"([a-z]+://|/).+")


@dataclass(frozen=True)
class DeviceChoice:
    """A board to attend for.

    url: of its line, perhaps with a pattern of device files. name: in the fleet, empty when it is
    made from the agent's and the board's. on_sensor: whether it trains on its own sensor instead of
    the agent's samples.
    """

    url: str
    name: str
    on_sensor: bool


def parse_device(where: str, text: str) -> DeviceChoice:
    """The board of a setting's text; raises InvalidInput, which names `where`."""
    line, mark, query = text.partition("?")
    if not _LINE.fullmatch(line) or not text.isprintable():
        raise InvalidInput(
            f"{where} must be a URL like serial:///dev/ttyACM0, got '{one_line(text)}'"
        )
    words = [word.partition("=") for word in query.split("&")] if mark else []
    ours = {key: value for key, _, value in words if key in ("name", "samples")}
    rest = "&".join("".join(word) for word in words if word[0] not in ours)
    name, samples = ours.get("name"), ours.get("samples", SAMPLES[0])
    if name is not None and not NAME.fullmatch(name):
        raise InvalidInput(f"{where}: name must be {NAME_RULE}, got '{one_line(name)}'")
    if samples not in SAMPLES:
        raise InvalidInput(
            f"{where}: samples must be {' or '.join(SAMPLES)}, got '{one_line(samples)}'"
        )
    return DeviceChoice(f"{line}?{rest}" if rest else line, name or "", samples == "sensor")


def check_device(where: str, text: str) -> None:
    """Raise InvalidInput unless `text` names a board."""
    parse_device(where, text)


def device_name(agent: str, board: str, number: int) -> str:
    """The name in the fleet of an agent's `number`-th device, e.g. `pi-1.mps2-an386-2`."""
    own = f".{re.sub(r'[^A-Za-z0-9._-]', '-', board)}-{number}"
    return agent[: _MOST - len(own)] + own
