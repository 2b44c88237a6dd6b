"""The process of a node: gRPC and asyncio in the main thread, rclpy's executor in one other.

SIGINT and SIGTERM run the shutdown transition, which drains, and the process ends with 0.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.signals import SignalHandlerOptions
from rclpy.utilities import remove_ros_args

from tinyfleet.config import Settings
from tinyfleet.errors import InvalidInput, TinyFleetError, one_line
from tinyfleet.footprint import leave_out_ros_generators
from tinyfleet.logs import configure_logs
from tinyfleet.presence import EXIT_INVALID
from tinyfleet.ros.lifecycle import Autostart, HostedNode, Part
from tinyfleet.ros.values import declarations

EXIT_INTERNAL = 1
log = logging.getLogger("node")


def run_node(
    program: str,
    name: str,
    settings: type[Settings],
    make_part: Callable[[HostedNode[Settings]], Part[Settings]],
    further: Mapping[str, type[Any]] = MappingProxyType({}),
) -> None:
    """Host a part as the node `name` until a signal comes; exits with a status code.

    further: settings classes that the part declares, by the prefix of their names, for `--help`.
    0 after a signal, 1 for a fault of ours, 2 for arguments that ROS or we cannot read.
    """
    leave_out_ros_generators()
    try:
        _read_arguments(program, {"": settings, **further})
    except TinyFleetError as error:
        print(f"{program}: {error}", file=sys.stderr)  # noqa: T201 - before there are logs
        sys.exit(EXIT_INVALID)
    try:
        asyncio.run(_host(name, settings, make_part))
    except Exception:
        logging.getLogger("node").exception("unexpected error, stopping")
        sys.exit(EXIT_INTERNAL)
    finally:
        rclpy.try_shutdown()


def _read_arguments(program: str, settings: Mapping[str, type[Any]]) -> None:
    """Initialise rclpy with the command line; `--help` prints the parameters and exits with 0."""
    others = _of_ros(lambda: remove_ros_args(sys.argv))[1:]
    if others and others[0] in {"-h", "--help"}:
        print(_help(program, settings))  # noqa: T201 - what was asked for
        sys.exit(0)
    if others:
        raise InvalidInput(
            f"unknown argument '{one_line(others[0])}': settings are ROS parameters, "
            f"e.g. --ros-args -p log_level:=debug; see {program} --help"
        )
    _of_ros(lambda: rclpy.init(args=sys.argv, signal_handler_options=SignalHandlerOptions.NO))


def _of_ros(call: Callable[[], Any]) -> Any:
    """What rclpy's call gives; its complaint about our arguments as one line, without its files."""
    try:
        return call()
    except Exception as error:  # noqa: BLE001 - its kinds differ between releases of rclpy
        reason = " ".join(str(error).split()).partition(", at /")[0]
        raise InvalidInput(f"ROS refuses the arguments: {reason[:300]}") from None


def _help(program: str, settings: Mapping[str, type[Any]]) -> str:
    lines = [
        f"usage: {program} [--ros-args [-r __ns:=/SITE] [--params-file FILE] [-p NAME:=VALUE ...]]",
        "",
        "A ROS 2 lifecycle node. Exit codes: 0 stopped, 1 internal error, 2 an argument is wrong.",
        "",
        "parameters:",
    ]
    declared = [one for prefix, kind in settings.items() for one in declarations(kind, prefix)]
    for one in (*declarations(Autostart), *declared):
        shown = one.default if one.default not in ("", []) else "none"
        lines.append(f"  {one.name:24}{one.help} (default: {shown})")
    return "\n".join(lines)


async def _host(
    name: str,
    settings: type[Settings],
    make_part: Callable[[HostedNode[Settings]], Part[Settings]],
) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    node = HostedNode(name, settings, make_part)
    with _Spinning(node):
        try:
            if node.starts_by_itself:
                await _start(node)
            await stop.wait()
            log.info("stopping")
        finally:
            await node.shut_down()
            await node.close()
    configure_logs("info", "text")
    node.destroy_node()


async def _start(node: HostedNode[Any]) -> None:
    try:
        await node.start()
    except (
        TinyFleetError
    ) as error:  # the log has it; a parameter can be corrected and ~/start called
        log.warning("not started: %s", error)


class _Spinning:
    """The executor's thread, for as long as the context is open."""

    def __init__(self, node: HostedNode[Any]) -> None:
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(node)
        self._thread = threading.Thread(target=self._spin, name="executor", daemon=True)
        self._over = False

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._over = True
        self._executor.shutdown()
        self._thread.join()

    def _spin(self) -> None:
        """What a callback raises is logged; the others go on."""
        while not self._over:
            try:
                self._executor.spin()
            except ExternalShutdownException:
                return
            except Exception:
                log.exception("unexpected error in a callback")
