"""The models of processors and links: frozen numbers, read from TOML and checked.

models.toml beside this file is the default and shows the shape of every other file.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from tinyfleet.errors import InvalidInput, one_line, unknown_name

KINDS = ("measured", "cited", "assumed")
MAX_FILE_BYTES = 256 * 1024
MAX_MODELS = 32  # our choice: of processors, of links and of deployments
MAX_TEXT = 500
MAX_VALUE = 1e15
_NUMBER_KEYS = ("value", "unit", "kind", "source")
_DEPLOYMENT_KEYS = ("name", "processor", "link")
_SECTIONS = ("processors", "links", "deployments")


@dataclass(frozen=True)
class Processor:
    """What trains. Seconds of a sample: `(cycles_per_sample + cycles_per_mac * MACs) / clock_hz`.

    watts: while it trains. Every number is above 0, cycles_per_sample may be 0.
    """

    title: str
    clock_hz: float
    cycles_per_mac: float
    cycles_per_sample: float
    watts: float

    def seconds(self, samples: float, macs: float) -> float:
        """Of training on `samples`, which take `macs` multiply-accumulates altogether."""
        return (samples * self.cycles_per_sample + macs * self.cycles_per_mac) / self.clock_hz


@dataclass(frozen=True)
class Link:
    """What carries updates and models, seen from the device.

    bytes_per_second: on the wire. wire_bytes_per_byte: of payload, at least 1. watts_sending and
    watts_receiving: while it does.
    """

    title: str
    bytes_per_second: float
    wire_bytes_per_byte: float
    watts_sending: float
    watts_receiving: float

    def seconds(self, payload_bytes: float) -> float:
        """Of carrying so many bytes of payload."""
        return payload_bytes * self.wire_bytes_per_byte / self.bytes_per_second


@dataclass(frozen=True)
class Deployment:
    """A processor with a link: what an estimate is of."""

    name: str
    processor: Processor
    link: Link


@dataclass(frozen=True)
class Source:
    """Where a number comes from; `kind` is one of KINDS."""

    where: str
    value: float
    unit: str
    kind: str
    source: str


@dataclass(frozen=True)
class EnergyModels:
    """Everything in one file. sources: of every number, in the order of the file."""

    deployments: tuple[Deployment, ...]
    sources: tuple[Source, ...]

    def find(self, name: str) -> Deployment:
        """The deployment `name`; raises InvalidInput with the nearest name."""
        for deployment in self.deployments:
            if deployment.name == name:
                return deployment
        raise unknown_name("deployment", name, [d.name for d in self.deployments])


@cache
def builtin_models() -> EnergyModels:
    """The models that come with TinyFleet."""
    text = files("tinyfleet.energy").joinpath("models.toml").read_text("utf-8")
    return models_from_document(tomllib.loads(text))


def load_models(path: Path | None) -> EnergyModels:
    """The models in a TOML file, or those that come with TinyFleet."""
    if path is None:
        return builtin_models()
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise InvalidInput(f"cannot read energy file {path}: {error.strerror}") from None
    if len(data) > MAX_FILE_BYTES:
        raise InvalidInput(f"{path}: an energy file has at most {MAX_FILE_BYTES} bytes")
    try:
        return models_from_document(tomllib.loads(data.decode("utf-8")))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidInput(f"{path} is not valid TOML: {error}") from None
    except InvalidInput as error:
        raise InvalidInput(f"{path}: {error}") from None


def models_from_document(document: Mapping[str, Any]) -> EnergyModels:
    """The models a document describes; unknown or missing keys are refused."""
    _check_keys("an energy file", document, _SECTIONS)
    sources: list[Source] = []
    processors = _named("processors", Processor, document["processors"], sources)
    links = _named("links", Link, document["links"], sources)
    listed = document["deployments"]
    if not isinstance(listed, list) or not 1 <= len(listed) <= MAX_MODELS:
        raise InvalidInput(f"deployments must be a list of 1 to {MAX_MODELS} tables")
    deployments = tuple(_deployment(entry, processors, links) for entry in listed)
    if len({deployment.name for deployment in deployments}) != len(deployments):
        raise InvalidInput("deployments must have different names")
    return EnergyModels(deployments, tuple(sources))


def _named(section: str, kind: type, tables: Any, sources: list[Source]) -> dict[str, Any]:
    """The processors or links of a document, by name; their numbers are added to `sources`."""
    if not isinstance(tables, dict) or not 1 <= len(tables) <= MAX_MODELS:
        raise InvalidInput(f"{section} must be 1 to {MAX_MODELS} tables")
    keys = [field.name for field in fields(kind)]
    made = {}
    for name, table in tables.items():
        where = f"{section}.{one_line(name)}"
        _check_keys(where, table, keys)
        title, *numbers = keys
        values = [_number(f"{where}.{key}", table[key], sources) for key in numbers]
        made[name] = kind(_text(f"{where}.title", table[title]), *values)
    return made


def _number(where: str, table: Any, sources: list[Source]) -> float:
    _check_keys(where, table, _NUMBER_KEYS)
    value = table["value"]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidInput(f"{where}.value must be a number")
    low, included = (1.0, True) if where.endswith("wire_bytes_per_byte") else (0.0, False)
    included = included or where.endswith("cycles_per_sample")
    enough = value >= low if included else value > low
    if not (enough and value <= MAX_VALUE):  # neither nan nor infinity passes
        bound = "at least" if included else "above"
        raise InvalidInput(f"{where}.value must be {bound} {low:g} and at most {MAX_VALUE:g}")
    if table["kind"] not in KINDS:
        raise InvalidInput(f"{where}.kind must be one of {', '.join(KINDS)}")
    unit, source = (_text(f"{where}.{key}", table[key]) for key in ("unit", "source"))
    sources.append(Source(where, float(value), unit, table["kind"], source))
    return float(value)


def _deployment(
    entry: Any, processors: Mapping[str, Processor], links: Mapping[str, Link]
) -> Deployment:
    _check_keys("a deployment", entry, _DEPLOYMENT_KEYS)
    name, processor, link = (_text(f"a deployment's {key}", entry[key]) for key in _DEPLOYMENT_KEYS)
    if processor not in processors:
        raise unknown_name("processor", processor, processors)
    if link not in links:
        raise unknown_name("link", link, links)
    return Deployment(name, processors[processor], links[link])


def _text(where: str, value: Any) -> str:
    if not isinstance(value, str) or not 1 <= len(value) <= MAX_TEXT or not value.isprintable():
        raise InvalidInput(f"{where} must be a text of 1 to {MAX_TEXT} printable characters")
    return value


def _check_keys(what: str, table: Any, keys: Any) -> None:
    if not isinstance(table, dict):
        raise InvalidInput(f"{what} must be a table with {', '.join(keys)}")
    for key in table:
        if key not in keys:
            raise unknown_name(f"key of {what}", key, keys)
    for key in keys:
        if key not in table:
            raise InvalidInput(f"{what} needs the key '{key}'")
