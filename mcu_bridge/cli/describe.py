"""A board's identity and counters as the rows of tables."""

from __future__ import annotations

from mcu_bridge.cli.fault_words import fault_in_words, host_fault_in_words
from mcu_bridge.device.identity import DeviceIdentity
from mcu_bridge.device.messages import PROTOCOL_VERSION, DeviceCounters

HOST_BOARD = "host"
RESET_CAUSES = {
    "power": "power came, the reset button, or not known",
    "software": "by command",
    "watchdog": "the watchdog, because the firmware hung",
    "fault": "a fault",
}


def identity_rows(identity: DeviceIdentity) -> list[list[str]]:
    """Name and value of everything a board says of itself."""
    return [
        ["firmware", identity.firmware],
        ["unique id", identity.unique_id],
        ["boot", f"{identity.boot_id:#010x}, after: {RESET_CAUSES[identity.reset_cause]}"],
        ["versions", f"device protocol {PROTOCOL_VERSION}, learner {identity.learner_version}"],
        ["memory", f"{identity.memory_bytes:,} bytes for model and training"],
        ["processor", f"{identity.clock_hz / 1e6:g} MHz"],
        ["sensor", "yes" if identity.has_sensor else "none"],
        ["last fault", _fault(identity)],
    ]


def counter_rows(counters: DeviceCounters) -> list[list[str]]:
    """Name and value of what a board has counted since its reset."""
    return [
        ["up", f"{counters.uptime_ms / 1000:,.1f} s"],
        ["samples trained", f"{counters.samples_trained:,}"],
        ["frames taken", f"{counters.frames:,}"],
        ["frames dropped", _dropped(counters)],
        ["commands out of order", f"{counters.stale:,}"],
        ["bytes lost in the ring", f"{counters.ring_overrun_bytes:,}"],
        ["blocks sent again", f"{counters.blocks_again:,}"],
        ["stack", _stack(counters)],
    ]


def _fault(identity: DeviceIdentity) -> str:
    if identity.fault is None:
        return "none"
    if identity.board == HOST_BOARD:
        return host_fault_in_words(identity.fault)
    return fault_in_words(identity.fault)


def _dropped(counters: DeviceCounters) -> str:
    kinds = ("overlong", "malformed", "corrupt", "wrong_version")
    parts = [f"{getattr(counters, kind):,} {kind.replace('_', ' ')}" for kind in kinds]
    return ", ".join(parts)


def _stack(counters: DeviceCounters) -> str:
    if not counters.stack_bytes:
        return "not known here"
    return f"{counters.stack_used_bytes:,} of {counters.stack_bytes:,} bytes at the highest"
