"""A task from a table of one's own samples: an `.npz`, and no code.

    inputs      (samples, ...)            what the model sees; one, two or three axes a sample
    labels      (samples,)                its class, a number or a text        -+ one of the two
    targets     (samples,) or (samples, n)  or the numbers to predict          -+
    groups      (samples,)                whose sample it is: a device, a person, a machine
    evaluation  (any number,)             the groups (without groups: the classes) to test on

Labels alone: n-way problems, new classes each time. With groups, each group is a problem of its
own: all classes mean the same for each (labels), or each has a function of its own (targets).
Without `evaluation` every fifth group, or class, of the sorted ones tests. Nothing that tests is
trained on.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from tinyfleet.errors import InvalidInput
from tinyfleet.learner.protocol import Floats, Samples
from tinyfleet.model.layers import MAX_CHANNELS, MAX_SIDE, Shape
from tinyfleet.randomness import RandomStream
from tinyfleet.tasks.base import FewShotProblem, TrainingClasses, check_shots
from tinyfleet.tasks.classes import (
    Numbers,
    check_ways,
    draw_evaluation,
    draw_labelled,
    draw_training,
    problem_of,
)
from tinyfleet.tasks.holders import Held, Holders, make_dealing
from tinyfleet.tasks.npz import has_array, read_array, reading

REMEDY = "give an .npz with the arrays inputs and labels (or targets and groups) with --data"
MAX_BYTES = 256 * 1024 * 1024  # our choice: of one array
MAX_NAMES = 10_000  # our choice: classes, or groups
MAX_VALUES = 65_535  # channels, or values of a vector: as of a model
DEALT_BY = ("dirichlet",)
_TEST_EVERY = 5
_DEFAULT_WAYS = 5


class TableOutline:
    """What the task `table` is, without its file.

    Whoever has the file need say nothing but `ways`, for labels without groups. input_shape:
    `HEIGHTxWIDTHxCHANNELS`; ways: outputs of a classifier; targets: values to predict, where
    there are no labels. A run carries them, so that those who lack the file know its shapes, and an
    agent whose file has other ones says so. holders, by (`dirichlet`), alpha: for labels without
    groups, see `tinyfleet.tasks.holders`.
    """

    name: ClassVar[str] = "table"
    default_model: ClassVar[str] = "mlp_64"
    recommended: ClassVar[Mapping[str, Mapping[str, Any]]] = MappingProxyType({})
    recommended_evaluation: ClassVar[Mapping[str, Any]] = MappingProxyType(
        {"shots": 5, "queries": 5}
    )

    def __init__(
        self,
        input_shape: str = "",
        ways: int = 0,
        targets: int = 0,
        holders: int = 0,
        by: str = "",
        alpha: float = 0.0,
    ) -> None:
        if not input_shape or bool(ways) == bool(targets):
            raise InvalidInput(
                f"task 'table' takes its shapes from its data: {REMEDY}, or the options "
                "input_shape=HxWxC and ways=N (or targets=N)"
            )
        self.input_shape: Shape = _parsed_shape(input_shape)
        self._dealing = make_dealing(DEALT_BY, holders, by, alpha)
        kind, value = ("targets", targets) if targets else ("ways", ways)
        self.outputs = check_ways(value, MAX_CHANNELS) if ways else _checked_targets(value)
        self.loss = "softmax_cross_entropy" if ways else "mean_squared_error"
        self.options: Mapping[str, Any] = MappingProxyType(
            {"input_shape": _shape_text(self.input_shape), kind: value, **self._dealing.options}
        )


class Table(TableOutline, Held):
    """The task `table`. The file is read at construction and held in memory as float32."""

    def __init__(
        self,
        data: Path | None,
        input_shape: str = "",
        ways: int = 0,
        targets: int = 0,
        holders: int = 0,
        by: str = "",
        alpha: float = 0.0,
    ) -> None:
        if data is None:
            raise InvalidInput(f"task 'table' needs its data: {REMEDY}")
        self._table = table = read_table(data)
        have = _shape_text(table.shape)
        if input_shape and _shape_text(_parsed_shape(input_shape)) != have:
            raise InvalidInput(f"{data} holds inputs of {have}, not of {input_shape[:80]}")
        most = min(len(table.training), len(table.evaluation))
        if isinstance(table, _Classes):
            super().__init__(have, ways or min(_DEFAULT_WAYS, most), targets, holders, by, alpha)
            check_ways(self.outputs, most)
            if holders:
                self._held = Holders(self._dealing.deal(table.training, None, self.outputs))
            return
        if holders or by or alpha:
            raise InvalidInput("a table with groups has its holders already: leave holders out")
        kind = "ways" if table.labels is not None else "targets"
        sizes = {"ways": ways, "targets": targets} | {kind: table.outputs}
        super().__init__(have, sizes["ways"], sizes["targets"])
        if (ways or targets) not in (0, self.outputs):
            raise InvalidInput(f"{data} has {self.outputs} {kind}, not {ways or targets}")

    def training_samples(self, stream: RandomStream, count: int) -> Samples:
        """Classes: as many of each as of any other, give or take one. A group: its samples as they
        come, in random order.
        """
        table = self._table
        if self._held is not None and isinstance(table, _Classes):
            table = replace(table, training=list(self._held.draw(stream)))
        return table.training_samples(stream, self.outputs, count)

    @property
    def training_classes(self) -> TrainingClasses | None:
        """Labels without groups have them; with groups, a class is the same for everybody."""
        table = self._table
        if not isinstance(table, _Classes):
            return None
        return TrainingClasses(len(table.training), table.labelled)

    @property
    def test_samples(self) -> int:
        """Of a table with groups and labels: of the largest class of each group."""
        return self._table.test_samples

    def evaluation_problem(self, stream: RandomStream, shots: int, queries: int) -> FewShotProblem:
        """A group with labels: `shots` and `queries` of each class that it has enough of."""
        check_shots(shots, queries)
        return self._table.evaluation_problem(stream, self.outputs, shots, queries)


@dataclass(frozen=True)
class _Classes:
    """Labels without groups: which samples each class to train and to test on has."""

    shape: Shape
    inputs: Floats
    training: list[Numbers]
    evaluation: list[Numbers]

    @property
    def test_samples(self) -> int:
        return min(map(len, self.evaluation))

    def training_samples(self, stream: RandomStream, ways: int, count: int) -> Samples:
        batch = draw_training(stream, self.training, ways, count)
        return batch.samples(self.inputs[batch.numbers], ways)

    def labelled(self, stream: RandomStream, count: int) -> Samples:
        batch = draw_labelled(stream, self.training, count)
        return batch.samples(self.inputs[batch.numbers], len(self.training))

    def evaluation_problem(
        self, stream: RandomStream, ways: int, shots: int, queries: int
    ) -> FewShotProblem:
        batches = draw_evaluation(stream, self.evaluation, ways, shots, queries)
        support, query = (self.inputs[batch.numbers] for batch in batches)
        return problem_of(batches, (support, query), ways)


@dataclass(frozen=True)
class _Groups:
    """Groups: which samples each one to train and to test on has, with targets of one meaning.

    labels: the class of each sample, None for regression. targets: `(samples, outputs)`.
    """

    shape: Shape
    inputs: Floats
    training: list[Numbers]
    evaluation: list[Numbers]
    targets: Floats
    labels: Numbers | None

    @property
    def outputs(self) -> int:
        return int(self.targets.shape[1])

    def training_samples(self, stream: RandomStream, ways: int, count: int) -> Samples:
        members = _drawn(stream, self.training)
        return self._rows(members[np.arange(count) % len(members)])

    def evaluation_problem(
        self, stream: RandomStream, ways: int, shots: int, queries: int
    ) -> FewShotProblem:
        parts = self._classes_of(_drawn(stream, self.evaluation))
        enough = [part for part in parts if len(part) >= shots + queries]
        if not enough:
            raise InvalidInput(
                f"a group to test on has fewer than {shots} shots and {queries} queries"
                f"{'' if self.labels is None else ' of every class'}: ask for fewer"
            )
        support = np.concatenate([part[:shots] for part in enough])
        query = np.concatenate([part[shots : shots + queries] for part in enough])
        return FewShotProblem(
            self._rows(support[stream.permutation(len(support))]),
            self._rows(query[stream.permutation(len(query))]),
        )

    @property
    def test_samples(self) -> int:
        return min(max(map(len, self._classes_of(group))) for group in self.evaluation)

    def _classes_of(self, members: Numbers) -> list[Numbers]:
        """The samples of each class among the members; all in one where there are no labels."""
        if self.labels is None:
            return [members]
        own = self.labels[members]
        return [members[own == label] for label in np.unique(own)]

    def _rows(self, numbers: Numbers) -> Samples:
        return Samples(self.inputs[numbers], self.targets[numbers])


def _drawn(stream: RandomStream, groups: list[Numbers]) -> Numbers:
    """The samples of one group in random order."""
    members = groups[int(stream.integers(1, len(groups))[0])]
    drawn: Numbers = members[stream.permutation(len(members))]
    return drawn


def read_table(path: Path) -> _Classes | _Groups:
    """The file, checked; raises InvalidInput."""
    if not path.is_file():
        raise InvalidInput(f"no table at {path}: {REMEDY}")
    with reading("table", path, REMEDY), zipfile.ZipFile(path) as archive:
        raw = read_array(archive, "inputs", MAX_BYTES)
        shape = _sample_shape(raw.shape)
        inputs = _numbers("inputs", raw)
        optional = {
            name: read_array(archive, name, MAX_BYTES) if has_array(archive, name) else None
            for name in ("labels", "targets", "groups", "evaluation")
        }
        labels, targets, groups = (optional[name] for name in ("labels", "targets", "groups"))
        if (labels is None) == (targets is None):
            raise InvalidInput("it must hold either labels or targets")
        if groups is None and labels is None:
            raise InvalidInput("targets need groups: whose each sample is")
        if labels is not None:
            values, codes = _names("labels", labels, len(inputs))
            if groups is None:
                return _Classes(shape, inputs, *_split(values, codes, optional["evaluation"]))
            classes = check_ways(len(values), MAX_CHANNELS)
            rows = np.eye(classes, dtype=np.float32)[codes]
        else:
            codes, rows = None, _rows_of("targets", targets, len(inputs))
        parts = _split(*_names("groups", groups, len(inputs)), optional["evaluation"])
        return _Groups(shape, inputs, *parts, rows, codes)


def _rows_of(name: str, array: Any, count: int) -> Floats:
    rows = _numbers(name, array)
    if len(rows) != count or rows.shape[1] > MAX_CHANNELS:
        raise InvalidInput(f"{name} must be a row for each sample")
    return rows


def _split(
    values: list[Any], codes: Numbers, evaluation: npt.NDArray[Any] | None
) -> tuple[list[Numbers], list[Numbers]]:
    """The samples of each group (or class) to train on, and of each to test on."""
    if evaluation is None:
        tested = set(values[_TEST_EVERY - 1 :: _TEST_EVERY]) or set(values[-1:])
    else:
        tested = set(evaluation.reshape(-1).tolist())
        if strange := tested - set(values):
            raise InvalidInput(f"evaluation names {str(min(strange, key=str))!r:.80}, nobody's")
    members = [np.flatnonzero(codes == code) for code in range(len(values))]
    train = [m for value, m in zip(values, members, strict=True) if value not in tested]
    test = [m for value, m in zip(values, members, strict=True) if value in tested]
    if not (train and test):
        raise InvalidInput("there must be something to train on and something to test on")
    return train, test


def _names(name: str, array: Any, count: int) -> tuple[list[Any], Numbers]:
    """The different values, sorted, and which of them each sample has."""
    if array.shape != (count,) or array.dtype.kind not in "iuUb":
        raise InvalidInput(f"{name} must be a whole number or a text for each sample")
    values, codes = np.unique(array, return_inverse=True)
    if len(values) > MAX_NAMES:
        raise InvalidInput(f"{name} has more than {MAX_NAMES} different values")
    return values.tolist(), codes.astype(np.int64)


def _numbers(name: str, array: npt.NDArray[Any]) -> Floats:
    """`(samples, values) float32`, finite."""
    if array.ndim < 1 or array.dtype.kind not in "fiub" or array.size == 0:
        raise InvalidInput(f"{name} must hold real numbers, got {array.dtype} {array.shape}")
    if 4 * array.size > MAX_BYTES:
        raise InvalidInput(f"{name} takes more than {MAX_BYTES} bytes as float32")
    with np.errstate(over="ignore"):  # what becomes infinite is refused with the rest
        rows = np.ascontiguousarray(array.reshape(len(array), -1), np.float32)
    if not np.isfinite(rows).all():
        raise InvalidInput(f"{name} holds values that are not finite")
    return rows


def _sample_shape(shape: tuple[int, ...]) -> Shape:
    """A sample of one axis is a vector, of two an image of one channel."""
    if not 1 <= len(shape) <= 4:
        raise InvalidInput("inputs must have one to three axes a sample")
    sides = shape[1:]
    whole = {0: (1, 1, 1), 1: (1, 1, *sides), 2: (*sides, 1), 3: sides}[len(sides)]
    return _checked_shape(whole)


def _parsed_shape(text: object) -> Shape:
    sides = str(text)[:80].split("x")
    if not (isinstance(text, str) and len(sides) == 3 and all(map(_is_number, sides))):
        raise InvalidInput(f"input_shape must be HEIGHTxWIDTHxCHANNELS, got {text!r:.80}")
    return _checked_shape(tuple(int(side) for side in sides))


def _checked_shape(sides: tuple[int, ...]) -> Shape:
    height, width, channels = sides
    if not (1 <= height <= MAX_SIDE and 1 <= width <= MAX_SIDE and 1 <= channels <= MAX_VALUES):
        raise InvalidInput(f"inputs of {'x'.join(map(str, sides))} are out of range")
    return height, width, channels


def _checked_targets(targets: object) -> int:
    if isinstance(targets, bool) or not isinstance(targets, int):
        raise InvalidInput(f"targets must be a whole number, got {targets!r:.80}")
    if not 1 <= targets <= MAX_CHANNELS:
        raise InvalidInput(f"targets must be 1 to {MAX_CHANNELS}, got {targets}")
    return targets


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 6


def _shape_text(shape: Shape) -> str:
    return "x".join(map(str, shape))
