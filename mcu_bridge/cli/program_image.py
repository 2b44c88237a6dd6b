"""A firmware image as files for programmers, and what it takes.

The ELF header is read as the Tool Interface Standard, Executable and Linking Format 1.2, has it.
"""

from __future__ import annotations

import shutil
import struct
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tinyfleet.errors import InvalidInput

OBJCOPY = "arm-none-eabi-objcopy"
_MAGIC = b"\x7fELF\x01\x01"  # 32 bit, little-endian
_PROGRAM_HEADERS_AT, _SIZES_AT = 28, 42
_HEADER = struct.Struct("<8I")
_LOADED = 1
_RAM_START = 0x2000_0000


@dataclass(frozen=True)
class ProgramImage:
    """A built firmware: its ELF, and the same as raw bytes and as Intel hex beside it.

    start: the flash address of its first byte. flash_bytes: from there to its last.
    ram_bytes: what it keeps of the RAM.
    """

    elf: Path
    binary: Path
    hex: Path
    start: int
    flash_bytes: int
    ram_bytes: int


def program_image(elf: Path) -> ProgramImage:
    """The image of a Cortex-M ELF, with .bin and .hex written anew beside it."""
    flash, ram = segments(elf.read_bytes(), elf.name)
    binary, text = elf.with_suffix(".bin"), elf.with_suffix(".hex")
    _copy(elf, "binary", binary)
    _copy(elf, "ihex", text)
    start = min(at for at, _ in flash)
    end = max(at + size for at, size in flash)
    return ProgramImage(elf, binary, text, start, end - start, sum(size for _, size in ram))


def segments(data: bytes, name: str) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Address and bytes of what an ELF stores in flash, and of what it takes of the RAM."""
    flash, ram = [], []
    for kind, _, at, stored_at, stored, taken, _, _ in _headers(data, name):
        if kind == _LOADED and stored:
            flash.append((stored_at, stored))
        if kind == _LOADED and at >= _RAM_START:
            ram.append((at, taken))
    if not flash:
        raise InvalidInput(f"{name} holds nothing for a board's flash; build it anew")
    return flash, ram


def _headers(data: bytes, name: str) -> list[tuple[int, ...]]:
    if not data.startswith(_MAGIC):
        raise InvalidInput(f"{name} is not a program for a 32-bit board; build it anew")
    try:
        (table,) = struct.unpack_from("<I", data, _PROGRAM_HEADERS_AT)
        size, count = struct.unpack_from("<HH", data, _SIZES_AT)
        return [_HEADER.unpack_from(data, table + size * index) for index in range(count)]
    except struct.error:
        raise InvalidInput(f"{name} ends too early; build it anew") from None


def _copy(elf: Path, kind: str, to: Path) -> None:
    if shutil.which(OBJCOPY) is None:
        raise InvalidInput(f"{OBJCOPY} is missing: sudo apt-get install binutils-arm-none-eabi")
    command = [OBJCOPY, "-O", kind, str(elf), str(to)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise InvalidInput(f"{OBJCOPY} cannot convert {elf}: {' '.join(done.stderr.split())}")
