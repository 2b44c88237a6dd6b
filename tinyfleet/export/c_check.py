"""Runs an exported header as a product would: compiled by the machine's C compiler."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from tinyfleet.errors import InvalidInput
from tinyfleet.export.check import Disagrees
from tinyfleet.learner.protocol import Floats

COMPILERS = ("cc", "gcc", "clang")
STRICT = ("-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", "-ffp-contract=off", "-O2")
_LIMIT_S = 300  # our choice: a header of a million parameters takes gcc some 20 s

_MAIN = """\
#include "model.h"
#include <stdio.h>

int main(void)
{{
    static float input[{upper}_INPUTS], output[{upper}_OUTPUTS];
    while (fread(input, sizeof input, 1, stdin) == 1) {{
        {name}_predict(input, output);
        if (fwrite(output, sizeof output, 1, stdout) != 1) {{
            return 1;
        }}
    }}
    return 0;
}}
"""


def find_compiler() -> str:
    """The path of a C compiler; raises InvalidInput where there is none."""
    for name in COMPILERS:
        if path := shutil.which(name):
            return path
    raise InvalidInput("a C header is checked by compiling it: install gcc or clang first")


def run_header(
    header: str, name: str, inputs: Floats, outputs: int, compiler: str | None = None
) -> Floats:
    """What the header says, `(count, outputs) float32`, of `(count, inputs) float32`.

    Raises Disagrees when it does not compile without a warning, or its program fails.
    """
    with TemporaryDirectory(prefix="tinyfleet-header-") as folder:
        program = _compiled(Path(folder), header, name, compiler or find_compiler())
        said = _done([str(program)], inputs.astype("<f4", copy=False).tobytes())
    if len(said) != 4 * outputs * len(inputs):
        raise Disagrees("the exported header ended early: nothing was written")
    return np.frombuffer(said, "<f4").astype(np.float32).reshape(len(inputs), outputs)


def _compiled(folder: Path, header: str, name: str, compiler: str) -> Path:
    (folder / "model.h").write_text(header, "ascii")
    (folder / "main.c").write_text(_MAIN.format(name=name, upper=name.upper()), "ascii")
    _done([compiler, *STRICT, "-o", str(folder / "program"), str(folder / "main.c")])
    return folder / "program"


def _done(command: list[str], data: bytes = b"") -> bytes:
    try:
        done = subprocess.run(
            command, input=data, capture_output=True, timeout=_LIMIT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Disagrees(f"cannot check the exported header: {error}; nothing was written") from None
    if done.returncode:
        first = done.stderr.decode(errors="replace").strip().partition("\n")[0][:160]
        raise Disagrees(
            f"the exported header does not compile or run: {first}; nothing was written"
        )
    return done.stdout
