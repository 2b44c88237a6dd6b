"""Gestures: tell a few digits apart that somebody drew in the air, from other digits.

Each sample is a stroke (magic wand digit data by Pete Warden), 32 points along it. n-way k-shot
problems. The data hold eight digits by one person, so the split is ours and small: 0, 2, 4, 6 and 8
train, 3, 5 and 7 test; with rotations, each quarter turn of a training digit is a gesture of its
own, 20 in all. What it can show: whether a start learned from some of a person's gestures helps
with others of the same person. What it cannot: anything about new people; and with three digits
to test on, 3-way problems differ in their strokes only. One person's digits are easy, too: with
enough steps a network that starts at random does as well, so that a learned start saves steps
and not samples.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np

from tinyfleet.errors import InvalidInput, unknown_name
from tinyfleet.learner.protocol import Floats, Samples
from tinyfleet.model.layers import Shape
from tinyfleet.randomness import RandomStream
from tinyfleet.tasks.base import FewShotProblem, TrainingClasses
from tinyfleet.tasks.classes import (
    Numbers,
    check_ways,
    draw_evaluation,
    draw_labelled,
    draw_training,
    problem_of,
)
from tinyfleet.tasks.holders import Held, Holders, make_dealing
from tinyfleet.tasks.npz import check_labels, lengths_of, read_array, reading
from tinyfleet.tasks.strokes import POINTS, STEPS, Features, stroke_features

REMEDY = "give gestures.npz with --data or TINYFLEET_DATA"
SPLITS = ("test", "validation")
DEALT_BY = ("dirichlet",)
TRAINING = {"test": (0, 2, 4, 6, 8), "validation": (0, 2)}
EVALUATION = {"test": (3, 5, 7), "validation": (4, 6, 8)}
MAX_STROKES = 100_000  # our choice
MAX_STROKE_POINTS = 10_000
_TURNS = 4
_MOST_WAYS = 3


class GesturesOutline:
    """What the task `gestures` is, without the strokes.

    ways: 2 or 3. rotations: whether training has turned digits too. split: `test`, or `validation`
    to choose settings by: 0 and 2 train, 4, 6 and 8 test. holders, by (`dirichlet`), alpha: see
    `tinyfleet.tasks.holders`; a stroke's turns are its holder's, too.
    """

    name: ClassVar[str] = "gestures"
    default_model: ClassVar[str] = "mlp_64"
    recommended: ClassVar[Mapping[str, Mapping[str, Any]]] = MappingProxyType(
        {"tiny_reptile": {"samples": 60, "inner_rate": 0.05, "outer_rate": 0.25}}
    )
    recommended_evaluation: ClassVar[Mapping[str, Any]] = MappingProxyType(
        {"shots": 5, "queries": 15, "passes": 5, "rate": 0.05}
    )

    input_shape: Shape = (1, 1, 2 * POINTS)
    loss = "softmax_cross_entropy"

    def __init__(
        self,
        ways: int = 3,
        rotations: bool = True,
        split: str = "test",
        holders: int = 0,
        by: str = "",
        alpha: float = 0.0,
    ) -> None:
        if not isinstance(rotations, bool):
            raise InvalidInput(f"rotations must be true or false, got {rotations!r:.80}")
        if split not in SPLITS:
            raise unknown_name("split", str(split), SPLITS)
        self.outputs = check_ways(ways, _MOST_WAYS)
        self._dealing = make_dealing(DEALT_BY, holders, by, alpha)
        self.options: Mapping[str, Any] = MappingProxyType(
            {"ways": ways, "rotations": rotations, "split": split, **self._dealing.options}
        )


class Gestures(GesturesOutline, Held):
    """The task `gestures`: 64 coordinates in [-1, 1] to one of `ways` digits, cross-entropy."""

    def __init__(
        self,
        data: Path | None,
        ways: int = 3,
        rotations: bool = True,
        split: str = "test",
        holders: int = 0,
        by: str = "",
        alpha: float = 0.0,
    ) -> None:
        super().__init__(ways, rotations, split, holders, by, alpha)
        self._features, by_digit = read_strokes(data)
        self._turns = _TURNS if rotations else 1
        digits = [by_digit[digit] for digit in _present(by_digit, TRAINING[split])]
        self._training = self._turned(digits)
        self._evaluation = [by_digit[digit] for digit in _present(by_digit, EVALUATION[split])]
        check_ways(ways, min(len(self._training), len(self._evaluation)))
        if self._dealing.holders:
            held = self._dealing.deal(digits, None, -(-ways // self._turns))
            self._held = Holders(tuple(tuple(self._turned(digits)) for digits in held))

    def training_samples(self, stream: RandomStream, count: int) -> Samples:
        """As many of each gesture as of any other, give or take one, in random order."""
        classes = self._training if self._held is None else self._held.draw(stream)
        batch = draw_training(stream, classes, self.outputs, count)
        return batch.samples(self._inputs(batch.numbers), self.outputs)

    @property
    def training_classes(self) -> TrainingClasses:
        return TrainingClasses(len(self._training), self._labelled)

    @property
    def test_samples(self) -> int:
        return min(map(len, self._evaluation))

    def evaluation_problem(self, stream: RandomStream, shots: int, queries: int) -> FewShotProblem:
        batches = draw_evaluation(stream, self._evaluation, self.outputs, shots, queries)
        support, query = (self._inputs(batch.numbers) for batch in batches)
        return problem_of(batches, (support, query), self.outputs)

    def _turned(self, digits: Sequence[Numbers]) -> list[Numbers]:
        """Each turn of each digit; turn t of stroke s has the number s + t * strokes."""
        strokes = len(self._features)
        return [digit + turn * strokes for digit in digits for turn in range(self._turns)]

    def _labelled(self, stream: RandomStream, count: int) -> Samples:
        batch = draw_labelled(stream, self._training, count)
        return batch.samples(self._inputs(batch.numbers), len(self._training))

    def _inputs(self, numbers: Numbers) -> Floats:
        """Exact in float32: multiples of 1/64."""
        turns, strokes = np.divmod(numbers, len(self._features))
        points = self._features[strokes].astype(np.float32).reshape(-1, POINTS, 2)
        points = np.where((turns % 2 == 1)[:, np.newaxis, np.newaxis], points[:, :, ::-1], points)
        turned = points * _SIGNS[turns][:, np.newaxis, :]
        return (turned / np.float32(STEPS)).reshape(len(numbers), -1)


# What a quarter turn makes of (x, y), after the two were swapped for turns 1 and 3.
_SIGNS = np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]], np.float32)


def read_strokes(path: Path | None) -> tuple[Features, dict[int, Numbers]]:
    """`(strokes, 64) int8`, and which of them show each digit; raises InvalidInput."""
    if path is None:
        raise InvalidInput(f"task 'gestures' needs its data: {REMEDY}")
    if path.is_dir() and (path / "gestures.npz").exists():
        path = path / "gestures.npz"
    if not path.is_file():
        raise InvalidInput(f"no gestures at {path}: {REMEDY}")
    with reading("gestures", path, REMEDY), zipfile.ZipFile(path) as archive:
        names = read_array(archive, "gestures")
        labels = read_array(archive, "label")
        parts = _parts(read_array(archive, "points"), read_array(archive, "offsets"))
        digits = _digits(names)
        check_labels(labels, len(parts), len(digits))
        features = np.stack([stroke_features(part) for part in parts])
        return features, {d: np.flatnonzero(labels == i) for i, d in enumerate(digits)}


def _parts(points: Any, offsets: Any) -> list[Any]:
    """The points of each stroke; their scale does not matter, so they are taken as they are."""
    if points.ndim != 2 or points.shape[1] != 2 or points.dtype.kind not in "iuf":
        raise InvalidInput("points must be numbers (count, 2)")
    if not np.isfinite(points).all() or np.abs(points.astype(np.float64)).max(initial=0.0) > 1e9:
        raise InvalidInput("points must be finite and at most 1e9")
    lengths = lengths_of(offsets, MAX_STROKES, MAX_STROKE_POINTS)
    if sum(lengths) > len(points):
        raise InvalidInput("points must be as long as the offsets say")
    return np.split(points[: sum(lengths)], np.cumsum(lengths)[:-1])


def _digits(names: Any) -> list[int]:
    """The digit of each `digit_N`."""
    if names.ndim != 1 or names.dtype.kind != "U" or len(names) > 10:
        raise InvalidInput("gestures must be at most 10 texts digit_0 to digit_9")
    known = {f"digit_{digit}": digit for digit in range(10)}
    if bad := [str(name) for name in names.tolist() if name not in known]:
        raise unknown_name("gesture", bad[0], known)
    return [known[str(name)] for name in names.tolist()]


def _present(by_digit: Mapping[int, Numbers], wanted: tuple[int, ...]) -> list[int]:
    return [digit for digit in wanted if digit in by_digit and len(by_digit[digit])]
