"""The LiteRT runtime, whichever is installed: `ai_edge_litert`, or `tflite_runtime` before it."""

from __future__ import annotations

import importlib
from typing import Any

from tinyfleet.errors import InvalidInput
from tinyfleet.litert.file import TfliteFile

_MODULES = ("ai_edge_litert.interpreter", "tflite_runtime.interpreter")
_REMEDY = "no LiteRT runtime is installed here: pip install 'tinyfleet[litert]'"


def has_runtime() -> bool:
    """Whether a runtime can be loaded."""
    return _module() is not None


def make_interpreter(file: TfliteFile) -> Any:
    """An `Interpreter` of the file, its tensors allocated, on one thread.

    It computes with the runtime's own kernels and without its default delegate (XNNPACK): that
    picks others by the processor's generation, whose sums differ in the last bits, and writes a
    line on standard error that nobody asked for.

    A damaged file can end the process that opens it: `tinyfleet.litert.probe.check_tflite` tries it
    in another one first. Raises InvalidInput without a runtime, or when it does not take the file.
    """
    module = _module()
    if module is None:
        raise InvalidInput(_REMEDY)
    try:
        interpreter = module.Interpreter(
            model_content=file.content,
            num_threads=1,
            experimental_op_resolver_type=module.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        )
        interpreter.allocate_tensors()
    except (RuntimeError, ValueError) as error:
        raise InvalidInput(f"LiteRT does not take this .tflite file: {first_line(error)}") from None
    return interpreter


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
