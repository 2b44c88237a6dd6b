"""Where an agent's samples come from: the run's task, data of its own, or a board's sensor.

Those of a topic are in `edge_agents.topic.stream`.
"""

from __future__ import annotations

import tokenize
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np

from tinyfleet.errors import InvalidInput
from tinyfleet.learner.protocol import Floats, Samples
from tinyfleet.randomness import Purpose, RandomStream
from tinyfleet.run import SampleShape, training_samples
from tinyfleet.tasks.base import Task

MAX_OWN_BYTES = (
    256 * 1024 * 1024
)  # our choice: own data are held in memory, and a Pi has 1 GB or more
_ARRAYS = ("inputs", "targets")
_UNREADABLE = (
    InvalidInput,
    ValueError,  # pickles, damaged headers
    EOFError,
    NotImplementedError,  # compressed in a way that zipfile does not know
    RuntimeError,  # encrypted
    SyntaxError,  # NumPy reads an array's header as Python
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)


class SampleSource(Protocol):
    """Gives samples to train on. draws: whether all of them pass through `draw`."""

    draws: ClassVar[bool]

    def check(self, need: SampleShape) -> None:
        """Raise InvalidInput unless the samples are what the run needs."""
        ...

    def draw(self, round: int, slot: int, count: int) -> Samples:
        """`count` samples for a slot of a round. May block."""
        ...


@dataclass(frozen=True, slots=True)
class SlotSamples:
    """What one slot of a round learns from; see `edge_agents.trainers.protocol.Draw`."""

    source: SampleSource
    run_seed: int
    round: int
    slot: int
    run_id: str = ""

    def __call__(self, count: int) -> Samples:
        return self.source.draw(self.round, self.slot, count)

    def seeds(self, count: int) -> list[int]:
        stream = RandomStream(self.run_seed, Purpose.TRAINING_TASK, self.round, self.slot)
        return [int(seed) for seed in stream.integers(count, below=2**32)]


class TaskSource:
    """What the task gives that slot: the same samples, whichever agent serves it."""

    draws: ClassVar[bool] = True

    def __init__(self, task: Task, seed: int) -> None:
        self._task = task
        self._seed = seed

    def check(self, need: SampleShape) -> None:
        have = SampleShape(self._task.input_shape, self._task.outputs, self._task.loss)
        if have != need:
            raise InvalidInput(f"task '{self._task.name}' gives {have}; the run takes {need}")

    def draw(self, round: int, slot: int, count: int) -> Samples:
        return training_samples(self._task, self._seed, round, slot, count)


class FileSource:
    """Samples of the agent's own, in the order of the file, from the start again after the last."""

    draws: ClassVar[bool] = True

    def __init__(self, samples: Samples) -> None:
        self._samples = samples
        self._next = 0

    def from_the_first(self) -> FileSource:
        """The same samples in a stream of its own."""
        return FileSource(self._samples)

    def check(self, need: SampleShape) -> None:
        have = (self._samples.inputs.shape[1], self._samples.targets.shape[1])
        if have != (need.inputs, need.outputs):
            raise InvalidInput(
                f"own data have {have[0]} inputs and {have[1]} targets a sample, "
                f"the run takes {need.inputs} and {need.outputs}"
            )

    def draw(self, round: int, slot: int, count: int) -> Samples:
        """The next `count` of the stream, whatever the slot."""
        chosen = np.arange(self._next, self._next + count) % len(self._samples)
        self._next = (self._next + count) % len(self._samples)
        return Samples(self._samples.inputs[chosen], self._samples.targets[chosen])


class SensorSource:
    """The sensor of a board, which the board reads by itself, for models of any shape."""

    draws: ClassVar[bool] = False

    def check(self, need: SampleShape) -> None:
        pass

    def draw(self, round: int, slot: int, count: int) -> Samples:
        """Raises InvalidInput: no sample of a sensor passes through the agent."""
        raise InvalidInput("a sensor's samples stay on its board: only a board can train on them")


def load_own_data(path: Path) -> FileSource:
    """Read an .npz with `inputs` and `targets`, a sample each row, of any real type.

    Raises InvalidInput for a file that is missing, damaged, pickled, too large, empty or
    not finite.
    """
    try:
        _check_size(path)
        with np.load(path, allow_pickle=False) as archive:
            inputs, targets = (_rows(archive[name]) for name in _ARRAYS)
        return FileSource(_checked(inputs, targets))
    except OSError as error:
        raise InvalidInput(f"cannot read own data {path}: {error.strerror or error}") from None
    except KeyError:
        raise InvalidInput(f"own data {path} must hold the arrays inputs and targets") from None
    except _UNREADABLE as error:
        raise InvalidInput(f"own data {path} cannot be used: {error}") from None


def _check_size(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        sizes = {info.filename: info.file_size for info in archive.infolist()}
    if sum(sizes.get(f"{name}.npy", 0) for name in _ARRAYS) > MAX_OWN_BYTES:
        raise InvalidInput(f"more than {MAX_OWN_BYTES} bytes")


def _rows(array: np.ndarray[Any, Any]) -> Floats:
    """`(samples, values) float32`; a sample of several axes becomes one row."""
    if array.ndim < 1 or array.dtype.kind not in "fiub" or array.size == 0:
        raise InvalidInput(
            f"arrays must hold real numbers and a sample, got {array.dtype} {array.shape}"
        )
    with np.errstate(over="ignore"):  # infinities are refused below, like those of the file
        return np.ascontiguousarray(array.reshape(len(array), -1), np.float32)


def _checked(inputs: Floats, targets: Floats) -> Samples:
    if not (np.isfinite(inputs).all() and np.isfinite(targets).all()):
        raise InvalidInput("it holds values that are not finite")
    return Samples(inputs, targets)
