"""`tinyfleet device monitor`: what goes over the line, and how the board is, as it happens."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import click

from mcu_bridge.cli.connection import identity_document, run, url_argument
from mcu_bridge.cli.describe import identity_rows
from mcu_bridge.cli.frames import SeenFrame, WatchedLine
from mcu_bridge.device.client import Device
from mcu_bridge.device.messages import DeviceCounters
from mcu_bridge.lines.opening import open_line
from tinyfleet.cli.console import examples, print_table

Emit = Callable[[dict[str, Any], str], None]


@click.command(
    "monitor",
    short_help="Show what goes over a board's line.",
    epilog=examples(
        "tinyfleet device monitor serial:///dev/ttyACM0",
        "tinyfleet device monitor emulated://host --seconds 3 --json",
    ),
)
@url_argument
@click.option(
    "--seconds",
    type=click.FloatRange(0, 86_400 * 365),
    default=0.0,
    metavar="NUMBER",
    help="End after so long; 0: at Ctrl-C.",
)
@click.option(
    "--every",
    type=click.FloatRange(0.1, 3600),
    default=1.0,
    metavar="NUMBER",
    help="Seconds between two questions for the counters.",
)
@click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object a line, as it happens."
)
def monitor(url: str, seconds: float, every: float, as_json: bool) -> None:
    """Attach to the board at URL and show each frame and the counters, until Ctrl-C.

    A board has one host at a time: what a running agent says to it cannot be listened to. The
    board keeps its model.
    """
    began = time.monotonic()

    def emit(document: dict[str, Any], text: str) -> None:
        at = time.monotonic() - began
        line = (
            json.dumps({"at_s": round(at, 4), **document})
            if as_json
            else f"{at:9.4f}  {text}".rstrip()
        )
        print(line, flush=True)

    try:
        run(_watch(url, seconds, every, emit, as_json))
    except KeyboardInterrupt:
        if not seconds:  # how it is meant to end
            return
        raise


async def _watch(url: str, seconds: float, every: float, emit: Emit, as_json: bool) -> None:
    def seen(frame: SeenFrame) -> None:
        arrow = ">" if frame.to_board else "<"
        emit(_frame_document(frame), f"{arrow} {frame.kind:18} {_number(frame)}  {frame.content}")

    line = WatchedLine(await open_line(url), seen)
    async with await Device.connect(line) as device:
        _say_who(device, emit, as_json)
        end = asyncio.get_running_loop().time() + seconds if seconds else float("inf")
        while True:
            counters = await device.counters()
            emit({"counters": asdict(counters)}, f"= {_in_short(counters, line)}")
            left = end - asyncio.get_running_loop().time()
            if left <= 0:
                return
            await asyncio.sleep(min(every, left))


def _say_who(device: Device, emit: Emit, as_json: bool) -> None:
    if as_json:
        emit({"identity": identity_document(device.identity)}, "")
    else:
        print_table(("board", device.identity.board), identity_rows(device.identity))


def _number(frame: SeenFrame) -> str:
    return f"{frame.frame.sequence:5}"


def _frame_document(seen: SeenFrame) -> dict[str, Any]:
    frame = seen.frame
    return {
        "to_board": seen.to_board,
        "kind": seen.kind,
        "sequence": frame.sequence,
        "bytes": len(frame.payload),
        "content": seen.content,
    }


def _in_short(counters: DeviceCounters, line: WatchedLine) -> str:
    bad_here = asdict(line.received.counters)
    del bad_here["frames"]
    return (
        f"up {counters.uptime_ms / 1000:.1f} s, {counters.samples_trained:,} samples, "
        f"{counters.frames:,} frames; dropped: {counters.bad_frames} by the board, "
        f"{sum(bad_here.values())} here"
    )
