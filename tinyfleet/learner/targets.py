"""The boards that learn, and what of a model fits into their memory.

A board lays out, in this order: the layer table, the learner's arena, one sample, the parameters;
then, as a plan asks for it, a copy of the start with a bit a parameter (to be pulled back to it, or
to encode the update), the gradient of a batch, and stored samples (docs/formats/device.md).
"""

from __future__ import annotations

from dataclasses import dataclass

from tinyfleet.errors import unknown_name
from tinyfleet.learner.memory import memory_needed
from tinyfleet.model.spec import ModelSpec

# What every firmware leaves to model and training at the least; a board with more says so itself.
# MUST match ram in mcu_bridge/firmware/budget.toml, and no built firmware may leave less between
# port_free_start and port_free_end (tests/unit/cli/test_memory_targets.py).
MEMORY_BYTES = 256_000
_RAM_BYTES = 256 * 1024
_FLASH_BYTES = 1024 * 1024
_ARDUINO_BOOTLOADER_BYTES = 64 * 1024  # MUST match nano33ble_FLASH_START of the firmware's Makefile


@dataclass(frozen=True)
class Target:
    """A kind of board.

    ram_bytes and flash_bytes: what the processor has. memory_bytes: the RAM that the firmware
    leaves to a model and its training at the least.
    """

    name: str
    title: str
    ram_bytes: int = _RAM_BYTES
    flash_bytes: int = _FLASH_BYTES
    memory_bytes: int = MEMORY_BYTES

    @property
    def firmware_bytes(self) -> int:
        """RAM that the firmware keeps: stacks, rings, buffers."""
        return self.ram_bytes - self.memory_bytes


TARGETS = {
    target.name: target
    for target in (
        Target("cortex-m4", "Cortex-M4F with 256 KB of RAM, such as mps2-an386 under QEMU"),
        Target("nrf52840", "nRF52840 without a bootloader"),
        Target(
            "nano33ble",
            "Arduino Nano 33 BLE, an nRF52840 with Arduino's bootloader",
            flash_bytes=_FLASH_BYTES - _ARDUINO_BOOTLOADER_BYTES,
        ),
        Target("host", "the firmware as a process of this machine, with a board's memory"),
    )
}


def find_target(name: str) -> Target:
    """The target `name`; raises InvalidInput with the nearest name."""
    if name not in TARGETS:
        raise unknown_name("target", name, TARGETS)
    return TARGETS[name]


def board_memory_needed(
    spec: ModelSpec, *, keep_start: bool = False, gradient: bool = False, stored_samples: int = 0
) -> int:
    """Bytes that a board needs to learn `spec`, as CONFIGURE answers.

    keep_start: for proximal phases, and to encode the update afterwards. gradient: for batches of
    several samples. stored_samples: for several passes over them.
    """
    need = memory_needed(spec)
    return (
        need.online_bytes
        + (need.start_bytes if keep_start else 0)
        + (need.gradient_bytes if gradient else 0)
        + need.sample_bytes * stored_samples
    )


def most_stored_samples(spec: ModelSpec, memory_bytes: int) -> int:
    """How many samples fit beside a model that learns online; 0 also where the model does not."""
    room = memory_bytes - board_memory_needed(spec)
    return max(room, 0) // memory_needed(spec).sample_bytes
