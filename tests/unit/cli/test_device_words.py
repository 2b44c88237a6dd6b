"""What `tinyfleet device` makes of a board's numbers: faults, frames, images, ports, noise."""

import struct
import sys
import types

import pytest

from mcu_bridge.cli.fault_words import fault_in_words, host_fault_in_words
from mcu_bridge.cli.frames import SeenFrame, WatchedLine
from mcu_bridge.cli.presence import _port, serial_ports
from mcu_bridge.cli.program_image import segments
from mcu_bridge.cli.selftest import noise_of
from mcu_bridge.device.identity import Fault
from mcu_bridge.link.frame import ACK, DATA, POLL, RESPONSE, Frame, encode_frame
from mcu_bridge.noise import Noise
from tinyfleet.errors import InvalidInput


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (
            Fault(0x82, 0x4000_0000, 0x2004_0000, 0x1234),
            (
                "memory was read or written that the protection forbids, at address 0x20040000, "
                "by the instruction at 0x00001234"
            ),
        ),
        (
            Fault(1 << 16, 0x4000_0000, 0, 0x44),
            "an instruction is none that the processor has, by the instruction at 0x00000044",
        ),
        (
            Fault(1 << 4, 0, 0, 0),
            "the stack overflowed when an exception came",
        ),
        (Fault(0, 2, 0, 0), "the vector table could not be read"),
        (
            Fault(0, 0, 0, 0x88),
            "it hung until the watchdog reset it, by the instruction at 0x00000088",
        ),
        (Fault(0, 1 << 20, 0, 0), "unknown, CFSR 0x00000000, HFSR 0x00100000"),
    ],
)
def test_a_fault_is_said_in_words(fault, words):
    assert fault_in_words(fault) == words


def test_the_host_s_fault_is_a_signal():
    assert host_fault_in_words(Fault(11, 0, 0x10, 0)) == (
        "the process got SIGSEGV, at address 0x00000010"
    )


@pytest.mark.parametrize(
    ("type", "payload", "kind", "content"),
    [
        (0x01, struct.pack("<I", 0x01020304), "IDENTIFY", "04030201"),
        (0x0A | RESPONSE, bytes(4) + b"\x07\0\0\0", "COUNTERS answer", "OK 07000000"),
        (0x02 | RESPONSE, bytes([7, 0, 0, 0]), "CONFIGURE answer", "DOES_NOT_FIT"),
        (0x02 | RESPONSE, bytes([99, 0, 0, 0]), "CONFIGURE answer", "status 99"),
        (DATA, struct.pack("<I", 252) + bytes(252), "DATA", "bytes 252 to 504"),
        (ACK, struct.pack("<IIB", 252, 1008, 3), "ACK", "next 252 limit 1,008 again ended"),
        (POLL, b"", "POLL", ""),
        (POLL | RESPONSE, b"\x0b\0\0\0", "POLL answer", "NO_TRANSFER"),
        (0x33, b"", "type 0x33", ""),
        (0x03, bytes(20), "WRITE", " ".join(["00000000"] * 4) + " ..."),
    ],
)
def test_a_frame_is_shown_in_words(type, payload, kind, content):
    seen = SeenFrame(to_board=True, frame=Frame(1, type, 5, payload))
    assert (seen.kind, seen.content) == (kind, content)


class Echo:
    """A line that gives back what was written to it, a byte at a time."""

    name = "echo"

    def __init__(self):
        self.waiting = b""
        self.closed = False

    async def read(self):
        first, self.waiting = self.waiting[:1], self.waiting[1:]
        return first

    async def write(self, data):
        self.waiting += data

    async def close(self):
        self.closed = True


async def test_whole_frames_are_shown_once_and_bytes_pass_unchanged():
    shown, echo = [], Echo()
    line = WatchedLine(echo, shown.append)
    wire = encode_frame(POLL, 3, b"") + b"rubbish\0" + encode_frame(DATA, 4, bytes(8))
    await line.write(wire)
    assert b"".join([await line.read() for _ in wire]) == wire
    assert [(seen.to_board, seen.frame.sequence) for seen in shown] == [
        (True, 3),
        (True, 4),
        (False, 3),
        (False, 4),
    ]
    assert line.received.counters.malformed + line.received.counters.corrupt == 1
    await line.close()
    assert echo.closed


def elf(*headers):
    head = bytearray(52)
    head[:6] = b"\x7fELF\x01\x01"
    struct.pack_into("<I", head, 28, 52)
    struct.pack_into("<HH", head, 42, 32, len(headers))
    return bytes(head) + b"".join(struct.pack("<8I", *header) for header in headers)


CODE = (1, 0x1000, 0, 0, 9_000, 9_000, 5, 4)
DATA_SEGMENT = (1, 0x4000, 0x2000_2000, 9_000, 100, 300, 6, 4)
STACK = (1, 0, 0x2000_0000, 0x2000_0000, 0, 8_192, 6, 4)


def test_an_image_s_flash_and_ram_are_those_of_its_segments():
    flash, ram = segments(elf(CODE, DATA_SEGMENT, STACK, (4, 0, 0, 0, 9, 9, 0, 0)), "x.elf")
    assert flash == [(0, 9_000), (9_000, 100)]
    assert ram == [(0x2000_2000, 300), (0x2000_0000, 8_192)]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "x.elf is not a program for a 32-bit board; build it anew"),
        (b"\x7fELF\x02\x01" + bytes(60), "is not a program for a 32-bit board"),
        (elf(CODE)[:60], "x.elf ends too early; build it anew"),
        (elf(CODE)[:20], "x.elf ends too early; build it anew"),
        (elf(STACK), "x.elf holds nothing for a board's flash"),
    ],
)
def test_a_file_that_is_no_image_is_refused(data, message):
    with pytest.raises(InvalidInput, match=message):
        segments(data, "x.elf")


def test_ports_are_found_without_pyserial(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "serial.tools.list_ports", None)
    for name in ("ttyUSB1", "ttyACM0", "tty0", "ttyS0"):
        (tmp_path / name).touch()
    assert [path.rpartition("/")[2] for path, _ in serial_ports(tmp_path)] == ["ttyACM0", "ttyUSB1"]


def test_a_bootloader_is_listed_as_what_it_is_and_never_asked(monkeypatch):
    ports = types.SimpleNamespace(
        comports=lambda: [
            types.SimpleNamespace(device=device, vid=vid, pid=pid, description=text)
            for device, vid, pid, text in [("/dev/ttyACM0", 0x2341, 0x005A, "Nano 33 BLE")]
        ]
    )
    monkeypatch.setitem(sys.modules, "serial.tools.list_ports", ports)
    ((device, what),) = serial_ports()
    assert what == "Nano 33 BLE in its bootloader"
    found = _port(device, what, probe=True)
    assert found.state == "to be flashed: tinyfleet device flash serial:///dev/ttyACM0"


def test_noise_is_said_as_people_say_it():
    assert noise_of("ber=1e-4, drop=0.001,delay=0.01,baud=115200,seed=3") == Noise(
        flip=1e-4, drop=0.001, delay_s=0.01, baud=115_200, seed=3
    )


@pytest.mark.parametrize("text", ["ber=x", "bre=1", "ber=0.9", "baud=1.5", "ber"])
def test_noise_that_cannot_be_is_refused_by_name(text):
    with pytest.raises(InvalidInput, match=r"flip|bre|baud"):
        noise_of(text)
