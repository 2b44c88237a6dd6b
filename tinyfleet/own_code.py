"""Code that an operator writes: Python files that a variable of the environment names.

A run names its task and its strategy; it never carries code. A process loads code only from the
files that its own environment names, so nothing that comes over the network can make it run
anything.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any

from tinyfleet.errors import InvalidInput, one_line

MAX_NAME = 64


@dataclass(frozen=True)
class OwnCode:
    """A kind of class that operators may write.

    variable: names the files, separated as in PATH. noun: what one is. attribute: by which name a
    file says which class is meant. objection: why a value is no such class, empty if it is one.
    """

    variable: str
    noun: str
    attribute: str
    objection: Callable[[Any], str]

    def found(self) -> Mapping[str, type]:
        """The classes of the files that the environment names, by name; raises InvalidInput."""
        return _load_all(self, os.environ.get(self.variable, ""))


def told(error: Exception) -> str:
    """A fault of somebody's code in one line."""
    return one_line(" ".join(f"{type(error).__name__}: {error}".split()))


@functools.cache
def _load_all(kind: OwnCode, paths: str) -> Mapping[str, type]:
    found: dict[str, type] = {}
    for path in filter(None, paths.split(os.pathsep)):
        made = _class_in(kind, Path(path))
        name = made.name  # type: ignore[attr-defined]
        if name in found:
            raise InvalidInput(f"{kind.variable}: two files have a {kind.noun} '{name}'")
        found[name] = made
    return MappingProxyType(found)


def _class_in(kind: OwnCode, path: Path) -> type:
    """The class that the file means."""
    made: Any = getattr(_module(kind, path), kind.attribute, None)
    if objection := kind.objection(made):
        raise InvalidInput(f"{kind.variable}: {path} {objection}")
    name = getattr(made, "name", "")
    if not (str(name).isidentifier() and len(name) <= MAX_NAME):
        raise InvalidInput(
            f"{kind.variable}: {path}: a {kind.noun}'s name is a word of at most {MAX_NAME} "
            "characters"
        )
    return made  # type: ignore[no-any-return]


def _module(kind: OwnCode, path: Path) -> ModuleType:
    if path.suffix != ".py" or not path.is_file():
        raise InvalidInput(f"{kind.variable}: no Python file {path}")
    spec = importlib.util.spec_from_file_location(f"tinyfleet_{kind.noun}_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise InvalidInput(f"{kind.variable}: {path} cannot be loaded")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their annotations up there
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # noqa: BLE001 - the file is somebody's own: its faults get one line
        raise InvalidInput(f"{kind.variable}: {path}: {told(error)}") from None
    return module
