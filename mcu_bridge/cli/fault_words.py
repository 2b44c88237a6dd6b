"""A board's fault record in words.

Bits as the ARMv7-M Architecture Reference Manual, ARM DDI 0403E, B3.2.15 and B3.2.16 name them; the
explanations are ours. The firmware as a process of this machine reports a signal's number instead.
"""

from __future__ import annotations

import signal

from mcu_bridge.device.identity import Fault

_CFSR = {
    0: "an instruction was fetched where no code may run",
    1: "memory was read or written that the protection forbids",
    3: "the stack was left when an exception returned",
    4: "the stack overflowed when an exception came",
    5: "the stack overflowed while floating-point registers were saved",
    8: "an instruction could not be fetched",
    9: "the bus refused a read or write",
    10: "the bus refused an earlier write",
    11: "the bus refused the stack when an exception returned",
    12: "the bus refused the stack when an exception came",
    13: "the bus refused the stack while floating-point registers were saved",
    16: "an instruction is none that the processor has",
    17: "code was entered that is not Thumb code",
    18: "an exception returned to nowhere",
    19: "the floating-point unit was used while it was off",
    24: "an access was not aligned",
    25: "a division by zero",
}
_HFSR = {1: "the vector table could not be read", 31: "a debugger's break without a debugger"}


def fault_in_words(fault: Fault) -> str:
    """What happened, and where, in one line."""
    if (fault.reason, fault.hard, fault.address) == (0, 0, 0):
        return f"it hung until the watchdog reset it{_at(fault)}"
    causes = _named(fault.reason, _CFSR) + _named(fault.hard, _HFSR)
    if not causes:
        causes = [f"unknown, CFSR {fault.reason:#010x}, HFSR {fault.hard:#010x}"]
    where = f", at address {fault.address:#010x}" if fault.address else ""
    return f"{'; '.join(causes)}{where}{_at(fault)}"


def host_fault_in_words(fault: Fault) -> str:
    """The same for the host's firmware, whose reason is the number of a signal."""
    try:
        name = signal.Signals(fault.reason).name
    except ValueError:
        return fault_in_words(fault)
    where = f", at address {fault.address:#010x}" if fault.address else ""
    return f"the process got {name}{where}"


def _named(bits: int, names: dict[int, str]) -> list[str]:
    return [text for bit, text in names.items() if bits >> bit & 1]


def _at(fault: Fault) -> str:
    return f", by the instruction at {fault.pc:#010x}" if fault.pc else ""
