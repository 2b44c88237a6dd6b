"""How many cycles a Cortex-M4F would take: QEMU's exact instructions, weighted by the manual.

Nothing here has been timed on a chip. QEMU runs the firmware's `learner_check` one instruction at a
time and logs each address, so that the mix is exact: what was executed, which branches were taken,
what came right after what. Only what lies between the two readings of the clock around each sample
counts, as in `learner_check`'s own count, which must agree.

Cycles: Arm, Cortex-M4 Technical Reference Manual (DDI 0439), tables 3-1 and 7-1 and section 3.3.3,
read in Texas Instruments' reprint (SWCU192, tables 3-25 and 3-27) and SWCU185 on load/store timing.
That the result of a floating-point operation costs a cycle more where the next instruction consumes
it is a footnote of table 7-1 as recalled. Where the manual leaves a range, three readings:

                                              low      estimate       high
    P, the refill after a taken branch          1             2          3
    LDR or STR right after an LDR         1 cycle       1 cycle          2
    STR with a constant offset            1 cycle       1 cycle          2
    the same, with a VLDR or VSTR         1 cycle             2          2
    UDIV, SDIV                                  2             7         12
    IT                                   0 (folded)           1          1
    address from the operation before           0            +1         +1
    float result consumed by the next           0            +1         +1

VDIV and VSQRT take 14 and are waited for. An instruction that a condition suppresses counts as if
it were executed. Assumed: no wait states, that is code in the flash's cache and data in RAM that
nothing else is using; no interrupts.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from mcu_bridge.emulator import INSTRUCTIONS_PER_TICK, PROGRAM, emulator_command
from mcu_bridge.learner_check import case_to_bytes
from tinyfleet.learner.protocol import Samples
from tinyfleet.model.spec import ModelSpec, Parameters
from tinyfleet.strategies.plan import Phase

CLOCK = "port_ticks"  # the function around whose calls learner_check counts
_LINE = re.compile(r"^ +([0-9a-f]+):\t(\S+)(?:\t([^@;<]*))?")
_TRACE = b"Trace "
_CONDITIONS = ("eq", "ne", "cs", "cc", "mi", "pl", "vs", "vc", "hi", "ls", "ge", "lt", "gt", "le")
_BRANCHES = {"b", "bl", "bx", "blx", "cbz", "cbnz", *(f"b{c}" for c in _CONDITIONS)}
_REGISTER = re.compile(r"\b(?:r\d+|sl|fp|ip|sp|lr|pc)\b")
_FLOATS = re.compile(r"\b([sd])(\d+)(?:-[sd](\d+))?\b")
_SLOW = ("vmla", "vmls", "vnmla", "vnmls", "vfma", "vfms", "vfnm")
_ARITHMETIC = ("vadd", "vsub", "vmul", "vnmul", "vneg", "vabs", "vcvt", *_SLOW)


@dataclass(frozen=True)
class Reading:
    """One reading of the manual's ranges; all in cycles."""

    refill: int
    integer_pipelined: bool
    float_pipelined: bool
    store: int
    divide: int
    it: int
    stall: int


LOW = Reading(1, True, True, 1, 2, 0, 0)
ESTIMATE = Reading(2, True, False, 1, 7, 1, 1)
HIGH = Reading(3, False, False, 2, 12, 1, 1)


@dataclass(frozen=True)
class Instruction:
    """One instruction of the program. `after`: the address that follows it."""

    after: int
    name: str
    operands: str

    @cached_property
    def kind(self) -> str:
        """Its row in the mix."""
        for kind, prefixes in _KINDS.items():
            if self.name.startswith(prefixes):
                return kind
        if self.name in _BRANCHES:
            return "branch"
        return "float move or compare" if self.name.startswith("v") else "integer"

    @cached_property
    def is_float(self) -> bool:
        return self.name.startswith("v")

    @cached_property
    def words(self) -> int:
        """Registers that a load or store of several moves, counted in words."""
        if self.name.startswith(("ldrd", "strd")):
            return 2
        listed = self.operands[self.operands.find("{") :] if "{" in self.operands else self.operands
        return len(_float_registers(listed)) if self.is_float else len(_REGISTER.findall(listed))

    @cached_property
    def address(self) -> frozenset[str]:
        """Registers of the address of a load or store."""
        if "[" in self.operands:
            return frozenset(_REGISTER.findall(self.operands[self.operands.find("[") :]))
        if self.kind == "several loaded or stored" and "{" in self.operands:
            before = self.operands[: self.operands.find("{")]
            return frozenset(_REGISTER.findall(before) or ["sp"])
        return frozenset()

    @cached_property
    def result(self) -> frozenset[str]:
        """The core register that an operation, or a load, leaves."""
        first = self.operands.partition(",")[0]
        if self.is_float or self.kind in ("branch", "store") or self.name.startswith(_FLAGS_ONLY):
            return frozenset()
        return frozenset(_REGISTER.findall(first))

    @cached_property
    def float_result(self) -> frozenset[int]:
        """What an arithmetic floating-point instruction leaves."""
        if self.kind not in ("float arithmetic", "float division"):
            return frozenset()
        return frozenset(_float_registers(self.operands.partition(",")[0]))

    @cached_property
    def float_sources(self) -> frozenset[int]:
        """What a floating-point instruction consumes."""
        if not self.is_float or self.name.startswith(("vldr", "vldm", "vpop")):
            return frozenset()
        takes_all = self.name.startswith(("vst", "vpush", "vcmp", *_SLOW))
        sources = self.operands if takes_all else self.operands.partition(",")[2]
        return frozenset(_float_registers(sources))


_KINDS = {
    "several loaded or stored": (
        "ldm",
        "stm",
        "push",
        "pop",
        "ldrd",
        "strd",
        "vldm",
        "vstm",
        "vpush",
        "vpop",
    ),
    "load": ("ldr", "vldr"),
    "store": ("str", "vstr"),
    "table branch": ("tbb", "tbh"),
    "if-then": ("it",),
    "float division": ("vdiv", "vsqrt"),
    "float arithmetic": _ARITHMETIC,
    "division": ("udiv", "sdiv"),
}
_FLAGS_ONLY = ("cmp", "cmn", "tst", "teq")


def _float_registers(text: str) -> list[int]:
    """Numbers of the single registers named in `text`: d1 is s2 and s3."""
    found: list[int] = []
    for letter, first, last in _FLOATS.findall(text):
        width = 2 if letter == "d" else 1
        found += range(int(first) * width, (int(last or first) + 1) * width)
    return found


def disassemble(program: Path) -> dict[int, Instruction]:
    """Every instruction of an ELF, by its address."""
    command = ["arm-none-eabi-objdump", "-d", "--no-show-raw-insn", str(program)]
    text = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    found = [match.groups() for match in map(_LINE.match, text.splitlines()) if match]
    starts = [int(address, 16) for address, _, _ in found]
    ends = [*starts[1:], starts[-1] + 4]
    return {
        start: Instruction(end, name.partition(".")[0], (operands or "").strip())
        for start, end, (_, name, operands) in zip(starts, ends, found, strict=True)
    }


def function(program: Path, name: str) -> range:
    """The addresses of a function of an ELF."""
    command = ["arm-none-eabi-nm", "-S", str(program)]
    text = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    for line in text.splitlines():
        fields = line.split()
        if len(fields) == 4 and fields[3] == name:
            return range(int(fields[0], 16), int(fields[0], 16) + int(fields[1], 16))
    raise SystemExit(f"{program.name} has no function {name}")


def _one_at_a_time() -> list[str]:
    """QEMU's option to take each instruction alone; it was renamed in 8.1."""
    text = subprocess.run([PROGRAM, "--version"], check=True, stdout=subprocess.PIPE, text=True)
    version = re.search(r"version (\d+)\.(\d+)", text.stdout)
    assert version is not None, f"{PROGRAM} does not tell its version"
    new = (int(version[1]), int(version[2])) >= (8, 1)
    return ["-accel", "tcg,one-insn-per-tb=on"] if new else ["-singlestep"]


def _executed(log: Iterable[bytes]) -> Iterator[int]:
    """Addresses in order. A line that is no trace says that the one before was not executed."""
    held = None
    for line in log:
        if not line.startswith(_TRACE):
            held = None
            continue
        if held is not None:
            yield held
        held = int(line.split(b"/", 2)[1], 16)
    if held is not None:
        yield held


def _count_pairs(addresses: Iterable[int], clock: range) -> tuple[Counter[tuple[int, int]], int]:
    """What was executed, each with what came after it, while the clock had been read once of twice.

    Returns the pairs and how often the clock was read.
    """
    pairs: Counter[tuple[int, int]] = Counter()
    readings, before = 0, None
    for address in addresses:
        if address in clock:
            readings += address == clock.start
            inside = False
        else:
            inside = readings % 2 == 1
        if before is not None:
            pairs[before, address] += 1
        before = address if inside else None
    return pairs, readings


@dataclass(frozen=True)
class Traced:
    """Executed pairs of a training, and the program they are of."""

    pairs: Counter[tuple[int, int]]
    program: dict[int, Instruction]

    @property
    def instructions(self) -> int:
        return self.pairs.total()

    def mix(self) -> dict[str, float]:
        """The share of each kind; they sum to 1."""
        kinds: Counter[str] = Counter()
        for (address, after), count in self.pairs.items():
            instruction = self.program[address]
            kind = instruction.kind
            if kind == "branch":
                kind = "branch not taken" if after == instruction.after else "branch taken"
            kinds[kind] += count
        return {kind: count / self.instructions for kind, count in kinds.most_common()}

    def cycles_per_instruction(self, reading: Reading) -> float:
        program = self.program
        cycles = 0
        for (address, after), count in self.pairs.items():
            one, next_one = program[address], program[after]
            taken = after != one.after
            cycles += count * (own_cycles(one, taken, reading) + between(one, next_one, reading))
        return cycles / self.instructions


def own_cycles(one: Instruction, taken: bool, reading: Reading) -> int:
    """What an instruction takes by itself; `taken`: the next one executed does not follow it."""
    refill = reading.refill if taken else 0
    simple = {
        "float division": 14,
        "division": reading.divide,
        "if-then": reading.it,
        "load": 2,
        "table branch": 2,
        "several loaded or stored": 1 + one.words,
    }
    if one.kind in simple:
        return simple[one.kind] + refill
    if one.kind == "store":
        with_offset_register = len(one.address) > 1
        return 2 if one.is_float or with_offset_register else reading.store
    if one.name.startswith(_SLOW):
        return 3
    return 1 + refill


def between(one: Instruction, next_one: Instruction, reading: Reading) -> int:
    """What the next instruction takes more, or less, for coming right after this one."""
    more = 0
    if one.float_result & next_one.float_sources:
        more += reading.stall
    depends = bool(one.result & next_one.address)
    if depends and one.kind in ("integer", "division"):
        more += reading.stall
    if one.kind == "load" and next_one.kind in ("load", "store") and not depends:
        more -= _saved(one, next_one, reading)
    return more


def _saved(one: Instruction, next_one: Instruction, reading: Reading) -> int:
    """The cycle that a load before takes off, where the store does not take one alone anyway."""
    pipelined = reading.integer_pipelined
    if one.is_float or next_one.is_float:
        pipelined = reading.float_pipelined
    return int(pipelined and own_cycles(next_one, False, reading) > 1)


def trace(
    program: Path, spec: ModelSpec, parameters: Parameters, samples: Samples, phase: Phase
) -> Traced:
    """Train a phase under emulation and log every instruction of it."""
    clock = function(program, CLOCK)
    with tempfile.TemporaryDirectory() as name:
        case = Path(name) / "case.bin"
        case.write_bytes(case_to_bytes(spec, parameters, samples, phase))
        command = [*emulator_command(program), *_one_at_a_time(), "-d", "exec,nochain"]
        with subprocess.Popen(
            command, cwd=name, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE
        ) as process:
            assert process.stderr is not None
            pairs, readings = _count_pairs(_executed(process.stderr), clock)
        if process.returncode != 0 or readings != 2 * phase.samples * phase.passes:
            raise SystemExit(f"QEMU's log of {program.name} is not one of {phase.samples} samples")
        _check_count(pairs.total(), Path(name) / "trained.bin", phase.samples * phase.passes)
    return Traced(pairs, disassemble(program))


def _check_count(traced: int, trained: Path, samples: int) -> None:
    """The board's own count, in steps of 40 a sample, must say the same."""
    ticks = int.from_bytes(trained.read_bytes()[-12:-8], "little")
    counted = ticks * INSTRUCTIONS_PER_TICK
    if abs(counted - traced) > (INSTRUCTIONS_PER_TICK + 10) * samples:
        raise SystemExit(f"{traced:,} instructions in QEMU's log, {counted:,} by the board's clock")
