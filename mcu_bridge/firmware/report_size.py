"""Says what a firmware program takes: flash, RAM, deepest stack by the compiler's call graphs.

    python3 report_size.py BUILD/learner_check.elf

The call graphs (-fcallgraph-info=su, one .ci file per object) cover our code; what the C library's
memset, memcpy and strlen push is below 32 bytes each and taken as that.
"""

from __future__ import annotations

import re
import subprocess
import sys
from functools import cache
from pathlib import Path

NODE = re.compile(r'node: \{ title: "([^"]+)" label: "([^"]+)"')
EDGE = re.compile(r'edge: \{ sourcename: "([^"]+)" targetname: "([^"]+)"')
FRAME = re.compile(r"(\d+) bytes \((\w+)")
LIBRARY_BYTES = 32
FAULT_FRAME_BYTES = 104  # what the processor pushes with the FPU in use, before a fault's own stack


def symbols(program: Path) -> dict[str, int]:
    """The program's symbols and where they are."""
    out = subprocess.run(
        ["arm-none-eabi-nm", program], capture_output=True, text=True, check=True
    ).stdout
    rows = (line.split() for line in out.splitlines())
    return {row[2]: int(row[0], 16) for row in rows if len(row) == 3}


def call_graph(build: Path, program: Path) -> tuple[dict[str, int], dict[str, set[str]]]:
    """Each function's own stack in bytes, and whom it calls."""
    frames: dict[str, int] = {}
    calls: dict[str, set[str]] = {}
    for path in sorted(build.rglob("*.ci")):
        if path.parent.name == "checks" and path.stem != program.stem:
            continue
        text = path.read_text("utf-8")
        for name, label in NODE.findall(text):
            if found := FRAME.search(label):
                if found[2] != "static":
                    raise SystemExit(f"{name}: a stack of {found[2]} size")
                frames[name] = int(found[1])
        for caller, callee in EDGE.findall(text):
            calls.setdefault(caller, set()).add(callee)
    return frames, calls


Depth = tuple[int, tuple[str, ...]]  # bytes, and the functions on the way


def deepest(frames: dict[str, int], calls: dict[str, set[str]], start: str) -> Depth:
    """The most bytes below `start`, and the path there; recursion is counted once, and named."""

    @cache
    def below(name: str, above: frozenset[str]) -> Depth:
        if name in above:
            return 0, (f"{name} again",)
        paths = [below(callee, above | {name}) for callee in sorted(calls.get(name, ()))]
        most, path = max(paths, default=(0, ()))
        return most + frames.get(name, LIBRARY_BYTES), (name, *path)

    most, path = below(start, frozenset())
    return most, tuple(name.rpartition(":")[2] for name in path)


def report(program: Path) -> str:
    """One line of sizes and one with the deepest path."""
    at = symbols(program)
    ram = at["port_bss_end"] - at["port_guard"]
    frames, calls = call_graph(program.parent, program)
    stack, path = deepest(frames, calls, "port_reset")
    stack += FAULT_FRAME_BYTES
    reserved = at["port_stack_top"] - at["port_stack_bottom"]
    sizes = f"flash {at['port_flash_used']:,} B, RAM {ram:,} B with {reserved:,} B of stack"
    return f"{program.stem}: {sizes}, worst stack {stack:,} B\n    {' > '.join(path)}"


if __name__ == "__main__":
    print(report(Path(sys.argv[1])))
