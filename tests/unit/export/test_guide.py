"""docs/guides/export.md works as it is written, and its results run without this project."""

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.needs_package("ai-edge-litert", module="ai_edge_litert"),
]

GUIDE = Path(__file__).parents[3] / "docs/guides/export.md"
BLOCK = re.compile(r"^```(python|c|console)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"\A(?:# |/\* )(\S+)(?: \*/)?\n")


@pytest.fixture
def bare(tmp_path):
    """A folder with LiteRT and NumPy alone, as `pip install ai-edge-litert` would leave it."""
    folder = tmp_path / "bare"
    folder.mkdir()
    for name in ("ai_edge_litert", "numpy"):
        package = Path(find_spec(name).origin).parent
        (folder / name).symlink_to(package)
        libraries = package.with_name(f"{name}.libs")
        if libraries.exists():
            (folder / libraries.name).symlink_to(libraries)
    return folder


@pytest.fixture
def environment(tmp_path, bare):
    """`python` sees that folder and no other package; `tinyfleet` is this project's."""
    programs = tmp_path / "bin"
    programs.mkdir()
    code = (
        f"import sys; sys.path.append({str(bare)!r}); import importlib.util as i, runpy; "
        "assert i.find_spec('tinyfleet') is None; sys.argv.pop(0); "
        "runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    scripts = {
        "python": f'exec {sys.executable} -I -S -c "$CODE" "$@"',
        "tinyfleet": f'exec {sys.executable} -m tinyfleet.cli "$@"',
    }
    for name, line in scripts.items():
        (programs / name).write_text(f"#!/bin/sh\n{line}\n")
        (programs / name).chmod(0o755)
    kept = {name: value for name, value in os.environ.items() if name != "TINYFLEET_DATA"}
    return kept | {"PATH": f"{programs}:{os.environ['PATH']}", "CODE": code}


def steps(text):
    """Files to write and commands with what they print, in the order of the page."""
    for kind, block in BLOCK.findall(text):
        if kind != "console":
            yield "file", FILE.match(block)[1], block
            continue
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, printed = part.partition("\n")
            yield "command", command, printed


def test_every_command_of_the_guide_prints_what_it_says(tmp_path, environment):
    folder = tmp_path / "work"
    folder.mkdir()
    done = 0
    for kind, name, text in steps(GUIDE.read_text("utf-8")):
        if kind == "file":
            (folder / name).write_text(text)
            continue
        said = subprocess.run(
            ["sh", "-c", name],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert said.returncode == 0, said.stderr
        if text:
            assert words_of(said.stdout) == words_of(text)
            assert numbers_of(said.stdout) == pytest.approx(numbers_of(text), abs=2e-3)
        done += 1
    assert done >= 8


# The last bits of float32 kernels are the processor's own.
NUMBER = re.compile(r"(?<![\w.])-?\d+(?:\.\d+)?(?:e[+-]\d+)?")


def words_of(text):
    return NUMBER.sub("#", text)


def numbers_of(text):
    return [float(number) for number in NUMBER.findall(text)]
