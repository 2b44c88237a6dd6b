"""The firmware's application on this machine, and a host that speaks to it without a line."""

import ctypes
import struct
import subprocess
import zlib
from ctypes import POINTER, c_char_p, c_int, c_size_t, c_uint32, c_void_p
from pathlib import Path

import numpy as np

from mcu_bridge.device.messages import CONFIGURE, READ, WRITE, Command, Region, Status
from mcu_bridge.link.frame import ACK, BLOCK, DATA, POLL, FrameReader, encode_frame
from tinyfleet.learner.layer_table import LOSS_CODES, layer_table
from tinyfleet.learner.native import load_library

FIRMWARE = Path(__file__).parents[4] / "mcu_bridge/firmware"
STRICT = ("-std=c99", "-ffp-contract=off")
WARNINGS = ("-Wall", "-Wextra", "-Werror", "-Wconversion", "-Wdouble-promotion")
AGAIN, ENDED = 1, 2


def build(path, *flags):
    """Compile the app, the link and the learner with `board.c` into `path`."""
    app = [source for source in FIRMWARE.glob("app/*.c") if source.name != "app.c"]
    others = [
        path for folder in ("codec", "link", "learner") for path in FIRMWARE.glob(f"{folder}/*.c")
    ]
    sources = [str(source) for source in (Path(__file__).with_name("board.c"), *app, *others)]
    command = ["gcc", *STRICT, *WARNINGS, *flags, f"-I{FIRMWARE}", *sources, "-o", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return path


def load(path):
    """The library at `path`; it has the learner's functions, too, so that both are one build."""
    library = load_library(path)
    library.board_open.restype = library.board_parameters.restype = c_void_p
    library.board_sent.restype = c_void_p
    library.board_work.restype = c_uint32
    signatures = {
        "board_open": (c_size_t,),
        "board_close": (c_void_p,),
        "board_has_sensor": (c_int,),
        "board_fault": (c_uint32,) * 5,
        "board_work": (c_void_p, c_uint32),
        "board_receive": (c_void_p, c_char_p, c_size_t),
        "board_sent": (c_void_p, POINTER(c_size_t)),
        "board_has_parameters": (c_void_p,),
        "board_resets_now": (c_void_p,),
        "board_parameters": (c_void_p,),
        "port_seed_sensor": (c_uint32,),
        "port_read_sample": (c_void_p, c_uint32, c_void_p, c_uint32),
    }
    for name, arguments in signatures.items():
        getattr(library, name).argtypes = arguments
    for name in ("board_close", "board_has_sensor", "board_fault", "board_receive"):
        getattr(library, name).restype = None
    return library


class Board:
    """One board. Nothing is lost on the way, and no time passes but in `work`."""

    def __init__(self, library, memory_bytes, boot_id=7):
        self.library = library
        self.device = library.board_open(memory_bytes)
        self.sequence = 65_534  # soon wraps
        self.reader = FrameReader()
        if boot_id:
            self.command(Command.IDENTIFY, struct.pack("<I", boot_id))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.library.board_close(self.device)

    # ---- frames ----

    def exchange(self, type, payload=b""):
        """The frames that the board sends for one of the host's, of the current sequence."""
        wire = encode_frame(int(type), self.sequence, payload)
        self.library.board_receive(self.device, wire, len(wire))
        return self.sent()

    def sent(self):
        """The frames that the board has sent since it was asked last."""
        count = c_size_t()
        bytes_at = self.library.board_sent(self.device, ctypes.byref(count))
        return list(self.reader.take(ctypes.string_at(bytes_at, count.value)))

    def command(self, type, payload=b""):
        """The response's payload."""
        self.sequence = (self.sequence + 1) % 65536
        (response,) = self.exchange(type, payload)
        assert (response.type, response.sequence) == (type | 0x80, self.sequence)
        return response.payload

    def status(self, type, payload=b""):
        return Status(self.command(type, payload)[0])

    def work(self, turns=1_000_000):
        """Turns of the main loop; returns how many had something to do."""
        return int(self.library.board_work(self.device, turns))

    # ---- transfers ----

    def send(self, data, start=0, blocks=None):
        """Send blocks of the open transfer, all or so many; returns the flags of the last ACK."""
        flags = 0
        offsets = range(start, len(data), BLOCK)
        for offset in offsets if blocks is None else offsets[:blocks]:
            payload = struct.pack("<I", offset) + data[offset : offset + BLOCK]
            frames = self.exchange(DATA, payload)
            assert {frame.type for frame in frames} == {ACK}
            flags = frames[-1].payload[8]
            if flags & ENDED:
                break
        return flags

    def receive(self, total):
        """All bytes of the open transfer."""
        frames = self.exchange(ACK, struct.pack("<IIB", 0, total, 0))
        assert [frame.type for frame in frames] == [DATA] * len(frames)
        return b"".join(frame.payload[4:] for frame in frames)

    def poll(self):
        """`(next, limit, flags)`, or the status of a refusal."""
        (answer,) = self.exchange(POLL)
        if answer.type == ACK:
            return struct.unpack("<IIB", answer.payload)
        return Status(answer.payload[0])

    # ---- what a test needs to get somewhere ----

    def write(self, region, data):
        """Write and commit all of `data`; the status of COMMIT."""
        assert self.status(Command.WRITE, WRITE.pack(region, 0, len(data))) == Status.OK
        self.send(data)
        return self.status(Command.COMMIT, struct.pack("<I", zlib.crc32(data)))

    def configure(self, spec, options=0, stored=0):
        """CONFIGURE's whole response, on the committed table of `spec`."""
        assert self.write(Region.TABLE, layer_table(spec)) == Status.OK
        request = CONFIGURE.pack(len(spec.layers), LOSS_CODES[spec.loss], options, stored)
        return self.command(Command.CONFIGURE, request)

    def prepare(self, spec, parameters, options=0, stored=0):
        """A model with its parameters."""
        assert self.configure(spec, options, stored)[0] == Status.OK
        assert self.write(Region.PARAMETERS, parameters.tobytes()) == Status.OK

    def read(self, region, length, offset=0):
        """The bytes, or the status of a refusal."""
        response = self.command(Command.READ, READ.pack(region, offset, length))
        if response[0] != Status.OK:
            return Status(response[0])
        crc32, total = struct.unpack("<4xII", response)
        data = self.receive(total)
        assert (total, zlib.crc32(data)) == (length, crc32)
        return data

    # ---- behind its back ----

    @property
    def has_parameters(self):
        return bool(self.library.board_has_parameters(self.device))

    def parameters(self, count):
        """The bits in the parameters' place."""
        return ctypes.string_at(self.library.board_parameters(self.device), 4 * count)

    def sensor_samples(self, seed, count, inputs, outputs):
        """What the sensor will give."""
        xs, ts = np.empty((count, inputs), np.float32), np.empty((count, outputs), np.float32)
        self.library.port_seed_sensor(seed)
        for x, t in zip(xs, ts, strict=True):
            self.library.port_read_sample(x.ctypes.data, inputs, t.ctypes.data, outputs)
        return xs, ts
