"""The typed client of an attached board (docs/formats/device.md)."""

from __future__ import annotations

from mcu_bridge.device.client import Device, DeviceEvaluation
from mcu_bridge.device.identity import DeviceIdentity, Fault
from mcu_bridge.device.messages import Configured, DeviceCounters
from mcu_bridge.device.update import EncodedChange
from mcu_bridge.link.link import Patience

__all__ = [
    "Configured",
    "Device",
    "DeviceCounters",
    "DeviceEvaluation",
    "DeviceIdentity",
    "EncodedChange",
    "Fault",
    "Patience",
]
