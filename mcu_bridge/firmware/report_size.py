"""Says what firmware programs take, and holds those that have a budget to it.

    python3 report_size.py BUILD/learner_check.elf BUILD/mps2_an386/tinyfleet.elf ...

Flash, RAM, and the deepest stack by the compiler's call graphs (-fcallgraph-info=su, one .ci file
per object that the program's map says was linked). A call through a pointer is taken as a call of
each function whose address the callers named in CALLED_BACK take. On top come an interrupt, which
no other interrupt interrupts, and a fault. What library functions push is below LIBRARY_BYTES.

A tinyfleet.elf is held to its board's part of budget.toml; beyond it the exit status is 1.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

BUDGETS = Path(__file__).with_name("budget.toml")
NODE = re.compile(r'node: \{ title: "([^"]+)" label: "([^"]+)"')
EDGE = re.compile(r'edge: \{ sourcename: "([^"]+)" targetname: "([^"]+)"')
FRAME = re.compile(r"(\d+) bytes \((\w+)")
LINKED = re.compile(r"^LOAD (\S+\.o)$", re.MULTILINE)
ADDRESS_TAKEN = re.compile(r"R_ARM_ABS32\s+(?:\.text\.)?(\w+)$", re.MULTILINE)
INDIRECT = "__indirect_call"
# Who gives the functions that a folder calls through pointers.
CALLED_BACK = {
    "learner": ("learner",),
    "link": ("link", "app"),
    "app": ("app",),
}
LIBRARY_BYTES = 64  # __aeabi_uldivmod has the most, 56
EXCEPTION_BYTES = 108  # what the processor pushes with the FPU in use, and aligns
NOT_INTERRUPTS = {"port_reset", "port_faulted", "port_hung"}  # a fault has a stack of its own


@dataclass(frozen=True)
class Size:
    """What one program takes, in bytes; `path` is the way to the deepest stack."""

    flash: int
    ram: int
    stack: int
    reserved: int
    fault_stack: int
    fault_reserved: int
    path: tuple[str, ...]


Depth = tuple[int, tuple[str, ...]]  # bytes, and the functions on the way


@dataclass
class CallGraph:
    """Each function's own stack in bytes, and whom it calls."""

    frames: dict[str, int]
    calls: dict[str, set[str]]

    def named(self, *names: str) -> list[str]:
        """The functions of these names, whichever file they are in."""
        return [title for title in self.frames if title.rpartition(":")[2] in names]

    def deepest(self, start: str) -> Depth:
        """The most bytes below `start`, and the path; recursion is counted once, and named."""

        @cache
        def below(name: str, above: frozenset[str]) -> Depth:
            if name in above:
                return 0, (f"{name} again",)
            callees = sorted(self.calls.get(name, ()))
            paths = [below(callee, above | {name}) for callee in callees]
            most, path = max(paths, default=(0, ()))
            return most + self.frames.get(name, LIBRARY_BYTES), (name, *path)

        most, path = below(start, frozenset())
        return most, tuple(name.rpartition(":")[2] for name in path)


def tool(*command: str | Path) -> str:
    """What a binary utility prints."""
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def symbols(program: Path) -> dict[str, int]:
    """The program's symbols and where they are."""
    rows = (line.split() for line in tool("arm-none-eabi-nm", program).splitlines())
    return {row[2]: int(row[0], 16) for row in rows if len(row) == 3}


def linked_objects(program: Path) -> list[Path]:
    """Our objects in the program, by its map."""
    return [Path(name) for name in LINKED.findall(program.with_suffix(".map").read_text("utf-8"))]


def own_frames(text: str) -> dict[str, int]:
    """The stack of each function in one .ci file."""
    frames = {}
    for name, label in NODE.findall(text):
        if found := FRAME.search(label):
            if found[2] not in {"static", "dynamic,bounded"}:
                raise SystemExit(f"{name}: a stack of {found[2]} size")
            frames[name] = int(found[1])
    return frames


def addresses_taken(objects: Iterable[Path], names: dict[str, str]) -> set[str]:
    """The functions whose address these objects keep; `names` gives their names in call graphs."""
    files = list(objects)
    if not files:
        return set()
    found = ADDRESS_TAKEN.findall(tool("arm-none-eabi-objdump", "-r", *files))
    return {names[name] for name in found if name in names}


def folder_of(path: Path) -> str:
    """The folder of the firmware that an object belongs to."""
    return path.parent.name


def call_graph(objects: list[Path]) -> CallGraph:
    """Of the functions in these objects, with calls through pointers resolved."""
    texts = {path: path.with_suffix(".ci").read_text("utf-8") for path in objects}
    frames = {name: size for text in texts.values() for name, size in own_frames(text).items()}
    names = {name.rpartition(":")[2]: name for name in frames}
    calls: dict[str, set[str]] = {}
    for path, text in texts.items():
        givers = CALLED_BACK.get(folder_of(path), ())
        for caller, callee in EDGE.findall(text):
            reached = {callee}
            if callee == INDIRECT and folder_of(path) != "checks":  # they jump into no function
                reached = addresses_taken((o for o in objects if folder_of(o) in givers), names)
                if not reached:
                    raise SystemExit(f"{caller} calls through a pointer; CALLED_BACK gives no one")
            calls.setdefault(caller, set()).update(reached)
    return CallGraph(frames, calls)


def interrupts(objects: list[Path], graph: CallGraph) -> set[str]:
    """What the vector table leads to."""
    vectors = (path for path in objects if path.stem == "vectors")
    names = {name.rpartition(":")[2]: name for name in graph.frames}
    return addresses_taken(vectors, names) - NOT_INTERRUPTS


def measure(program: Path) -> Size:
    """Of a program that is linked, with its map beside it."""
    at = symbols(program)
    objects = linked_objects(program)
    graph = call_graph(objects)
    stack, path = graph.deepest(*graph.named("start_program"))
    handlers = {name: graph.deepest(name)[0] for name in interrupts(objects, graph)}
    worst = max(handlers, key=lambda name: handlers[name])
    stack += EXCEPTION_BYTES + handlers[worst] + EXCEPTION_BYTES
    return Size(
        flash=at["port_flash_used"],
        ram=at["port_bss_end"] - at["port_guard"] + at["port_noinit_end"] - at["port_free_end"],
        stack=stack,
        reserved=at["port_stack_top"] - at["port_stack_bottom"],
        fault_stack=max(graph.deepest(name)[0] for name in graph.named("keep_fault", "keep_hang")),
        fault_reserved=at["port_fault_stack_top"] - at["port_stack_top"],
        path=(*path, worst, "a fault"),
    )


def report(program: Path, size: Size) -> str:
    """One line of sizes and one with the deepest path."""
    board = program.parent.name if program.stem == "tinyfleet" else ""
    sizes = f"flash {size.flash:,} B, RAM {size.ram:,} B with {size.reserved:,} B of stack"
    name = f"{program.stem} {board}".strip()
    return f"{name}: {sizes}, worst stack {size.stack:,} B\n    {' > '.join(size.path)}"


def excesses(program: Path, size: Size, budgets: dict[str, dict[str, int]]) -> list[str]:
    """What of a program is beyond its budget or, for any program, beyond its stack."""
    found = []
    if size.stack > size.reserved:
        found.append(f"the stack may take {size.stack:,} B and has {size.reserved:,} B")
    if size.fault_stack > size.fault_reserved:
        found.append(f"a fault may take {size.fault_stack:,} B of {size.fault_reserved:,} B")
    if program.stem == "tinyfleet":
        budget = budgets[program.parent.name]
        taken = {"flash": size.flash, "ram": size.ram, "stack": size.stack}
        found += [
            f"{part} takes {taken[part]:,} B, its budget is {most:,} B"
            for part, most in budget.items()
            if taken[part] > most
        ]
    return [f"{program}: {what}" for what in found]


def main(programs: list[Path]) -> int:
    """Report on all programs; returns the exit status."""
    budgets = tomllib.loads(BUDGETS.read_text("utf-8"))
    sizes = {program: measure(program) for program in programs}
    for program, size in sizes.items():
        print(report(program, size))
    beyond = [line for program, size in sizes.items() for line in excesses(program, size, budgets)]
    print("\n".join(beyond), file=sys.stderr, end="\n" if beyond else "")
    return 1 if beyond else 0


if __name__ == "__main__":
    sys.exit(main([Path(name) for name in sys.argv[1:]]))
