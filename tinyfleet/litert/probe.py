"""Whether a `.tflite` file can be run, found out in a process that may die of it.

LiteRT is C++ that reads offsets and shapes from the file; what is damaged can make it crash, grow
or never end. So a file is opened and run once by a child with bounded memory and time, and by this
process only when the child came back. That finds accidents. It is no sandbox: whoever may put a
file into a fleet is trusted as one who runs code there.

The child also compares XNNPACK, which is fast, with LiteRT's own kernels: where it computes
something else, as it does for some int8 files on aarch64 under QEMU 7.2, it is not used.
"""

from __future__ import annotations

import json
import logging
import resource
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt

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
ALIKE = 0.2  # our choice: part of the largest output; rounding is far below, a wrong kernel above
_TRIED = 4  # samples that are compared
_RANGES = {np.float32: (-2, 2), np.int8: (-128, 127), np.uint8: (0, 255)}
_REFUSED = 3
_PLAIN = "plain"
_MAX_KNOWN = 64  # our choice: files that were found to be good, their hashes
Tensors = list[npt.NDArray[Any]]
_CHILD = (sys.executable, "-m", "tinyfleet.litert.probe")
_good: dict[tuple[str, ...], bool] = {}  # and whether they need plain kernels

log = logging.getLogger("litert")


def check_tflite(file: TfliteFile, child: Sequence[str] = _CHILD, limit_s: float = LIMIT_S) -> bool:
    """Raise InvalidInput, in one line, unless a child process could open the file and run it.

    The answer is whether this machine computes it right with plain kernels only, see
    `make_interpreter`. child: the command that is given the file on its standard input. limit_s:
    how long it may take. A file that was found good is not tried again; one that was not is, for a
    machine without memory or time to spare may have been the reason.
    """
    key = (file.sha256, *child[len(_CHILD) :])
    if key in _good:
        return _good[key]
    if not has_runtime():
        return False  # whoever opens it says so
    plain = _tried(file, child, limit_s) == _PLAIN
    if plain:
        log.warning("XNNPACK computes a .tflite wrong here: LiteRT's own kernels do it instead")
    while len(_good) >= _MAX_KNOWN:
        del _good[next(iter(_good))]
    _good[key] = plain
    return plain


def check_trainable(file: TfliteFile, names: SignatureNames) -> None:
    """The same for a file with training signatures: they are all called, and do what they must."""
    check_tflite(file, (*_CHILD, json.dumps(asdict(names))))


def _tried(file: TfliteFile, child: Sequence[str], limit_s: float) -> str:
    """What the child says of a file with which nothing is wrong; raises InvalidInput."""
    try:
        done = subprocess.run(
            child, input=file.content, capture_output=True, timeout=limit_s, check=False
        )
    except subprocess.TimeoutExpired:
        raise InvalidInput(f"this .tflite file did not run within {limit_s:g} s") from None
    except OSError as error:
        reason = error.strerror or error
        raise InvalidInput(f"this .tflite file could not be tried: {reason}") from None
    said = done.stdout.decode(errors="replace").strip()[:200]
    if done.returncode == _REFUSED and said.isprintable():
        raise InvalidInput(said)
    if done.returncode:
        raise InvalidInput(f"this .tflite file makes LiteRT crash (exit code {done.returncode})")
    return said


def _outputs(file: TfliteFile, plain: bool) -> Tensors:
    """What the main graph makes of zeros, and then of values that are alike in every process."""
    interpreter, random = make_interpreter(file, plain), np.random.default_rng(1)
    made = []
    for sample in range(_TRIED + 1):
        for detail in interpreter.get_input_details():
            # Whole numbers of another type may be indices.
            low, high = _RANGES.get(detail["dtype"], (0, 0)) if sample else (0, 0)
            values = random.uniform(low, high, detail["shape"])
            interpreter.set_tensor(detail["index"], values.astype(detail["dtype"]))
        interpreter.invoke()
        details = interpreter.get_output_details()
        made.append([np.array(interpreter.get_tensor(detail["index"])) for detail in details])
    return [np.stack(tensors).astype(np.float64) for tensors in zip(*made, strict=True)]


def alike(fast: Tensors, plain: Tensors) -> bool:
    """Whether two ways to compute agree but for rounding: within ALIKE of the largest value."""
    return all(
        bool((np.abs(one - other) <= ALIKE * np.abs(other).max() + 1e-6).all())
        for one, other in zip(fast, plain, strict=True)
        if np.isfinite(other).all()
    )


def _try(file: TfliteFile, names: Sequence[str]) -> str:
    """Do to the file what will be done to it; raises InvalidInput. names: as JSON, or none.

    The answer is what to say of a file that is good.
    """
    try:
        if names:
            given = SignatureNames(**json.loads(names[0]))
            check_behaviour(Signatures(make_interpreter(file), given))
            return ""
        return "" if alike(_outputs(file, plain=False), _outputs(file, plain=True)) else _PLAIN
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
        print(_try(TfliteFile(sys.stdin.buffer.read(MAX_FILE_BYTES + 1)), sys.argv[1:]))  # noqa: T201 - the answer
    except MemoryError:
        print("this .tflite file needs more memory than it may have")  # noqa: T201 - the answer
        return _REFUSED
    except InvalidInput as error:
        print(error)  # noqa: T201 - the answer
        return _REFUSED
    return 0


if __name__ == "__main__":
    sys.exit(main())
