"""The board ports: the line, time, resets, faults, the watchdog; and what the images look like.

The programs are firmware/checks/{uart,sensor,watchdog}_check.c. QEMU's mps2-an386 and the host keep
the same promises, so both run the same tests.
"""

import os
import random
import socket
import struct
import subprocess
import threading
import time
import tomllib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from mcu_bridge.cli.program_image import program_image
from mcu_bridge.device import Device
from mcu_bridge.emulator import serial_command
from mcu_bridge.lines.descriptor import DescriptorLine
from mcu_bridge.selftest import run_selftest
from mcu_bridge.signal_generator import SignalGenerator

FIRMWARE = Path(__file__).resolve().parents[2] / "mcu_bridge/firmware"
NEEDED = [
    pytest.mark.needs_package("gcc-arm-none-eabi", command="arm-none-eabi-gcc"),
    pytest.mark.needs_package("qemu-system-arm", command="qemu-system-arm"),
]
pytestmark = NEEDED
TIMEOUT_S = 30.0

# MUST match firmware/port/port.h and the programs of firmware/checks
RECEIVE_RING, SEND_RING = 1024, 512
POWER, SOFTWARE, WATCHDOG, FAULT = range(4)
FAULT_MAGIC, REPORT_MARK = 0x324C4146, 0x54504552
WATCHDOG_S = 8.0
DEAF_BYTES = 1000
SENSOR_SAMPLES = 8
LAST_WORDS = b"leaving"
REPORT = struct.Struct("<11I8s")

RAM, RAM_END = 0x20000000, 0x20040000
STACKING_FAILED = 1 << 4  # CFSR
NO_SUCH_WRITE = (1 << 1) | (1 << 7)  # CFSR: a data access that a region forbids, and its address
SIGSEGV = 11

Run = Callable[..., "Board"]


@dataclass(frozen=True)
class Report:
    """What watchdog_check knows of the run before."""

    cause: int
    fault: bool
    reason: int
    hard: int
    address: int
    pc: int
    milliseconds: int
    stack: int
    lost: int
    unique_id: bytes


class Board:
    """A running program and its line."""

    def __init__(self, line: socket.socket) -> None:
        self.line = line
        self.line.settimeout(TIMEOUT_S)
        self.asked = 0

    def read(self, count: int, timeout_s: float = TIMEOUT_S) -> bytes:
        """Exactly so many bytes; raises TimeoutError."""
        data = b""
        self.line.settimeout(timeout_s)
        while len(data) < count:
            part = self.line.recv(count - len(data))
            assert part, "the program ended"
            data += part
        return data

    def report(self) -> Report:
        """Ask until the board answers this question: bytes are lost while it resets."""
        end = time.monotonic() + TIMEOUT_S
        while time.monotonic() < end:
            self.asked = (self.asked + 1) % 10
            self.line.sendall(b"%d?" % self.asked)
            with suppress(TimeoutError):
                while True:
                    mark, digit, cause, magic, *numbers, unique_id = REPORT.unpack(
                        self.read(REPORT.size, 0.5)
                    )
                    assert mark == REPORT_MARK
                    if digit == ord("0") + self.asked:
                        return Report(cause, magic == FAULT_MAGIC, *numbers, unique_id)
        raise AssertionError("the board does not answer")

    def farewell(self) -> None:
        """Read the last words, and what still came before them."""
        data = b""
        while not data.endswith(LAST_WORDS):
            data += self.read(1)

    def after(self, command: bytes) -> Report:
        """What the board says of itself once it came back from a command that ends its run."""
        self.line.sendall(command)
        if command == b"s":
            self.farewell()
        time.sleep(0.3)
        return self.report()


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with all that the firmware's Makefile builds."""
    folder = tmp_path_factory.mktemp("firmware")
    command = ["make", "-s", "-C", str(FIRMWARE), f"BUILD={folder}", "all", "host-checks"]
    command.append("behind-bootloader")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


@contextmanager
def started(command: list[str], line: socket.socket, *inherited: socket.socket) -> Iterator[None]:
    files = [end.fileno() for end in inherited]
    process = subprocess.Popen(
        ["setpriv", "--pdeathsig", "KILL", *command], stdin=line, stdout=line, pass_fds=files
    )
    try:
        yield
    finally:
        process.kill()
        process.wait()


@contextmanager
def on_mps2_an386(programs: Path, name: str, *options: str) -> Iterator[Board]:
    ours, theirs = socket.socketpair()
    control, control_theirs = socket.socketpair()
    program = programs / f"mps2_an386/{name}.elf"
    command = serial_command(program, theirs.fileno(), control_theirs.fileno(), UNIQUE_ID)
    command += options
    with ours, control, started(command, theirs, theirs, control_theirs):
        theirs.close()
        control_theirs.close()
        yield Board(ours)


def behind_bootloader(programs: Path, name: str) -> AbstractContextManager[Board]:
    """The program that a bootloader starts, which leaves everything in disorder at each reset."""
    image = program_image(programs / f"mps2_an386/behind/{name}.elf")  # as bossac takes it
    loader = f"loader,file={image.binary},addr={image.start:#x},force-raw=on"
    return on_mps2_an386(programs, "bad_bootloader", "-device", loader)


@contextmanager
def on_host(programs: Path, name: str, *options: str) -> Iterator[Board]:
    ours, theirs = socket.socketpair()
    with ours, started([str(programs / "host" / name), *options], theirs):
        theirs.close()
        yield Board(ours)


UNIQUE_ID = bytes(range(1, 9))
PORTS = {"mps2_an386": on_mps2_an386, "host": on_host}
WITH_AN_ID = {"mps2_an386": (), "host": ("--id", UNIQUE_ID.hex())}
LOSING = {"mps2_an386": (), "host": ("--lose-bytes",)}  # as a real line loses them


@pytest.fixture(params=PORTS)
def port(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def run(port: str, programs: Path) -> Run:
    """Starts a program on the port: a context manager that gives a Board."""
    return lambda name, *options: PORTS[port](programs, name, *options)


def echoed(board: Board, data: bytes, pause_s: float = 0.0) -> bytes:
    """What comes back of `data`, never more than the ring holds being under way."""
    back = b""
    sent = 0
    while len(back) < len(data):
        until = min(len(back) + RECEIVE_RING, len(data))
        board.line.sendall(data[sent:until])
        sent = until
        time.sleep(pause_s)
        back += board.line.recv(RECEIVE_RING)
    return back


@pytest.mark.parametrize("pause_s", [0.0, 0.02], ids=["read at once", "read slowly"])
def test_the_line_keeps_all_bytes_of_a_window(run: Run, pause_s: float) -> None:
    data = random.Random(1).randbytes(24_000)
    with run("uart_check") as board:
        assert echoed(board, data, pause_s) == data


def test_each_value_of_a_byte_passes(run: Run) -> None:
    data = bytes(range(256)) + bytes(range(255, -1, -1))
    with run("uart_check") as board:
        assert echoed(board, data) == data


def test_what_the_ring_has_no_room_for_is_lost_and_counted(run: Run, port: str) -> None:
    with run("watchdog_check", *LOSING[port]) as board:
        board.report()
        board.line.sendall(b"d")
        time.sleep(0.2)
        board.line.sendall(b"." * (RECEIVE_RING + DEAF_BYTES))
        time.sleep(0.5)
        assert board.report().lost == DEAF_BYTES


def test_the_host_loses_nothing_unless_asked(programs: Path) -> None:
    data = random.Random(2).randbytes(100_000)
    with on_host(programs, "uart_check") as board:
        sender = threading.Thread(target=board.line.sendall, args=(data,))
        sender.start()
        assert board.read(len(data)) == data
        sender.join()


def test_the_host_ends_with_its_line(programs: Path) -> None:
    command = [programs / "host/uart_check"]
    done = subprocess.run(command, input=b"all of it", capture_output=True, timeout=5, check=False)
    assert (done.returncode, done.stdout) == (0, b"all of it")


@pytest.mark.parametrize("arguments", [["--id", "12"], ["--id"], ["--verbose"], ["--after", "x"]])
def test_the_host_refuses_what_it_does_not_know(programs: Path, arguments: list[str]) -> None:
    command = [programs / "host/uart_check", *arguments]
    done = subprocess.run(command, input="", capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("usage: ")


def test_power_is_the_first_cause(run: Run) -> None:
    with run("watchdog_check") as board:
        report = board.report()
    assert (report.cause, report.fault) == (POWER, False)


def test_a_board_has_the_id_that_it_was_given(run: Run, port: str) -> None:
    with run("watchdog_check", *WITH_AN_ID[port]) as board:
        assert board.report().unique_id == UNIQUE_ID
        assert board.after(b"s").unique_id == UNIQUE_ID


def test_time_goes_on_across_the_counters_end(run: Run) -> None:
    """The counter of 24 bits wraps every 0.67 s on mps2_an386."""
    with run("watchdog_check") as board:
        before, start = board.report().milliseconds, time.monotonic()
        seen = [before]
        while time.monotonic() - start < 2.5:
            seen.append(board.report().milliseconds)
        passed = 1000 * (time.monotonic() - start)
    assert seen == sorted(seen)
    assert passed - 250 < seen[-1] - before <= passed + 50


def test_a_software_reset_comes_after_the_last_byte_left(run: Run) -> None:
    with run("watchdog_check") as board:
        report = board.after(b"s")
    assert (report.cause, report.fault) == (SOFTWARE, False)


def test_a_fault_resets_and_its_record_can_be_read(run: Run, port: str, programs: Path) -> None:
    with run("watchdog_check") as board:
        report = board.after(b"f")
        later = board.after(b"s")
    assert (report.cause, report.fault, report.address) == (FAULT, True, 16)
    assert (later.cause, later.fault, later.pc) == (SOFTWARE, True, report.pc)
    if port == "mps2_an386":
        assert (report.reason, report.hard) == (NO_SUCH_WRITE, 0)
        assert within("break_a_rule", report.pc, programs)
    else:
        assert report.reason == SIGSEGV


def test_an_overflow_of_the_stack_resets(run: Run, port: str) -> None:
    with run("watchdog_check") as board:
        report = board.after(b"o")
    assert (report.cause, report.fault) == (FAULT, True)
    if port == "mps2_an386":
        assert report.reason & STACKING_FAILED
        assert report.pc == 0  # it was to be pushed where no stack was left
        assert not RAM <= report.address < RAM_END or report.address < RAM + 32


def test_a_hang_ends_by_the_watchdog(run: Run, port: str, programs: Path) -> None:
    """With interrupts held, so nothing else gets through."""
    with run("watchdog_check") as board:
        board.report()
        start = time.monotonic()
        report = board.after(b"h")
        took = time.monotonic() - start
    assert report.cause == WATCHDOG
    assert WATCHDOG_S - 0.5 < took < WATCHDOG_S + 3
    if port == "mps2_an386":
        assert (report.fault, report.reason, report.address) == (True, 0, 0)
        assert within("hang", report.pc, programs)


def test_a_board_that_waits_feeds_its_watchdog(run: Run) -> None:
    with run("watchdog_check") as board:
        board.report()
        time.sleep(WATCHDOG_S + 1)
        report = board.report()
    assert report.cause == POWER
    assert report.milliseconds > 1000 * WATCHDOG_S


def test_a_program_behind_a_bad_bootloader_starts_as_after_a_reset(programs: Path) -> None:
    with behind_bootloader(programs, "watchdog_check") as board:
        report = board.report()
        time.sleep(3)  # the bootloader's watchdog had 2 s
        later = board.report()
    assert (report.cause, report.fault) == (POWER, False)
    assert report.unique_id == UNIQUE_ID
    assert later.cause == POWER
    assert later.milliseconds >= report.milliseconds + 2500


@pytest.mark.parametrize(
    ("command", "cause", "fault"),
    [(b"s", SOFTWARE, False), (b"f", FAULT, True), (b"o", FAULT, True), (b"h", WATCHDOG, True)],
)
def test_why_a_program_was_reset_gets_past_the_bootloader(
    programs: Path, command: bytes, cause: int, fault: bool
) -> None:
    with behind_bootloader(programs, "watchdog_check") as board:
        board.report()
        report = board.after(command)
        again = board.after(b"s")
    assert (report.cause, report.fault) == (cause, fault)
    assert (again.cause, again.fault, again.pc) == (SOFTWARE, fault, report.pc)


async def test_training_behind_a_bad_bootloader_gives_the_same_bits(programs: Path) -> None:
    """Its modes of rounding and flushing are not kept."""
    with behind_bootloader(programs, "tinyfleet") as board:
        line = DescriptorLine("behind", os.dup(board.line.fileno()), "it has ended")
        async with await Device.connect(line) as device:
            report = await run_selftest(device, transfers=2)
    assert report.passed
    assert [training.same_bits for training in report.trainings] == [True, True]


@pytest.mark.parametrize(("inputs", "outputs"), [(5, 3), (1, 1), (4, 1), (64, 64)])
@pytest.mark.parametrize("seed", [0, 20_260_101, 2**32 - 1])
def test_the_sensor_gives_the_bits_of_its_twin(
    run: Run, seed: int, inputs: int, outputs: int
) -> None:
    with run("sensor_check") as board:
        board.line.sendall(struct.pack("<IHH", seed, inputs, outputs))
        data = board.read(SENSOR_SAMPLES * (inputs + outputs) * 4)
    there = np.frombuffer(data, "<f4").reshape(SENSOR_SAMPLES, inputs + outputs)
    here = SignalGenerator(seed).samples(SENSOR_SAMPLES, inputs, outputs)
    assert np.hstack([here.inputs, here.targets]).tobytes() == there.tobytes()


def symbols(program: Path) -> dict[str, tuple[int, int]]:
    """Where each symbol with a size is, and its size."""
    command = ["arm-none-eabi-nm", "--print-size", program]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    rows = [line.split() for line in out.splitlines()]
    return {row[3]: (int(row[0], 16), int(row[1], 16)) for row in rows if len(row) == 4}


def places(program: Path) -> dict[str, int]:
    """Where all symbols are, those of the linker script too."""
    out = subprocess.run(
        ["arm-none-eabi-nm", program], capture_output=True, text=True, check=True
    ).stdout
    return {row[2]: int(row[0], 16) for row in map(str.split, out.splitlines()) if len(row) == 3}


def within(name: str, pc: int, programs: Path) -> bool:
    at, size = symbols(programs / "mps2_an386/watchdog_check.elf")[name]
    return at <= pc < at + size


def vectors(program: Path, folder: Path) -> list[int]:
    """The words at the start of the flash."""
    binary = folder / "image.bin"
    command = ["arm-none-eabi-objcopy", "-O", "binary", "-j", ".text", program, binary]
    subprocess.run(command, check=True)
    return [word for (word,) in struct.iter_unpack("<I", binary.read_bytes()[: 4 * (16 + 48)])]


INTERRUPTS = {
    "mps2_an386": {0: "on_uart_received", 1: "on_uart_sent", 12: "on_uart_overrun"},
    "nrf52840": {2: "on_uarte", 9: "on_timer"},
    "nano33ble": {2: "on_uarte", 9: "on_timer"},
}
IRQS = {"mps2_an386": 13, "nrf52840": 48, "nano33ble": 48}
FLASH_START = {"mps2_an386": 0, "nrf52840": 0, "nano33ble": 0x10000}
FLASH_END = 0x100000


@pytest.mark.parametrize("board", INTERRUPTS)
def test_a_boards_vectors_lead_where_they_should(
    programs: Path, tmp_path: Path, board: str
) -> None:
    program = programs / board / "tinyfleet.elf"
    at = {name: place for name, (place, _) in symbols(program).items()}
    words = vectors(program, tmp_path)
    assert places(program)["port_vectors"] == FLASH_START[board]
    assert FLASH_START[board] < at["port_reset"] < FLASH_END
    assert RAM < words[0] <= RAM_END
    assert words[0] % 8 == 0
    assert words[1] == at["port_reset"] | 1  # Thumb
    assert words[3] == words[4] == words[5] == words[6] == at["port_faulted"] | 1
    for irq in range(IRQS[board]):
        name = INTERRUPTS[board].get(irq)
        assert words[16 + irq] == (at[name] | 1 if name else 0)


def test_the_image_behind_a_bootloader_is_the_plain_one_elsewhere(
    programs: Path, tmp_path: Path
) -> None:
    """The same functions of the same sizes at the same distances; only the board's name differs."""
    plain, behind = (symbols(programs / b / "tinyfleet.elf") for b in ("nrf52840", "nano33ble"))
    assert plain.keys() == behind.keys()
    for name, (at, size) in plain.items():
        moved = FLASH_START["nano33ble"] if at < FLASH_END else 0
        assert behind[name] == (at + moved, size), name


@pytest.mark.parametrize("board", INTERRUPTS)
def test_the_record_of_a_fault_lies_where_no_bootloader_writes(programs: Path, board: str) -> None:
    """Arduino's has its variables below 0x20009E14."""
    at = places(programs / board / "tinyfleet.elf")
    assert at["port_free_end"] <= at["port_fault"] < at["port_noinit_end"] == RAM_END
    assert RAM_END - at["port_free_end"] < 64


@pytest.mark.parametrize("board", INTERRUPTS)
def test_the_firmware_has_no_heap_and_no_semihosting(programs: Path, board: str) -> None:
    names = symbols(programs / board / "tinyfleet.elf").keys()
    assert not names & {"malloc", "_malloc_r", "free", "_sbrk", "printf", "host_open", "host_write"}
    assert {"learner_train_sample", "link_session_take", "port_wait", "port_fault"} <= names


def test_the_build_fails_beyond_the_budget(programs: Path, tmp_path: Path) -> None:
    for part in ("flash", "ram", "stack"):
        (tmp_path / "report_size.py").write_bytes((FIRMWARE / "report_size.py").read_bytes())
        budget = tomllib.loads((FIRMWARE / "budget.toml").read_text())["nrf52840"] | {part: 1000}
        rows = "\n".join(f"{name} = {most}" for name, most in budget.items())
        (tmp_path / "budget.toml").write_text(f"[nrf52840]\n{rows}\n")
        command = ["python3", tmp_path / "report_size.py", programs / "nrf52840/tinyfleet.elf"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert f"{part} takes" in done.stderr
        assert "its budget is 1,000 B" in done.stderr


def test_the_budget_is_the_promise() -> None:
    """40 KB of flash; 12 KB of RAM beside the model, 1,280 bytes of a layer table among them."""
    budgets = tomllib.loads((FIRMWARE / "budget.toml").read_text())
    assert budgets.keys() == INTERRUPTS.keys()
    for budget in budgets.values():
        assert budget["flash"] <= 40 * 1024
        assert budget["ram"] + 1280 <= 12 * 1024
        assert budget["stack"] <= budget["ram"]
