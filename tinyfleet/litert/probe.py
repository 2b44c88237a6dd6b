"""Whether a `.tflite` file can be run, found out in a process that may die of it.

LiteRT is C++ that reads offsets and shapes from the file; what is damaged can make it crash, grow
or never end. So a file is opened and run once by a child with bounded memory and time, and by this
process only when the child came back. That finds accidents. It is no sandbox: whoever may put a
file into a fleet is trusted as one who runs code there.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict

import numpy as np

from tinyfleet.errors import InvalidInput
from tinyfleet.litert.file import TfliteFile
from tinyfleet.litert.runtime import first_line, has_runtime, make_interpreter
from tinyfleet.litert.signatures import Signatures, check_behaviour
from tinyfleet.model.trainable import SignatureNames
from tinyfleet.run_files import MAX_FILE_BYTES

LIMIT_S = 60  # our choice: some 0.3 s on a laptop, ten times that on a Pi
MEMORY_BYTES = 2 * 1024**3
"""Our choice: address space, most of which LiteRT maps but never uses. The emulator of other
processors, qemu-user, takes the limit and does not keep it; the limit of time holds there, too."""
_REFUSED = 3
_MAX_KNOWN = 64  # our choice: files that were found to be good, their hashes
_CHILD = (sys.executable, "-m", "tinyfleet.litert.probe")
_good: dict[tuple[str, ...], None] = {}


def check_tflite(file: TfliteFile, child: Sequence[str] = _CHILD, limit_s: float = LIMIT_S) -> None:
    """Raise InvalidInput, in one line, unless a child process could open the file and run it.

    child: the command that is given the file on its standard input. limit_s: how long it may take.
    A file that was found good is not tried again; one that was not is, for a machine without
    memory or time to spare may have been the reason.
    """
    key = (file.sha256, *child[len(_CHILD) :])
    if key in _good:
        return
    if not has_runtime():
        return  # whoever opens it says so
    if problem := _problem(file, child, limit_s):
        raise InvalidInput(problem)
    while len(_good) >= _MAX_KNOWN:
        del _good[next(iter(_good))]
    _good[key] = None


def check_trainable(file: TfliteFile, names: SignatureNames) -> None:
    """The same for a file with training signatures: they are all called, and do what they must."""
    check_tflite(file, (*_CHILD, json.dumps(asdict(names))))


def _problem(file: TfliteFile, child: Sequence[str], limit_s: float) -> str:
    """What is wrong with the file; empty when nothing is."""
    try:
        done = subprocess.run(
            child, input=file.content, capture_output=True, timeout=limit_s, check=False
        )
    except subprocess.TimeoutExpired:
        return f"this .tflite file did not run within {limit_s:g} s"
    except OSError as error:
        return f"this .tflite file could not be tried: {error.strerror or error}"
    said = done.stdout.decode(errors="replace").strip()[:200]
    if done.returncode == _REFUSED and said.isprintable():
        return said
    if done.returncode:
        return f"this .tflite file makes LiteRT crash (exit code {done.returncode})"
    return ""


def _run_once(file: TfliteFile) -> None:
    """Run the main graph on zeros."""
    interpreter = make_interpreter(file)
    for detail in interpreter.get_input_details():
        interpreter.set_tensor(detail["index"], np.zeros(detail["shape"], detail["dtype"]))
    interpreter.invoke()
    for detail in interpreter.get_output_details():
        interpreter.get_tensor(detail["index"])


def _try(file: TfliteFile, names: Sequence[str]) -> None:
    """Do to the file what will be done to it; raises InvalidInput. names: as JSON, or none."""
    try:
        if names:
            given = SignatureNames(**json.loads(names[0]))
            check_behaviour(Signatures(make_interpreter(file), given))
        else:
            _run_once(file)
    except InvalidInput:
        raise
    except (RuntimeError, ValueError) as error:
        raise InvalidInput(f"LiteRT cannot run this .tflite file: {first_line(error)}") from None


def main() -> int:
    """The child: the file on standard input, the names of its signatures, if any, as argument.

    0, or 3 with the reason on standard output.
    """
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        _try(TfliteFile(sys.stdin.buffer.read(MAX_FILE_BYTES + 1)), sys.argv[1:])
    except MemoryError:
        print("this .tflite file needs more memory than it may have")  # noqa: T201 - the answer
        return _REFUSED
    except InvalidInput as error:
        print(error)  # noqa: T201 - the answer
        return _REFUSED
    return 0


if __name__ == "__main__":
    sys.exit(main())
