"""Samples for an export: of a file that the user has, of the run's task, or made up.

A file is an `.npz` with the array `inputs`, `(samples, ...)`, and for a support set `labels`, whole
numbers of the model's outputs, or `targets`, `(samples, outputs)`.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from tinyfleet.errors import InvalidInput
from tinyfleet.learner.protocol import Floats, Samples
from tinyfleet.model.spec import ModelSpec
from tinyfleet.randomness import Purpose, RandomStream
from tinyfleet.run import RunSpec, training_samples
from tinyfleet.tasks.base import Task
from tinyfleet.tasks.npz import has_array, read_array, reading

MAX_BYTES = 256 * 1024 * 1024  # our choice: of one array, as of a table
_REMEDY = "give an .npz with the array inputs, and labels or targets to learn from"
_PROBLEMS, _OF_EACH = 50, 10  # our choice: 500 samples settle the ranges of a small network

_Read = TypeVar("_Read")


@dataclass(frozen=True)
class Material:
    """Samples to calibrate on and to compare with the learner on, from wherever there are some.

    values: of one input. calibration, test: what the user gave for just that; support: what was
    learned first; of_task: inputs of the run's own task.
    """

    values: int
    calibration: Floats | None = None
    support: Samples | None = None
    test: tuple[Floats, Floats | None] | None = None
    of_task: Floats | None = None

    def for_ranges(self) -> Floats | None:
        """What sets the ranges of int8 values."""
        if self.calibration is not None:
            return self.calibration
        found = [] if self.of_task is None else [self.of_task]
        found += [] if self.support is None else [self.support.inputs]
        return np.concatenate(found) if found else None

    def to_compare(self) -> tuple[Floats, Floats | None]:
        """Inputs, and what is right for them where that is known."""
        if self.test is not None:
            return self.test
        if self.support is not None:
            return self.support.inputs, self.support.targets
        ranges = self.for_ranges()
        return (made_up_inputs(self.values) if ranges is None else ranges), None


def load_inputs(path: Path, values: int) -> Floats:
    """`(count, values) float32`; raises InvalidInput, naming the file, for anything else."""
    return _load(path, lambda archive: _inputs(archive, values))


def load_table(path: Path, values: int) -> Floats:
    """`(count, values) float32` of a CSV of numbers, a line per sample; refused like the others."""
    with reading("samples", path, "give a line of numbers, between commas, for each sample"):
        with path.open("rb") as file:
            text = file.read(MAX_BYTES + 1)
        if len(text) > MAX_BYTES:
            raise InvalidInput(f"a CSV has at most {MAX_BYTES} bytes")
        rows = np.loadtxt(text.decode("utf-8").splitlines(), np.float32, delimiter=",", ndmin=2)
        if not len(rows) or rows.shape[1] != values or not np.isfinite(rows).all():
            raise InvalidInput(f"each line must have {values} finite numbers")
        return rows


def load_samples(path: Path, values: int, spec: ModelSpec) -> Samples:
    """Inputs of so many values with labels or targets for the outputs of `spec`.

    Raises InvalidInput, naming the file, for anything else.
    """

    def read(archive: zipfile.ZipFile) -> Samples:
        inputs = _inputs(archive, values)
        return Samples(inputs, _targets(archive, spec, len(inputs)))

    return _load(path, read)


def load_test(path: Path, values: int, spec: ModelSpec) -> tuple[Floats, Floats | None]:
    """Inputs, and what is right for them where the file says so; refused like `load_samples`."""

    def read(archive: zipfile.ZipFile) -> tuple[Floats, Floats | None]:
        inputs = _inputs(archive, values)
        known = has_array(archive, "labels") or has_array(archive, "targets")
        return inputs, _targets(archive, spec, len(inputs)) if known else None

    return _load(path, read)


def task_inputs(run: RunSpec, task: Task) -> Floats:
    """`(500, values) float32`: what the first devices of the run's round 0 learned from."""
    slots = range(_PROBLEMS)
    draws = (training_samples(task, run.seed, 0, slot, _OF_EACH) for slot in slots)
    return np.concatenate([samples.inputs for samples in draws])


def made_up_inputs(values: int, count: int = 100) -> Floats:
    """`(count, values) float32` of [-1, 1): something to compare outputs on."""
    draws = RandomStream(0, Purpose.EVALUATION_TASK).uniform(count * values)
    return (2.0 * draws - 1.0).astype(np.float32).reshape(count, values)


def _load(path: Path, read: Callable[[zipfile.ZipFile], _Read]) -> _Read:
    with reading("samples", path, _REMEDY), zipfile.ZipFile(path) as archive:
        return read(archive)


def _inputs(archive: zipfile.ZipFile, values: int) -> Floats:
    array = _numbers(archive, "inputs")
    if array.ndim < 1 or len(array) == 0 or array.size != len(array) * values:
        shape = "x".join(map(str, array.shape))
        raise InvalidInput(f"inputs must be samples of {values} values, the array is {shape}")
    return array.reshape(len(array), values)


def _targets(archive: zipfile.ZipFile, spec: ModelSpec, count: int) -> Floats:
    if has_array(archive, "labels"):
        return _one_hot(read_array(archive, "labels", MAX_BYTES), spec, count)
    targets = _numbers(archive, "targets")
    if targets.size != count * spec.outputs or len(targets) != count:
        raise InvalidInput(f"targets must be {count} rows of {spec.outputs} values")
    return targets.reshape(count, spec.outputs)


def _one_hot(labels: npt.NDArray[Any], spec: ModelSpec, count: int) -> Floats:
    if spec.loss != "softmax_cross_entropy":
        raise InvalidInput(f"model '{spec.name}' is no classifier: give targets, not labels")
    if labels.dtype.kind not in "iu" or labels.shape != (count,):
        raise InvalidInput(f"labels must be {count} whole numbers")
    if not ((labels >= 0) & (labels < spec.outputs)).all():
        raise InvalidInput(f"labels must be 0 to {spec.outputs - 1}")
    rows: Floats = np.eye(spec.outputs, dtype=np.float32)[labels]
    return rows


def _numbers(archive: zipfile.ZipFile, name: str) -> Floats:
    """An array of real, finite numbers as float32."""
    array = read_array(archive, name, MAX_BYTES)
    if array.dtype.kind not in "fiu":
        raise InvalidInput(f"{name} must be numbers, got {array.dtype}")
    with np.errstate(over="ignore"):
        numbers = array.astype(np.float32)
    if not np.isfinite(numbers).all():
        raise InvalidInput(f"{name} must be finite float32 numbers")
    return numbers
