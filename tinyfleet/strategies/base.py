"""What a strategy is: a plan for the devices and a rule for the server.

A strategy is one frozen dataclass in one file. Its fields are the options a user can set; their
`metadata` says what each means. `plan(round)` is all a device ever sees of it, `apply` is a pure
function, and so is the `step` of a rule that remembers. Nothing else in TinyFleet knows one
strategy from another.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np

from tinyfleet.errors import InvalidInput, unknown_name
from tinyfleet.model.spec import Parameters
from tinyfleet.portable import portable_sine
from tinyfleet.strategies.plan import TrainingPlan

MAX_AGENTS_PER_ROUND = 1024
SCHEDULES = ("linear", "cosine", "constant")
MAX_ROUNDS = 100_000_000
MAX_SPEED_SPREAD = 3.0  # our choice: of simulated devices; one in a hundred is 1,000 times slower
# Our choice, generous: a trained model moves by 1 to 100. What is beyond has diverged, and 100
# million such steps still leave the model finite.
MAX_DELTA_NORM = 1e6
# int8 makes an update of 16 million entries at most 33 times as long.
MAX_SENT_NORM = 64 * MAX_DELTA_NORM
MAX_MEMORY_VECTORS = 4  # our choice: Adam's two, and room
_OF_THE_RUN = ("rounds", "layers")  # fields that the run fills


@dataclass(frozen=True)
class Update:
    """What one slot of a round sent back.

    delta: `(parameter_count,) float32`, trained parameters minus those the slot started from; zero
    where the plan had nothing sent, and everywhere when its training diverged. samples: how many
    samples it learned from. staleness: versions between the one it started from and the one it is
    applied to, 0 unless the strategy is `Asynchronous`.
    """

    slot: int
    delta: Parameters
    samples: int
    staleness: int = 0


def delta_of(trained: Parameters, start: Parameters, finite: bool) -> Parameters | None:
    """`trained - start`, written over `trained`; None when the training diverged.

    It diverged when it left the finite numbers (`finite` is False) or moved further than
    MAX_DELTA_NORM. The rule is the same for every device and for the simulator.
    """
    if not finite:
        return None
    delta: Parameters = np.subtract(trained, start, out=trained)
    return delta if delta_norm(delta) <= MAX_DELTA_NORM else None


def delta_norm(delta: Parameters) -> float:
    """Euclidean norm; inf when its square is beyond float32."""
    with np.errstate(over="ignore"):
        return math.sqrt(float(np.dot(delta, delta)))


Memory = tuple[Parameters, ...]
"""What a rule remembers of the rounds before: vectors, each `(parameter_count,) float32`."""


class Strategy(Protocol):
    """A federated algorithm. Implementations are frozen dataclasses.

    One whose rule remembers has `memory_vectors` and `step` in place of `apply`: `Remembering`.
    """

    name: ClassVar[str]

    @property
    def agents_per_round(self) -> int:
        """How many slots a round has, 1 to 1,024; each is one device's task."""
        ...

    def plan(self, round: int) -> TrainingPlan:
        """What each device does in `round`, which counts from 0.

        `local`, `upload` and `download` are the same in every round: they are the format of a
        run's traffic.
        """
        ...

    def apply(self, model: Parameters, updates: Sequence[Update], round: int) -> Parameters:
        """The next model, a new array, from at least one update, in the order of their slots."""
        ...


class Remembering(Protocol):
    """The rule of a strategy that keeps something between rounds.

    memory_vectors: how many vectors, 1 to 4; each begins at zero.
    """

    memory_vectors: ClassVar[int]

    def step(
        self, model: Parameters, memory: Memory, updates: Sequence[Update], round: int
    ) -> tuple[Parameters, Memory]:
        """The next model and the next memory, new arrays, from at least one update."""
        ...


def memory_vectors(strategy: Strategy) -> int:
    """How many vectors the strategy's rule keeps; 0 for one that needs the model alone."""
    return int(getattr(strategy, "memory_vectors", 0))


@runtime_checkable
class Asynchronous(Protocol):
    """A strategy whose rounds overlap: it has these beside what a `Strategy` has.

    Its slots are given out in order, whatever the version, at most `concurrency` at once. The first
    `agents_per_round` updates to arrive make the next version, in the order of their arrival and
    whichever rounds their slots are of; one that started more than `max_staleness` versions before
    is refused, and its slot is given out again. So every slot of every round is applied once.
    """

    @property
    def concurrency(self) -> int:
        """How many slots may be out at once, 1 to 1,024."""
        ...

    @property
    def max_staleness(self) -> int:
        """Versions that an update may be behind, at least 0."""
        ...

    @property
    def speed_spread(self) -> float:
        """How unlike in speed the simulator's devices are, 0 to 3; no fleet looks at it."""
        ...


def asynchronous(strategy: Strategy) -> Asynchronous | None:
    """The strategy, if its rounds overlap; None for one whose rounds follow one another."""
    return strategy if isinstance(strategy, Asynchronous) else None


def option(
    default: Any, help: str, low: float = 0, high: float = 0, choices: Sequence[str] = ()
) -> Any:
    """A strategy's option: its default, what it means, and its closed range.

    A text has choices in place of the range, a truth value neither.
    """
    about = {"help": help, "low": low, "high": high, "choices": tuple(choices)}
    return field(default=default, metadata=about)


def rounds_option() -> Any:
    """The length of the run, which schedules need; set by the run, not by the user."""
    return field(metadata={"help": "rounds of the run", "low": 1, "high": MAX_ROUNDS})


def layers_option() -> Any:
    """Names of the model's layers with parameters, first to last; set by the run, as `rounds`."""
    return field(default=(), metadata={"help": "layers with parameters"})


def options_of(strategy: type) -> dict[str, Field[Any]]:
    """The options a user can set, by name."""
    return {entry.name: entry for entry in fields(strategy) if entry.name not in _OF_THE_RUN}


def build(
    strategy: type, rounds: int, options: Mapping[str, Any], layers: tuple[str, ...] = ()
) -> Any:
    """The strategy with `options` over its defaults; each is checked against its range.

    layers: names of the model's layers with parameters, for a strategy that asks for them.
    """
    known = options_of(strategy)
    for name in options:
        if name not in known:
            raise unknown_name(f"option of {strategy.name}", name, known)  # type: ignore[attr-defined]
    values = {name: _checked(known[name], value) for name, value in options.items()}
    given = {entry.name: entry for entry in fields(strategy) if entry.name in _OF_THE_RUN}
    if "layers" in given:
        values["layers"] = layers
    return strategy(rounds=_checked(given["rounds"], rounds), **values)


def annealed(rate: float, round: int, rounds: int) -> np.float32:
    """`rate` falling linearly to 0 over the run: rate * (1 - round / rounds), as float32.

    The outer step of Reptile (arXiv 1803.02999, reference code) anneals this way.
    """
    return np.float32(rate * (1.0 - round / rounds))


def scheduled(schedule: str, rate: float, round: int, rounds: int) -> np.float32:
    """`rate` in `round` by one of SCHEDULES, as float32.

    linear: as `annealed`. cosine: rate * (1 + cos(pi * round / rounds)) / 2. constant: `rate`.
    """
    if schedule == "linear":
        return annealed(rate, round, rounds)
    if schedule == "constant":
        return np.float32(rate)
    # The same by the half-angle formula, with a sine that has the same bits on every processor.
    sine = float(portable_sine(np.array([0.5 * math.pi * (round / rounds)]))[0])
    return np.float32(rate * (1.0 - sine * sine))


def mean_delta(updates: Sequence[Update], weights: Sequence[float]) -> Parameters:
    """The weighted mean of the updates' deltas, summed in float64 in the order of the slots."""
    total = math.fsum(weights)
    if not updates or total <= 0.0:
        raise InvalidInput("a round needs at least one update of positive weight")
    mean = np.zeros(updates[0].delta.shape, np.float64)
    for update, weight in zip(updates, weights, strict=True):
        mean += update.delta * (weight / total)
    return mean.astype(np.float32)


def _checked(entry: Field[Any], value: Any) -> Any:
    if entry.type in ("bool", bool):
        return _checked_truth(entry.name, value)
    if entry.type in ("str", str):
        return _checked_choice(entry, value)
    whole = entry.type in ("int", int)
    if not _is_number(value) or (whole and value != int(value)):
        kind = "a whole number" if whole else "a number"
        raise InvalidInput(f"{entry.name} must be {kind}, got {str(value)[:80]}")
    low, high = entry.metadata["low"], entry.metadata["high"]
    if not low <= value <= high:
        raise InvalidInput(f"{entry.name} must be {low:g} to {high:g}, got {str(value)[:80]}")
    return int(value) if whole else float(value)


def _checked_truth(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise InvalidInput(f"{name} must be true or false, got {str(value)[:80]}")
    return value


def _checked_choice(entry: Field[Any], value: Any) -> str:
    choices: tuple[str, ...] = entry.metadata["choices"]
    if value not in choices:
        raise unknown_name(entry.name, str(value)[:80], choices)
    return str(value)


def _is_number(value: Any) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, int) and not isinstance(value, bool)


def default_of(entry: Field[Any]) -> Any:
    """The default of an option, None where it has none."""
    return None if entry.default is MISSING else entry.default
