"""What to compare, as a TOML file.

    title = "TinyReptile and Reptile on sine waves"
    task = "sine"
    model = "mlp_64"             # [default: the task's]
    rounds = 4000                # of every strategy that does not say otherwise
    test_every = 500             # also tested on the way; 0: only before and after
    seeds = [1, 2, 3]
    target = 0.5                 # accuracy to reach, or loss to come down to
    devices = 4                  # take turns in the slots [default: each slot has a new one]
    deployment = "cortex-m4+ble" # whose joules are drawn; see docs/energy.md
    shots = [1, 2, 5, 10, 20]    # numbers of samples of the adaptation curve

    [test]                       # adapt-then-test; what is absent is the task's
    tasks = 500

    [[strategies]]
    label = "TinyReptile"
    strategy = "tiny_reptile"
    options = { inner_rate = 0.005 }

    [[strategies]]
    label = "from scratch"
    strategy = "local"           # a baseline: see BASELINES
    adapt = { passes = 20, rate = 0.01, last_layers = 0 }  # where it adapts in its own way

    [[strategies]]
    label = "head alone"
    strategy = "tiny_reptile"
    extractor = "body"           # learns behind the file that --extractor body=FILE.tflite names
    model = "linear"             # [default behind an extractor]

Task options are the table `task_options`; a strategy can have `rounds`, `test_every`, `devices`,
`model` and `adapt` of its own.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tinyfleet.errors import InvalidInput, one_line, unknown_name
from tinyfleet.evaluation import EvaluationSettings
from tinyfleet.run import MAX_SEED
from tinyfleet.simulation.devices import MAX_DEVICES
from tinyfleet.strategies import strategy_names
from tinyfleet.strategies.base import MAX_ROUNDS

BASELINES = {
    "local": "no fleet at all: adapts the run's random initialization",
    "transfer": "trained in one place on samples of all training classes; the device adapts it all",
    "tiny_ol": "the same, but on the device only the last layer learns",
}
BASELINE_OPTIONS: dict[str, tuple[str, ...]] = {
    "local": (),
    "transfer": ("samples", "inner_rate"),
    "tiny_ol": ("samples", "inner_rate"),
}
MAX_FILE_BYTES = 64 * 1024
MAX_STRATEGIES = 32  # our choice, like the other bounds here
MAX_SEEDS = 100
MAX_TESTS = 1_000
MAX_SHOT_NUMBERS = 20
MAX_LABEL = 32
MAX_TITLE = 120
MAX_OPTIONS = 64
MAX_TARGET = 1e6
MAX_TEXT = 256
QUICK_FACTOR = 10
QUICK_TASKS = 100

_KEYS = (
    *("title", "task", "task_options", "model", "rounds", "test_every", "seeds", "target"),
    *("devices", "deployment", "shots", "test", "strategies"),
)
_REQUIRED = ("task", "rounds", "seeds", "strategies")
_STRATEGY_KEYS = (
    *("label", "strategy", "rounds", "test_every", "devices", "options", "adapt"),
    *("extractor", "model"),
)
_TEST_KEYS = tuple(EvaluationSettings.__dataclass_fields__)
_ADAPT_KEYS = ("passes", "rate", "last_layers")


@dataclass(frozen=True)
class Contender:
    """One strategy with its options: a row of the table.

    strategy: its name, or a baseline. rounds: 0 for `local`. devices: how many take
    turns in its slots, None: each slot has a new one. adapt: evaluation settings in which it
    differs from the experiment's, so that each may have what suits it. extractor: the name of what
    stands in front of its model, "" where nothing does. model: its own, None: the experiment's.
    """

    label: str
    strategy: str
    rounds: int
    test_every: int = 0
    devices: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    adapt: Mapping[str, Any] = field(default_factory=dict)
    extractor: str = ""
    model: str | None = None

    @property
    def baseline(self) -> bool:
        return self.strategy in BASELINES


@dataclass(frozen=True)
class Experiment:
    """A checked experiment file. target: None where there is none to reach."""

    title: str
    task: str
    task_options: Mapping[str, Any]
    model: str | None
    seeds: tuple[int, ...]
    target: float | None
    deployment: str | None
    shots: tuple[int, ...]
    test: Mapping[str, Any]
    contenders: tuple[Contender, ...]

    def quick(self) -> Experiment:
        """The same with a tenth of the rounds and at most 100 problems to test on."""
        contenders = tuple(
            replace(
                contender,
                rounds=-(-contender.rounds // QUICK_FACTOR),
                test_every=-(-contender.test_every // QUICK_FACTOR),
            )
            for contender in self.contenders
        )
        tasks = min(self.test.get("tasks", QUICK_TASKS), QUICK_TASKS)
        test = {**self.test, "tasks": tasks}
        return replace(self, contenders=contenders, test=test)


def load_experiment(path: Path) -> Experiment:
    """The experiment in a TOML file; raises InvalidInput with the file and the key to mend."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise InvalidInput(f"cannot read experiment {path}: {error.strerror}") from None
    if len(data) > MAX_FILE_BYTES:
        raise InvalidInput(f"{path}: an experiment has at most {MAX_FILE_BYTES} bytes")
    try:
        return experiment_from_document(tomllib.loads(data.decode("utf-8")), path.stem)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidInput(f"{path} is not valid TOML: {error}") from None
    except InvalidInput as error:
        raise InvalidInput(f"{path}: {error}") from None


def experiment_from_document(document: Mapping[str, Any], name: str) -> Experiment:
    """The experiment a document describes; `name` is its title where it has none."""
    _check_keys("an experiment", document, _KEYS, _REQUIRED)
    rounds = _whole("rounds", document["rounds"], 1, MAX_ROUNDS)
    every = _whole("test_every", document.get("test_every", 0), 0, MAX_ROUNDS)
    devices = _devices(document.get("devices"))
    contenders = _contenders(document["strategies"], rounds, every, devices)
    model = document.get("model")
    deployment = document.get("deployment")
    return Experiment(
        title=_text("title", document.get("title", name[:MAX_TITLE]), MAX_TITLE),
        task=_text("task", document["task"], MAX_TEXT),
        task_options=_options("task_options", document.get("task_options", {})),
        model=None if model is None else _text("model", model, MAX_TEXT),
        seeds=_numbers("seeds", document["seeds"], 0, MAX_SEED, MAX_SEEDS),
        target=_target(document.get("target")),
        deployment=None if deployment is None else _text("deployment", deployment, MAX_TEXT),
        shots=_shots(document.get("shots")),
        test=_evaluation("test", document.get("test", {}), _TEST_KEYS),
        contenders=contenders,
    )


def _contenders(
    entries: Any, rounds: int, every: int, devices: int | None
) -> tuple[Contender, ...]:
    if not isinstance(entries, list) or not 1 <= len(entries) <= MAX_STRATEGIES:
        raise InvalidInput(f"strategies must be a list of 1 to {MAX_STRATEGIES} tables")
    contenders = tuple(_contender(entry, rounds, every, devices) for entry in entries)
    labels = [contender.label for contender in contenders]
    for label in labels:
        if labels.count(label) > 1:
            raise InvalidInput(f"two strategies are labelled '{label}': label them differently")
    return contenders


def _contender(entry: Any, rounds: int, every: int, devices: int | None) -> Contender:
    _check_keys("a strategy", entry, _STRATEGY_KEYS, ("strategy",))
    strategy = _text("strategy", entry["strategy"], MAX_TEXT)
    names = strategy_names()
    if strategy not in names and strategy not in BASELINES:
        raise unknown_name("strategy", strategy, [*names, *BASELINES])
    if strategy in names and strategy in BASELINES:
        raise InvalidInput(f"'{strategy}' is a baseline, too: give your strategy another name")
    own = _whole("rounds of a strategy", entry.get("rounds", rounds), 1, MAX_ROUNDS)
    options = _options(f"options of {strategy}", entry.get("options", {}))
    if strategy in BASELINES:
        _check_keys(f"options of {strategy}", options, BASELINE_OPTIONS[strategy], ())
    if strategy == "local":
        if "rounds" in entry:
            raise InvalidInput("the baseline 'local' has no rounds")
        own = 0
    label = _text("label", entry.get("label", strategy), MAX_LABEL)
    tests = _whole("test_every", entry.get("test_every", every), 0, MAX_ROUNDS)
    if tests and own // tests > MAX_TESTS:
        raise InvalidInput(f"test_every = {tests} makes more than {MAX_TESTS} tests: test less")
    served_by = _devices(entry.get("devices", devices))
    adapt = _evaluation("adapt", entry.get("adapt", {}), _ADAPT_KEYS)
    if strategy == "tiny_ol":
        adapt = {"last_layers": 1} | adapt
    extractor = _text("extractor", entry["extractor"], MAX_LABEL) if "extractor" in entry else ""
    model = _text("model", entry["model"], MAX_TEXT) if "model" in entry else None
    return Contender(label, strategy, own, tests, served_by, options, adapt, extractor, model)


def _evaluation(name: str, table: Any, known: tuple[str, ...]) -> dict[str, Any]:
    """Fields of `EvaluationSettings`, which checks them further."""
    _check_keys(name, table, known, ())
    for key, value in table.items():
        if key != "rate":
            _whole(f"{name}.{key}", value, 0, MAX_SEED)
        elif isinstance(value, bool) or not isinstance(value, int | float):
            raise InvalidInput("rate must be a number")
        elif not 0 < value <= 10:
            raise InvalidInput(f"rate must be above 0 and at most 10, got {str(value)[:80]}")
    return dict(table)


def _devices(value: Any) -> int | None:
    return None if value is None else _whole("devices", value, 1, MAX_DEVICES)


def _target(value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidInput("target must be a number: an accuracy from 0 to 1, or a loss")
    if not 0 < value <= MAX_TARGET:
        raise InvalidInput(f"target must be above 0 and at most {MAX_TARGET:g}")
    return float(value)


def _shots(value: Any) -> tuple[int, ...]:
    if value is None:
        return ()
    return tuple(sorted(_numbers("shots", value, 1, 1_000, MAX_SHOT_NUMBERS)))


def _numbers(name: str, value: Any, low: int, high: int, most: int) -> tuple[int, ...]:
    if not isinstance(value, list) or not 1 <= len(value) <= most:
        raise InvalidInput(f"{name} must be a list of 1 to {most} whole numbers")
    numbers = tuple(_whole(name, number, low, high) for number in value)
    if len(set(numbers)) != len(numbers):
        raise InvalidInput(f"{name} must differ from one another")
    return numbers


def _options(what: str, table: Any) -> dict[str, Any]:
    """Options of a task or a strategy; what they mean is for those to check."""
    if not isinstance(table, dict) or len(table) > MAX_OPTIONS:
        raise InvalidInput(f"{what} must be a table of at most {MAX_OPTIONS} options")
    for name, value in table.items():
        if not isinstance(value, bool | int | float | str) or len(str(value)) > MAX_TEXT:
            raise InvalidInput(
                f"{what}: {one_line(name)} must be a number, a truth value or a text"
            )
    return dict(table)


def _whole(name: str, value: Any, low: int, high: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidInput(f"{name} must be a whole number")
    if not low <= value <= high:
        raise InvalidInput(f"{name} must be {low} to {high}, got {str(value)[:80]}")
    return value


def _text(name: str, value: Any, most: int) -> str:
    if not isinstance(value, str) or not 1 <= len(value) <= most or not value.isprintable():
        raise InvalidInput(f"{name} must be a text of 1 to {most} printable characters")
    return value


def _check_keys(what: str, table: Any, known: tuple[str, ...], required: tuple[str, ...]) -> None:
    if not isinstance(table, dict):
        raise InvalidInput(f"{what} must be a table")
    for key in table:
        if key not in known:
            raise unknown_name(f"key of {what}", key, known)
    for key in required:
        if key not in table:
            raise InvalidInput(f"{what} needs the key '{key}'")
