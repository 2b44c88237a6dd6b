"""Omniglot: tell a few handwritten characters apart that nobody has seen before.

Lake, Salakhutdinov and Tenenbaum, Science 350 (2015). n-way k-shot problems as in Vinyals et al.,
arXiv 1606.04080: `ways` characters drawn at random, images of 28 x 28, each rotation of a training
character by 90, 180 or 270 degrees a character of its own. Training takes the 30 background
alphabets and testing the 10 evaluation alphabets, so a problem is new down to its script.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from tinyfleet.errors import InvalidInput
from tinyfleet.learner.protocol import Samples
from tinyfleet.model.layers import Shape
from tinyfleet.randomness import RandomStream
from tinyfleet.tasks.base import FewShotProblem, check_shots
from tinyfleet.tasks.image_store import ImageStore
from tinyfleet.tasks.omniglot_data import SIDE, OmniglotData, open_omniglot

_ROTATIONS = 4
_MAX_WAYS = 1623  # characters of the whole data set


class OmniglotOutline:
    """What the task `omniglot` is, without the drawings.

    ways: classes of a problem, from 2. rotations: whether training has rotated characters too.
    """

    name: ClassVar[str] = "omniglot"
    default_model: ClassVar[str] = "cnn_s"
    recommended: ClassVar[Mapping[str, Mapping[str, Any]]] = MappingProxyType(
        {
            "tiny_reptile": {"samples": 100, "inner_rate": 0.02, "outer_rate": 0.25},
            "tiny_meta_fed": {
                "samples": 90,
                "local_samples": 10,
                "inner_rate": 0.02,
                "local_rate": 0.02,
                "outer_rate": 1.0,
            },
            "reptile": {"inner_rate": 0.05},
        }
    )
    recommended_evaluation: ClassVar[Mapping[str, Any]] = MappingProxyType(
        {"shots": 5, "queries": 15, "passes": 5, "rate": 0.01}
    )

    input_shape: Shape = (SIDE, SIDE, 1)
    loss = "softmax_cross_entropy"

    def __init__(self, ways: int = 5, rotations: bool = True) -> None:
        if not isinstance(rotations, bool):
            raise InvalidInput(f"rotations must be true or false, got {rotations!r}")
        if isinstance(ways, bool) or not isinstance(ways, int):
            raise InvalidInput(f"ways must be a whole number, got {ways!r}")
        _check_ways(ways, _MAX_WAYS)
        self.outputs = ways
        self.options: Mapping[str, Any] = MappingProxyType({"ways": ways, "rotations": rotations})


class Omniglot(OmniglotOutline):
    """The task `omniglot`: grey images to one of `ways` classes, cross-entropy.

    ways: 2 to the number of evaluation characters. rotations: whether training has the rotated
    characters too. A split's images are read when the first problem of that split is drawn.
    """

    def __init__(self, data: Path | None, ways: int = 5, rotations: bool = True) -> None:
        super().__init__(ways, rotations)
        self._data: OmniglotData = open_omniglot(data)
        classes = (self._data.class_count(split) for split in ("background", "evaluation"))
        _check_ways(ways, min(classes))
        self._rotations = _ROTATIONS if rotations else 1

    @property
    def drawings(self) -> int:
        """Drawings of each character: support and query samples a class together."""
        return self._data.drawings

    def training_samples(self, stream: RandomStream, count: int) -> Samples:
        """As many of each class as of any other, give or take one, in random order.

        Beyond `ways * drawings` samples the drawings come again.
        """
        classes = len(self._background) // self.drawings
        picks = _distinct(stream, classes * self._rotations, self.outputs)
        numbers = self._choose(stream, picks // self._rotations, -(-count // self.outputs))
        turns = picks % self._rotations if self._rotations > 1 else None
        return _samples(stream, self._background, numbers, count, turns)

    def evaluation_problem(self, stream: RandomStream, shots: int, queries: int) -> FewShotProblem:
        check_shots(shots, queries)
        if shots + queries > self.drawings:
            raise InvalidInput(
                f"a character has {self.drawings} drawings, {shots} shots and {queries} queries "
                "need more: ask for fewer"
            )
        classes = len(self._evaluation) // self.drawings
        picks = _distinct(stream, classes, self.outputs)
        numbers = self._choose(stream, picks, shots + queries)
        support, query = numbers[:, :shots], numbers[:, shots:]
        return FewShotProblem(
            _samples(stream, self._evaluation, support, support.size),
            _samples(stream, self._evaluation, query, query.size),
        )

    def _choose(
        self, stream: RandomStream, classes: npt.NDArray[np.int64], each: int
    ) -> npt.NDArray[np.int64]:
        """`(ways, each)` numbers of images: of every class, its drawings in random order."""
        keys = stream.uniform(len(classes) * self.drawings).reshape(len(classes), self.drawings)
        order = keys.argsort(axis=1, kind="stable")
        if each > self.drawings:
            order = order[:, np.arange(each) % self.drawings]
        return classes[:, np.newaxis] * self.drawings + order[:, :each]

    @cached_property
    def _background(self) -> ImageStore:
        return ImageStore(self._data.classes("background"), SIDE)

    @cached_property
    def _evaluation(self) -> ImageStore:
        return ImageStore(self._data.classes("evaluation"), SIDE)


def _distinct(stream: RandomStream, below: int, count: int) -> npt.NDArray[np.int64]:
    """`count` different numbers of [0, below): whole draws are repeated until one has no pair."""
    if count * count > below:  # repeats would be likely: sort all of them instead
        return stream.choice(below, count)
    while True:
        picks = stream.integers(count, below)
        if len(set(picks.tolist())) == count:
            return picks


def _samples(
    stream: RandomStream,
    store: ImageStore,
    numbers: npt.NDArray[np.int64],
    count: int,
    turns: npt.NDArray[np.int64] | None = None,
) -> Samples:
    """`count` of the `(ways, each)` images in random order, the classes balanced.

    turns: quarter turns of each class.
    """
    ways = len(numbers)
    order = stream.permutation(count)
    labels, ranks = order % ways, order // ways
    inputs = store.read(numbers[labels, ranks], None if turns is None else turns[labels])
    return Samples(inputs, np.eye(ways, dtype=np.float32)[labels])


def _check_ways(ways: int, most: int) -> None:
    if not 2 <= ways <= most:
        raise InvalidInput(f"ways must be 2 to {most}, got {ways}")
