"""The firmware's encoder of updates, compiled for this machine and called through ctypes."""

import ctypes
import subprocess
from ctypes import POINTER, c_double, c_uint8, c_uint32, c_uint64, c_void_p
from pathlib import Path

import numpy as np

from mcu_bridge.device.update import noise_words

HERE = Path(__file__).parent
CODEC = HERE.parents[2] / "mcu_bridge/firmware/codec"
WARNINGS = ("-Wall", "-Wextra", "-Wpedantic", "-Werror", "-Wconversion", "-Wdouble-promotion")
FLAGS = ("-std=c99", *WARNINGS, "-ffp-contract=off")
PRECISIONS = ("float32", "float16", "int8")
SENTINEL = 0xA5


def compile_codec(compiler, output, *flags, extra=(), without=()):
    """Compile the encoder and `extra` sources with the firmware's warnings into `output`."""
    own = [str(path) for path in sorted(CODEC.glob("*.c")) if path.name not in without]
    sources = [*own, *map(str, extra)]
    command = [compiler, *FLAGS, *flags, f"-I{CODEC}", *sources, "-o", str(output)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return output


def build(folder, *flags, compiler="gcc", noise="drawn"):
    """The encoder as a shared library's path. noise: `given` takes a test's draws, not its own."""
    output = folder / f"codec_{compiler}_{noise}.so"
    given = noise == "given"
    return compile_codec(
        *(compiler, output, "-O2", "-fPIC", "-shared", *flags),
        extra=[HERE / "call_update.c", *([HERE / "given_noise.c"] if given else [])],
        without=["pcg64.c"] if given else [],
    )


def load(path):
    """The library, its functions declared."""
    c = ctypes.CDLL(str(path))
    c.call_encode.restype = c_uint32
    c.call_encode.argtypes = (
        *(c_void_p, c_uint32, c_uint32, c_uint32, POINTER(c_uint64), c_void_p),
        *(c_void_p, c_uint32),
    )
    c.pcg64_uniform.restype = c_double
    c.pcg64_uniform.argtypes = (POINTER(c_uint64),)
    c.selection_choose.restype = c_uint32
    c.selection_choose.argtypes = (c_void_p, c_uint32, c_uint32, POINTER(c_uint8))
    return c


def words_of(noise):
    """pcg64_t of a RandomStream."""
    return (c_uint64 * 4)(*noise_words(noise))


def given_words(draws):
    """pcg64_t that hands out an array of draws: its address, and its length."""
    return (c_uint64 * 4)(draws.ctypes.data, 0, len(draws), 0)


def encode(c, change, entries, precision, words=None, step=0):
    """What the C code writes, read in pieces of `step` bytes, or all at once.

    The memory that it may use is exactly what the firmware has, and what lies behind stays.
    """
    count = len(change)
    words = words or (c_uint64 * 4)()
    room = np.full(4 * count + 8, SENTINEL, np.uint8)
    room[: 4 * count] = change.view(np.uint8)
    bitmap = np.full((count + 7) // 8 + 8, SENTINEL, np.uint8)
    output = np.zeros(8 * count + 64, np.uint8)
    kind = PRECISIONS.index(precision)
    where = (output.ctypes.data, step or len(output))
    size = c.call_encode(
        *(room.ctypes.data, count, entries, kind, words, bitmap.ctypes.data, *where)
    )
    assert (room[4 * count :] == SENTINEL).all()
    assert (bitmap[(count + 7) // 8 :] == SENTINEL).all()
    return output[:size].tobytes()
