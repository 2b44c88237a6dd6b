"""The lines to boards: serial ports, terminals, TCP, and emulated boards. `open_line` opens any."""

from mcu_bridge.lines.opening import open_line
from mcu_bridge.lines.url import LineUrl, parse_url

__all__ = ["LineUrl", "open_line", "parse_url"]
