"""Whether a `.tflite` file can be run, found out in a process that may die of it.

LiteRT is C++ that reads offsets and shapes from the file; what is damaged on purpose can make it
crash, grow or never end. So a file is opened and run once by a child with bounded memory and time,
and by this process only when the child came back.
"""

from __future__ import annotations

import resource
import subprocess
import sys

import numpy as np

from tinyfleet.errors import InvalidInput
from tinyfleet.litert.file import MAX_FILE_BYTES, TfliteFile
from tinyfleet.litert.runtime import has_runtime, make_interpreter

LIMIT_S = 60  # our choice: some 0.3 s on a laptop, ten times that on a Pi
MEMORY_BYTES = 2 * 1024**3  # our choice: address space, most of which LiteRT maps but never uses
_REFUSED = 3
_MAX_KNOWN = 64  # our choice: verdicts kept, a line each
_known: dict[str, str] = {}


def check_tflite(file: TfliteFile) -> None:
    """Raise InvalidInput, in one line, unless a child process could open the file and run it."""
    if file.sha256 not in _known:
        while len(_known) >= _MAX_KNOWN:
            del _known[next(iter(_known))]
        _known[file.sha256] = _problem(file)
    if problem := _known[file.sha256]:
        raise InvalidInput(problem)


def _problem(file: TfliteFile) -> str:
    """What is wrong with the file; empty when nothing is."""
    if not has_runtime():
        return ""  # whoever opens it says so
    command = [sys.executable, "-m", "tinyfleet.litert.probe"]
    try:
        done = subprocess.run(
            command, input=file.content, capture_output=True, timeout=LIMIT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return f"this .tflite file did not run within {LIMIT_S} s"
    if done.returncode == _REFUSED:
        return done.stdout.decode(errors="replace").strip()[:200]
    if done.returncode:
        return f"this .tflite file makes LiteRT crash (exit code {done.returncode})"
    return ""


def _run_once(file: TfliteFile) -> None:
    """Run the main graph on zeros."""
    interpreter = make_interpreter(file)
    for detail in interpreter.get_input_details():
        interpreter.set_tensor(detail["index"], np.zeros(detail["shape"], detail["dtype"]))
    try:
        interpreter.invoke()
    except (RuntimeError, ValueError) as error:
        line = str(error).strip().partition("\n")[0][:160]
        raise InvalidInput(f"LiteRT cannot run this .tflite file: {line}") from None


def main() -> int:
    """The child: the file on standard input; 0, or 3 with the reason on standard output."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        _run_once(TfliteFile(sys.stdin.buffer.read(MAX_FILE_BYTES + 1)))
    except (InvalidInput, MemoryError) as error:
        print(str(error) or "this .tflite file needs more memory than it may have")  # noqa: T201 - the answer
        return _REFUSED
    return 0


if __name__ == "__main__":
    sys.exit(main())
