"""A node's `~/status`, on change, and `/diagnostics`, once a second."""

from __future__ import annotations

import socket
from collections.abc import Iterable

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile

from tinyfleet.process import resident_bytes
from tinyfleet.readings import Level, Reading, Readings

_LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)


class Diagnostics:
    """Publishes what a node's sources tell. Used from the event loop only."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._name = node.get_fully_qualified_name().strip("/")
        self._host = socket.gethostname()
        self._sources: list[Readings] = [memory_in_use]
        self._last: DiagnosticStatus | None = None
        self._status = node.create_publisher(DiagnosticStatus, "~/status", _LATCHED)
        self._array = node.create_publisher(DiagnosticArray, "/diagnostics", 10)

    def add(self, source: Readings) -> None:
        """Ask this source, too, from now on."""
        self._sources.append(source)

    def publish(self, lifecycle: Reading) -> None:
        """Both topics; lifecycle: how the node itself is."""
        readings = self._readings(lifecycle)
        self._array.publish(
            DiagnosticArray(
                header=self._header(), status=[self._status_of(one) for one in readings]
            )
        )
        self._publish_change(readings)

    def publish_change(self, lifecycle: Reading) -> None:
        """`~/status` only, and only when it is another one than before."""
        self._publish_change(self._readings(lifecycle))

    def _readings(self, lifecycle: Reading) -> list[Reading]:
        return [lifecycle, *(one for source in self._sources for one in source())]

    def _publish_change(self, readings: list[Reading]) -> None:
        status = self._summary(readings)
        if status != self._last:
            self._last = status
            self._status.publish(status)

    def _summary(self, readings: list[Reading]) -> DiagnosticStatus:
        """The lifecycle and, of all else, what is not as it should be."""
        lifecycle, *others = readings
        bad = [one for one in others if one.level > Level.OK]
        worst = max([lifecycle, *bad], key=lambda one: one.level)
        message = worst.message if worst is lifecycle else f"{worst.about}: {worst.message}"
        status = self._status_of(Reading("", worst.level, message, lifecycle.values))
        status.name = self._name
        status.values += [KeyValue(key=one.about, value=one.message) for one in bad]
        return status

    def _status_of(self, reading: Reading) -> DiagnosticStatus:
        return DiagnosticStatus(
            level=bytes([reading.level]),
            name=f"{self._name}: {reading.about}",
            message=reading.message,
            hardware_id=self._host,
            values=[KeyValue(key=key, value=_text(value)) for key, value in reading.values.items()],
        )

    def _header(self) -> object:
        header = DiagnosticArray().header
        header.stamp = self._node.get_clock().now().to_msg()
        return header


def memory_in_use() -> Iterable[Reading]:
    """Resident memory of this process, in MB of 2**20 bytes; nothing where there is no /proc."""
    if (resident := resident_bytes()) is not None:
        yield Reading("process", values={"memory_mb": resident / 2**20})


def _text(value: object) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)
