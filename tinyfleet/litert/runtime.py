"""The LiteRT runtime, whichever is installed: `ai_edge_litert`, or `tflite_runtime` before it."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
import tempfile
import threading
from collections.abc import Iterator
from typing import Any

from tinyfleet.errors import InvalidInput
from tinyfleet.litert.file import TfliteFile

_MODULES = ("ai_edge_litert.interpreter", "tflite_runtime.interpreter")
_GREETING = b"INFO: Created TensorFlow Lite XNNPACK delegate for CPU."
_one_at_a_time = threading.Lock()  # standard error is the whole process's
_REMEDY = "no LiteRT runtime is installed here: pip install 'tinyfleet[litert]'"


def has_runtime() -> bool:
    """Whether a runtime can be loaded."""
    return _module() is not None


def make_interpreter(file: TfliteFile, plain: bool = False) -> Any:
    """An `Interpreter` of the file, its tensors allocated, on one thread.

    plain: with the runtime's own kernels alone. Else it computes as it does by default, with
    XNNPACK. That is several times as fast as the
    runtime's other kernels, and other than those it gave the same bits on x86-64 and aarch64
    (decision 0027).

    A damaged file can end the process that opens it: `tinyfleet.litert.probe.check_tflite` tries it
    in another one first. Raises InvalidInput without a runtime, or when it does not take the file.
    """
    module = _module()
    if module is None:
        raise InvalidInput(_REMEDY)
    options: dict[str, Any] = {"model_content": file.content, "num_threads": 1}
    if plain:
        kind = module.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        options["experimental_op_resolver_type"] = kind
    try:
        with _without_greeting():
            interpreter = module.Interpreter(**options)
            interpreter.allocate_tensors()
    except (RuntimeError, ValueError) as error:
        raise InvalidInput(f"LiteRT does not take this .tflite file: {first_line(error)}") from None
    return interpreter


@contextlib.contextmanager
def _without_greeting() -> Iterator[None]:
    """Take one line that the runtime writes off standard error; what else comes there follows."""
    with _one_at_a_time, tempfile.TemporaryFile() as heard:
        sys.stderr.flush()
        kept = os.dup(2)
        os.dup2(heard.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            heard.seek(0)
            lines = [line for line in heard if not line.startswith(_GREETING)]
            os.write(2, b"".join(lines))


def first_line(error: Exception) -> str:
    """What LiteRT says, in at most 160 printable characters of one line."""
    line = str(error).strip().partition("\n")[0][:160]
    return line if line.isprintable() else ascii(line)[1:-1]


def _module() -> Any:
    for name in _MODULES:
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    return None
