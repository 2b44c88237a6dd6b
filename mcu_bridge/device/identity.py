"""Who a board is: what it answers to IDENTIFY."""

from __future__ import annotations

from dataclasses import dataclass

from mcu_bridge.device.messages import PROTOCOL_VERSION, Command, unpack
from mcu_bridge.errors import BadAnswer, WrongVersion
from tinyfleet.errors import one_line
from tinyfleet.learner.native import ABI_VERSION

RESET_CAUSES = ("power", "software", "watchdog", "fault")
FLASH = "run `tinyfleet device flash URL`"
_HAS_SENSOR = 1
_PROTOCOL_AT = slice(18, 20)  # where every version has the protocol version


@dataclass(frozen=True)
class Fault:
    """The last fault before a reset, in the processor's words: CFSR, HFSR, and two addresses."""

    reason: int
    hard: int
    address: int
    pc: int


@dataclass(frozen=True)
class DeviceIdentity:
    """An attached board.

    board, firmware: names, at most 16 characters. unique_id: of the chip, in hex. boot_id: the same
    for as long as the board has not been reset. memory_bytes: for model and training. clock_hz: the
    processor's; ticks_hz: of the clock that measures training. reset_cause: one of RESET_CAUSES,
    `power` also when the board cannot tell. fault: what reset the board, if a fault did.
    """

    board: str
    firmware: str
    unique_id: str
    boot_id: int
    learner_version: int
    memory_bytes: int
    ring_bytes: int
    clock_hz: int
    ticks_hz: int
    reset_cause: str
    fault: Fault | None
    has_sensor: bool


def parse_identity(response: bytes) -> DeviceIdentity:
    """The identity in a response that is OK. Raises WrongVersion or BadAnswer."""
    protocol_version = int.from_bytes(response[_PROTOCOL_AT], "little")
    if len(response) >= _PROTOCOL_AT.stop and protocol_version != PROTOCOL_VERSION:
        raise _wrong_version("device protocol", protocol_version, PROTOCOL_VERSION)
    cause, features, boot, learner, memory, ring, _, clock, ticks, *rest = unpack(
        Command.IDENTIFY, response
    )
    unique_id, board, firmware, *fault = rest
    if learner != ABI_VERSION:
        raise _wrong_version("learner", learner, ABI_VERSION)
    if cause >= len(RESET_CAUSES):
        raise BadAnswer(f"the unknown reset cause {cause}")
    if 0 in (boot, memory, ring, clock, ticks):
        raise BadAnswer("a boot id, a size or a clock of 0")
    return DeviceIdentity(
        *(_name(board), _name(firmware), unique_id.hex(), boot, learner, memory, ring),
        *(clock, ticks, RESET_CAUSES[cause]),
        Fault(*fault) if any(fault) else None,
        bool(features & _HAS_SENSOR),
    )


def _name(field: bytes) -> str:
    return one_line(field.rstrip(b"\0").decode("ascii", "backslashreplace"))


def _wrong_version(what: str, theirs: int, ours: int) -> WrongVersion:
    return WrongVersion(f"the board has version {theirs} of the {what}, this needs {ours}: {FLASH}")
