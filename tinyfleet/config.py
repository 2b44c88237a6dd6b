"""One frozen dataclass of settings per process, from a TOML file, the environment and flags.

Later sources win: defaults, then the TOML file, then the environment, then the flags. Each
field is declared with `setting`. A field `heartbeat_s` of the process `coordinator` is the TOML key
`heartbeat_s`, the variable `TINYFLEET_COORDINATOR_HEARTBEAT_S` and the flag `--heartbeat-s`.
A flag of a bool may stand alone for true. A list of texts or numbers is a list in the TOML file,
words between spaces in the variable, and a flag that may be given again. Unknown keys, wrong types
and values out of range are refused before anything is opened.
"""

from __future__ import annotations

import argparse
import math
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

from tinyfleet.errors import InvalidInput, one_line, unknown_name

MAX_CONFIG_BYTES = 256 * 1024
MAX_TEXTS = 64  # our choice: of one setting
MAX_NUMBERS = 4096  # our choice: of one setting
TEXTS = "tuple[str, ...]"
NUMBERS = "tuple[float, ...]"
_TOML_TYPES: dict[str, type] = {
    "int": int,
    "float": float,
    "bool": bool,
    "str": str,
    "Path": str,
    TEXTS: list,
    NUMBERS: list,
}
_WORDS = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "str": "text",
    "Path": "a path",
    TEXTS: "a list of texts",
    NUMBERS: "a list of numbers",
}
_METAVARS = {
    "int": "N",
    "float": "NUMBER",
    "bool": "true|false",
    "str": "TEXT",
    "Path": "PATH",
    TEXTS: "TEXT",
    NUMBERS: "NUMBER",
}
_ARGPARSE: dict[str, dict[str, Any]] = {
    "bool": {"nargs": "?", "const": "true"},
    TEXTS: {"action": "append"},
    NUMBERS: {"action": "append"},
}
_TRUE, _FALSE = ("true", "1", "yes", "on"), ("false", "0", "no", "off")
ADDRESS = "HOST:PORT"

Settings = TypeVar("Settings")


def setting(
    default: Any = MISSING,
    *,
    help: str,
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] = (),
    check: Callable[[str, str], None] | None = None,
    metavar: str = "",
) -> Any:
    """A field of a settings class.

    Its type is one of str, int, float, bool, Path, tuple[str, ...], tuple[float, ...]. low, high:
    closed range of a number, also of each in a list. choices: the allowed values of a string.
    check: called with the name and a text, raises InvalidInput unless the text will do; of several
    texts each is checked. metavar: what the value is called in the help.
    """
    about = {"help": help, "low": low, "high": high, "choices": choices}
    return field(default=default, metadata=about | {"check": check, "metavar": metavar})


def check_address(name: str, text: str, lowest_port: int = 1) -> None:
    """Raise InvalidInput unless `text` is host:port."""
    host, _, port = text.rpartition(":")
    is_number = port.isascii() and port.isdigit()
    if not (host and is_number and lowest_port <= int(port[:6]) <= 65535):
        raise InvalidInput(f"{name} must be host:port, got '{one_line(text)}'")


def check_listen_address(name: str, text: str) -> None:
    """Raise InvalidInput unless `text` is host:port; port 0 stands for any free one."""
    check_address(name, text, lowest_port=0)


def check_optional_address(name: str, text: str) -> None:
    """Raise InvalidInput unless `text` is host:port or empty."""
    if text:
        check_address(name, text)


def check_optional_listen_address(name: str, text: str) -> None:
    """Raise InvalidInput unless `text` is host:port, with 0 for any free port, or empty."""
    if text:
        check_listen_address(name, text)


@dataclass(frozen=True)
class Sources:
    """Where settings come from; `argv` without the program's name."""

    argv: Sequence[str]
    environment: Mapping[str, str]


def load_settings(
    settings: type[Settings], process: str, description: str, sources: Sources, epilog: str = ""
) -> Settings:
    """The settings of `process`. Raises InvalidInput with the source, the key and the remedy.

    `--help` prints all flags with their defaults and raises SystemExit(0), as argparse does.
    """
    known = {entry.name: entry for entry in fields(settings)}  # type: ignore[arg-type]
    parser = _parser(known, process, description, epilog)
    flags: dict[str, Any] = vars(parser.parse_args(list(sources.argv)))
    path = flags.pop("config") or sources.environment.get(_variable(process, "config"))
    values: dict[str, Any] = {}
    if path:
        values |= _from_toml(Path(path), known)
    values |= _from_environment(process, known, sources.environment)
    values |= {
        name: _parsed(f"--{name.replace('_', '-')}", known[name], text)
        for name, text in flags.items()
        if text is not None
    }
    for name, entry in known.items():
        if entry.default is MISSING and name not in values:
            flag, variable = name.replace("_", "-"), _variable(process, name)
            raise InvalidInput(f"'{name}' is not set: give --{flag} or {variable}")
    return settings(**values)


def checked(where: str, entry: Field[Any], value: Any) -> Any:
    """The value of a field made with `setting`, as its type: a whole number will do for a float.

    where: what the message calls it. Raises InvalidInput unless type, range and text will do.
    """
    kind = kind_of(entry)
    if kind == "float":
        value = _as_float(value)
    expected = _TOML_TYPES[kind]
    if type(value) != expected:  # noqa: E721 - a bool is an int, but no number that we take
        raise InvalidInput(f"{where} must be {_WORDS[kind]}, got {_short(value)!r}")
    if kind == TEXTS:
        return _checked_texts(where, entry, value)
    if kind == NUMBERS:
        return _checked_numbers(where, entry, value)
    if isinstance(value, str):
        _check_text(where, value, entry)
    elif kind != "bool":
        _check_number(where, value, entry.metadata["low"], entry.metadata["high"])
    return Path(str(value)) if kind == "Path" else value


def kind_of(entry: Field[Any]) -> str:
    """The field's type by name; a `| None` means that it may stay unset."""
    name = entry.type.__name__ if isinstance(entry.type, type) else str(entry.type)
    return name if name in {TEXTS, NUMBERS} else name.removesuffix(" | None").rpartition(".")[2]


def _variable(process: str, name: str) -> str:
    return f"TINYFLEET_{process}_{name}".upper().replace("-", "_")


def _parser(
    known: Mapping[str, Field[Any]], process: str, description: str, epilog: str
) -> argparse.ArgumentParser:
    parser = _Parser(
        prog=f"tinyfleet-{process}",
        description=description,
        epilog=f"Every flag is also a key of the TOML file and a variable, e.g. "
        f"{_variable(process, next(iter(known)))}. {epilog}",
        allow_abbrev=False,
    )
    parser.add_argument("--config", metavar="FILE", help="TOML file with the settings below")
    for name, entry in known.items():
        default = "required" if entry.default is MISSING else f"default: {_shown(entry.default)}"
        about = entry.metadata
        named = about["metavar"] or "|".join(about["choices"]) or _METAVARS[kind_of(entry)]
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            dest=name,
            metavar=named,
            help=f"{about['help']} ({default})".replace("%", "%%"),
            **_ARGPARSE.get(kind_of(entry), {}),
        )
    return parser


def _shown(default: Any) -> str:
    if isinstance(default, float):
        return f"{default:g}"
    return "none" if default in (None, "", ()) else str(default)


class _Parser(argparse.ArgumentParser):
    """An ArgumentParser whose errors are ours: one line, raised."""

    def error(self, message: str) -> Any:
        raise InvalidInput(f"{one_line(message)}; see {self.prog} --help")


def _from_toml(path: Path, known: Mapping[str, Field[Any]]) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            text = file.read(MAX_CONFIG_BYTES + 1)
        if len(text) > MAX_CONFIG_BYTES:
            raise InvalidInput(f"{path}: a configuration has at most {MAX_CONFIG_BYTES} bytes")
        document = tomllib.loads(text.decode("utf-8"))
    except OSError as error:
        raise InvalidInput(f"cannot read configuration {path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"{path} is not valid TOML: {error}") from None
    for key in document:
        if key not in known:
            raise InvalidInput(f"{path}: {unknown_name('key', key, known)}")
    return {key: checked(f"{path}: {key}", known[key], value) for key, value in document.items()}


def _from_environment(
    process: str, known: Mapping[str, Field[Any]], environment: Mapping[str, str]
) -> dict[str, Any]:
    prefix = _variable(process, "")
    named = {_variable(process, name): name for name in known} | {_variable(process, "config"): ""}
    values = {}
    for variable, text in environment.items():
        if not variable.startswith(prefix):
            continue
        if variable not in named:
            raise unknown_name("variable", variable, named)
        if name := named[variable]:
            values[name] = _parsed(variable, known[name], text)
    return values


def _parsed(where: str, entry: Field[Any], text: Any) -> Any:
    """The value of what a variable or a flag says; a flag that may be repeated says a list."""
    kind = kind_of(entry)
    if kind in {TEXTS, NUMBERS}:
        words = text.split() if isinstance(text, str) else text
        return checked(where, entry, words if kind == TEXTS else _numbers(where, words))
    try:
        if kind == "bool":
            value: Any = {**dict.fromkeys(_TRUE, True), **dict.fromkeys(_FALSE, False)}[
                text.lower()
            ]
        else:
            value = {"int": int, "float": float, "Path": str, "str": str}[kind](text)
    except (ValueError, KeyError):
        raise InvalidInput(f"{where} must be {_WORDS[kind]}, got '{one_line(text)}'") from None
    return checked(where, entry, value)


def _check_number(where: str, value: Any, low: float | None, high: float | None) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise InvalidInput(f"{where} must be a finite number, got {value}")
    if low is not None and value < low:
        raise InvalidInput(f"{where} must be at least {low}, got {_short(value)}")
    if high is not None and value > high:
        raise InvalidInput(f"{where} must be at most {high}, got {_short(value)}")


def _checked_texts(where: str, entry: Field[Any], values: Any) -> tuple[str, ...]:
    if len(values) > MAX_TEXTS:
        raise InvalidInput(f"{where} takes at most {MAX_TEXTS} texts, got {len(values)}")
    for value in values:
        if not isinstance(value, str):
            raise InvalidInput(f"{where} must be {_WORDS[TEXTS]}, got {_short(value)!r} in it")
        _check_text(where, value, entry)
    return tuple(values)


def _checked_numbers(where: str, entry: Field[Any], values: Any) -> tuple[float, ...]:
    if len(values) > MAX_NUMBERS:
        raise InvalidInput(f"{where} takes at most {MAX_NUMBERS} numbers, got {len(values)}")
    numbers = tuple(map(_as_float, values))
    for number in numbers:
        if not isinstance(number, float):
            raise InvalidInput(f"{where} must be {_WORDS[NUMBERS]}, got {_short(number)!r} in it")
        _check_number(where, number, entry.metadata["low"], entry.metadata["high"])
    return numbers


def _numbers(where: str, words: Sequence[str]) -> list[float]:
    try:
        return [float(word) for word in words]
    except ValueError:
        given = one_line(" ".join(words))
        raise InvalidInput(f"{where} must be {_WORDS[NUMBERS]}, got '{given}'") from None


def _as_float(value: Any) -> Any:
    """A whole number as a float, anything else as it is."""
    if isinstance(value, int) and not isinstance(value, bool):
        return float(value) if abs(value) < 2**1023 else math.inf
    return value


def _check_text(where: str, value: str, entry: Field[Any]) -> None:
    choices, check = entry.metadata["choices"], entry.metadata["check"]
    if "\0" in value:
        raise InvalidInput(f"{where} must not hold a zero byte")
    if choices and value not in choices:
        raise InvalidInput(f"{where} must be one of {', '.join(choices)}, got '{one_line(value)}'")
    if check is not None:
        check(where, value)


def _short(value: Any) -> str:
    try:
        return str(value)[:80]
    except ValueError:  # Python does not print whole numbers of thousands of digits
        return "a huge number"
