"""Streams of hostile frames under sanitizers: nothing outside of the board's memory is touched.

`board.c` is built as a program with AddressSanitizer and UndefinedBehaviorSanitizer; a board's
memory is one block of exactly its size. The streams are random, but most of their frames are ones
that a host could send.
"""

import random
import struct
import subprocess
import zlib

import pytest
from board import FrameReader, build
from networks import NETWORKS, draw_parameters

from mcu_bridge.device.messages import CONFIGURE, ENCODE, READ, RUN, WRITE, Command, Status
from mcu_bridge.link.frame import ACK, BLOCK, DATA, LAST_COMMAND, POLL, RESPONSE, encode_frame
from tinyfleet.learner.layer_table import LAYER, LOSS_CODES, layer_table

OPEN, RECEIVE, WORK = range(3)
SANITIZERS = (
    "-g",
    "-O1",
    "-fsanitize=address,undefined",
    "-fno-sanitize-recover=all",
    "-DBOARD_FUZZ",
)
SPECS = [NETWORKS[name] for name in ("one_dense", "tanh_mlp", "conv_padded", "depthwise")]
ODD_NUMBERS = (0, 1, 2, 3, 7, 63, 64, 65, 255, 256, 10**6, 10**6 + 1, 2**31, 2**32 - 4, 2**32 - 1)
ODD_FLOATS = (0.0, -1.0, 0.1, 10.0, 11.0, 1e-45, 3e38, float("inf"), float("nan"))


class Stream:
    """Records for the program, and how many responses they must bring."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.records = []
        self.sequence = 0
        self.commands = 0

    def record(self, kind, number, content=b""):
        self.records.append(struct.pack("<BI", kind, number) + content)

    def frame(self, type, payload):
        wire = encode_frame(type, self.sequence, payload)
        self.record(RECEIVE, len(wire), wire)

    def command(self, type, payload=b""):
        self.sequence = (self.sequence + 1) % 65536
        self.commands += 1
        self.frame(type, payload)

    def blocks(self, data):
        for offset in range(0, len(data), BLOCK):
            self.frame(DATA, struct.pack("<I", offset) + data[offset : offset + BLOCK])

    def number(self):
        wide = self.random.choice((4, 8, 16, 32))
        return self.random.choice((*ODD_NUMBERS, self.random.getrandbits(wide)))

    # ---- what a host does ----

    def open(self):
        self.record(OPEN, self.random.choice((0, 21, 1279, 4000, 16_000, 70_000)))
        self.sequence = self.number() % 65536
        self.command(Command.IDENTIFY, struct.pack("<I", 1))

    def write(self, region, data):
        self.command(Command.WRITE, WRITE.pack(region, self.random.random() < 0.3, len(data)))
        self.blocks(data if self.random.random() < 0.95 else data[:252])
        if self.random.random() < 0.9:
            self.command(Command.COMMIT, struct.pack("<I", zlib.crc32(data)))

    def table(self):
        rows = [
            LAYER.pack(
                self.random.randint(0, 10),
                *(self.random.choice((0, 0, 1, 2, 3, 255)) for _ in range(3)),
                *(self.random.choice((1, 1, 2, 8, 1024, 65535)) for _ in range(2)),
                self.number() % 2**32,
                *(self.random.choice((1, 1, 2, 8, 1024, 65535)) for _ in range(2)),
                self.number() % 2**32,
            )
            for _ in range(self.random.randint(1, 64))
        ]
        self.write(1, b"".join(rows))
        self.command(Command.CONFIGURE, CONFIGURE.pack(len(rows), 1, self.random.randint(0, 3), 0))

    def prepare(self, spec=None):
        spec = spec or self.random.choice(SPECS)
        self.write(1, layer_table(spec))
        options, stored = (
            self.random.randint(0, 3),
            self.random.choice((0, 1, 50, 10**6, 2**32 - 1)),
        )
        loss = LOSS_CODES[spec.loss]
        self.command(Command.CONFIGURE, CONFIGURE.pack(len(spec.layers), loss, options, stored))
        self.write(2, draw_parameters(spec, 1).tobytes())

    def phase(self):
        spec = self.random.choice(SPECS[: 1 + self.random.randint(0, 3)])
        if self.random.random() < 0.7:
            self.prepare(spec)
        samples = self.random.randint(1, 50)
        source, by_byte, by_class = self.random.choice((0, 0, 1)), *self.random.choices((0, 1), k=2)
        encodings = (source, by_byte, by_class)
        if self.random.random() < 0.3:
            self.command(
                Command.EVALUATE, RUN.pack(0, samples, 1, 1, 0.0, *encodings, 255.0, 1, 0.0)
            )
        else:
            batch = self.random.choice((1, 1, 2, samples, self.number()))
            passes = self.random.choice((1, 1, 3, self.number()))
            rate = self.random.choice((0.1, 0.1, *ODD_FLOATS))
            divisor = self.random.choice((1.0, 255.0, *ODD_FLOATS))
            pull = self.random.choice((0.0, 0.0, 1.0, *ODD_FLOATS))
            mask = self.random.getrandbits(64)
            request = RUN.pack(mask, samples, batch, passes, rate, *encodings, divisor, 1, pull)
            self.command(Command.TRAIN, request)
        target_bytes = 2 if by_class else 4 * spec.outputs
        self.samples(samples, spec.inputs if by_byte else 4 * spec.inputs, target_bytes)

    def samples(self, count, input_bytes, target_bytes):
        """What a host would send, seldom with targets that are no classes, or cut."""
        target = bytes(target_bytes) if self.random.random() < 0.9 else b"\xff" * target_bytes
        rows = (self.random.choice((0, 1, 127)) for _ in range(count))
        data = b"".join(bytes([row]) * input_bytes + target for row in rows)
        self.blocks(data if self.random.random() < 0.8 else data[: len(data) // 2])
        self.record(WORK, self.random.choice((0, 5, 100)))

    def read(self):
        spec = self.random.choice(SPECS)
        total = self.random.choice((spec.parameter_bytes, self.number()))
        offset = self.random.choice((0, 4, self.number() & ~3))
        region = self.random.choice((2, 5))
        self.command(Command.READ, READ.pack(region, offset, total))
        self.frame(ACK, struct.pack("<IIB", 0, self.number(), self.random.randint(0, 3)))

    def encode(self):
        layers = self.random.choice((2**64 - 1, self.random.getrandbits(64)))
        entries = self.random.choice((1, 3, 8, self.number()))
        precision = self.random.choice((0, 1, 2, self.number() & 0xFF))
        noise = (self.random.getrandbits(64) for _ in range(4))
        self.command(Command.ENCODE, ENCODE.pack(layers, entries, precision, *noise))

    def anything(self):
        command = self.random.choice((*Command, self.random.randint(1, 0x3F)))
        if command != Command.RESET:  # the board answers it, then it would be another one
            length = self.random.choice((0, 4, 8, 12, 40, 48, self.random.randint(0, 256)))
            self.command(command, self.random.randbytes(length))

    def noise(self):
        self.frame(
            self.random.choice((DATA, ACK, POLL)),
            self.random.randbytes(self.random.randint(0, 256)),
        )

    def ask(self):
        self.command(self.random.choice((Command.RESULT, Command.COUNTERS)))

    def play(self, length):
        self.open()
        steps = (self.prepare, self.phase, self.phase, self.read, self.encode, self.anything)
        for _ in range(length):
            self.random.choice((*steps, self.table, self.noise, self.ask))()


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    return build(tmp_path_factory.mktemp("fuzz") / "board", *SANITIZERS)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(4))
def test_hostile_frames_stay_within_the_boards_memory(program, seed, part):
    stream = Stream(seed + part)
    for _ in range(100):
        stream.play(length=40)
    done = subprocess.run(
        [program], input=b"".join(stream.records), capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    reader = FrameReader()
    frames = reader.take(done.stdout)
    responses = [frame for frame in frames if RESPONSE < frame.type <= RESPONSE + LAST_COMMAND]
    assert not reader.counters.corrupt
    assert len(responses) == stream.commands
    statuses = [Status(frame.payload[0]) for frame in responses]
    assert set(statuses) >= set(Status) - {
        Status.NOT_IDENTIFIED,
        Status.NO_SENSOR,
        Status.NO_TRANSFER,
    }
