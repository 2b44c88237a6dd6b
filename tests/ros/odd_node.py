"""A node whose part fails as its parameter `fails` says; started by test_hosting.py."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from std_msgs.msg import Empty, String

from tinyfleet.config import setting
from tinyfleet.errors import Refused
from tinyfleet.logs import FORMATS, LEVELS
from tinyfleet.readings import Level, Reading
from tinyfleet.ros.lifecycle import HostedNode
from tinyfleet.ros.process import run_node


@dataclass(frozen=True)
class OddSettings:
    """What every node needs, and what fails: a step or nothing."""

    fails: str = setting("", help="which step fails")
    refuses: str = setting("", help="which step is refused")
    log_level: str = setting("info", help="lowest level that is logged", choices=LEVELS)
    log_format: str = setting("text", help="how log lines look", choices=FORMATS)


@dataclass(frozen=True)
class MoreSettings:
    """Of a part that has settings of its own."""

    factors: tuple[float, ...] = setting((), help="to multiply with")


class OddPart:
    """Hears `poison` and `ping`, answers a ping on `pong`, which is a lifecycle publisher."""

    def __init__(self, node: HostedNode[OddSettings]) -> None:
        self._fails = self._refuses = ""
        self._over = asyncio.Event()
        self._more = node.declare_settings(MoreSettings, "more.")
        self._pong = node.create_lifecycle_publisher(String, "pong", 10)
        node.create_subscription(Empty, "poison", self._raise, 10)
        node.create_subscription(Empty, "ping", self._answer, 10)
        node.add_trigger("~/odd", self._odd)
        node.add_trigger("~/end", self._end)
        node.add_readings(lambda: [Reading("oddity", Level.WARN, "is odd", {"more": 1})])

    async def configure(self, settings: OddSettings) -> None:
        self._fails, self._refuses = settings.fails, settings.refuses
        await self._step("configure")

    async def activate(self) -> None:
        self._over.clear()
        await self._step("activate")

    async def deactivate(self) -> None:
        await self._step("deactivate")

    async def cleanup(self) -> None:
        await self._step("cleanup")

    async def ended(self) -> None:
        await self._over.wait()
        await self._step("ended")

    async def _step(self, name: str) -> None:
        if self._fails == name:
            raise ValueError(f"{name} is broken")
        if self._refuses == name:
            raise Refused(f"{name} is refused: try another one")

    async def _odd(self) -> str:
        await self._step("odd")
        return f"factors {self._more.read().factors}"

    async def _end(self) -> str:
        self._over.set()
        return "over"

    def _raise(self, _: Empty) -> None:
        raise ValueError("a callback is broken")

    def _answer(self, _: Empty) -> None:
        self._pong.publish(String(data="pong"))


if __name__ == "__main__":
    run_node("odd-node", "odd", OddSettings, OddPart)
