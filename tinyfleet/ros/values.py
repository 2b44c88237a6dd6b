"""Settings as ROS parameters: the same names, help, ranges and messages. Knows nothing of rclpy.

A field of a settings class (`tinyfleet.config.setting`) is the parameter `prefix` + its name. ROS
has no "not set" and no paths: a path is a text, and an empty text stands for None.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, fields
from typing import Any, TypeVar

from tinyfleet.config import NUMBERS, TEXTS, checked, kind_of
from tinyfleet.errors import InvalidInput

Settings = TypeVar("Settings")

_INT_RANGE = (-(2**63), 2**63 - 1)
_FLOAT_RANGE = (-sys.float_info.max, sys.float_info.max)


@dataclass(frozen=True)
class Declaration:
    """One parameter.

    kind: "bool", "int", "float", "str", or of a list `TEXTS` or `NUMBERS`. default: of that kind; a
    list for the last two. range: closed, of a number that has one; an end that is open is the
    last finite value. constraint: what else holds, in words.
    """

    name: str
    kind: str
    default: Any
    help: str
    range: tuple[float, float] | None
    constraint: str


def declarations(settings: type[Any], prefix: str = "") -> list[Declaration]:
    """The parameters that stand for the fields of a settings class, all of which have defaults."""
    return [_declaration(prefix, entry) for entry in fields(settings)]


def settings_from(
    settings: type[Settings], values: Mapping[str, Any], prefix: str = ""
) -> Settings:
    """The settings for the parameters' values, by their names without the prefix.

    Raises InvalidInput with the parameter's full name and the remedy.
    """
    return settings(
        **{
            entry.name: setting_value(entry, values[entry.name], prefix)
            for entry in fields(settings)  # type: ignore[arg-type]
        }
    )


def setting_value(entry: Field[Any], value: Any, prefix: str = "") -> Any:
    """A setting from its parameter's value: bool, int, float, str or a sequence.

    Raises InvalidInput as `tinyfleet.config.checked` does, where the value is of no use.
    """
    if value == "" and entry.default is None:
        return None
    if kind_of(entry) in {TEXTS, NUMBERS} and not isinstance(value, str) and _is_sequence(value):
        value = list(value)
    return checked(prefix + entry.name, entry, value)


def _is_sequence(value: Any) -> bool:
    return hasattr(value, "__len__") and hasattr(value, "__iter__")


def _declaration(prefix: str, entry: Field[Any]) -> Declaration:
    if entry.default is MISSING:
        raise InvalidInput(f"'{entry.name}' has no default: a parameter needs one")
    kind, about = kind_of(entry), entry.metadata
    return Declaration(
        name=prefix + entry.name,
        kind="str" if kind == "Path" else kind,
        default=_default(kind, entry.default),
        help=about["help"],
        range=_range(kind, about["low"], about["high"]),
        constraint=_constraint(about["choices"], about["metavar"]),
    )


def _default(kind: str, default: Any) -> Any:
    if kind in {TEXTS, NUMBERS}:
        return list(default)
    if kind in {"Path", "str"}:
        return "" if default is None else str(default)
    return default


def _range(kind: str, low: float | None, high: float | None) -> tuple[float, float] | None:
    if kind not in {"int", "float"} or (low is None and high is None):
        return None
    lowest, highest = _INT_RANGE if kind == "int" else _FLOAT_RANGE
    return (lowest if low is None else low, highest if high is None else high)


def _constraint(choices: tuple[str, ...], metavar: str) -> str:
    return f"one of: {', '.join(choices)}" if choices else metavar
