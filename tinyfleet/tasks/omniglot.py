"""Omniglot: tell a few handwritten characters apart that nobody has seen before.

Lake, Salakhutdinov and Tenenbaum, Science 350 (2015). n-way k-shot problems as in Vinyals et al.,
arXiv 1606.04080: `ways` characters drawn at random, images of 28 x 28, each rotation of a training
character by 90, 180 or 270 degrees a character of its own. Training takes the 30 background
alphabets and testing the 10 evaluation alphabets, so a problem is new down to its script.

Settings are to be chosen with `split=validation` only: every fifth background alphabet by name then
takes the place of the evaluation alphabets, which nothing has seen when they test what was chosen.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from tinyfleet.errors import InvalidInput, unknown_name
from tinyfleet.learner.protocol import Samples
from tinyfleet.model.layers import Shape
from tinyfleet.randomness import RandomStream
from tinyfleet.tasks.base import FewShotProblem, TrainingClasses, check_shots
from tinyfleet.tasks.classes import Numbers, one_hot, some_of
from tinyfleet.tasks.holders import Held, Holders, make_dealing
from tinyfleet.tasks.image_store import ImageStore
from tinyfleet.tasks.omniglot_data import SIDE, OmniglotData, open_omniglot

SPLITS = ("test", "validation")
DEALT_BY = ("alphabet", "dirichlet")
_VALIDATION_EVERY = 5
_ROTATIONS = 4
_MAX_WAYS = 1623  # characters of the whole data set


class OmniglotOutline:
    """What the task `omniglot` is, without the drawings.

    ways: classes of a problem, from 2. rotations: whether training has rotated characters too.
    split: `test`, or `validation` to choose settings by: the 5th, 10th, 15th ... of the sorted
    background alphabets take the place of the evaluation alphabets and are not trained on.
    holders, by (`alphabet`, `dirichlet`), alpha: see `tinyfleet.tasks.holders`; a drawing's
    rotations are its holder's, too.
    """

    name: ClassVar[str] = "omniglot"
    default_model: ClassVar[str] = "cnn_s"
    recommended: ClassVar[Mapping[str, Mapping[str, Any]]] = MappingProxyType(
        {
            "tiny_reptile": {"samples": 100, "inner_rate": 0.02, "outer_rate": 0.25},
            "tiny_meta_fed": {
                "samples": 80,
                "local_samples": 20,
                "inner_rate": 0.02,
                "local_rate": 0.05,
                "outer_rate": 0.5,
            },
            "reptile": {"inner_rate": 0.05},
        }
    )
    recommended_evaluation: ClassVar[Mapping[str, Any]] = MappingProxyType(
        {"shots": 5, "queries": 15, "passes": 5, "rate": 0.01}
    )

    input_shape: Shape = (SIDE, SIDE, 1)
    loss = "softmax_cross_entropy"

    def __init__(
        self,
        ways: int = 5,
        rotations: bool = True,
        split: str = "test",
        holders: int = 0,
        by: str = "",
        alpha: float = 0.0,
    ) -> None:
        if not isinstance(rotations, bool):
            raise InvalidInput(f"rotations must be true or false, got {rotations!r}")
        if isinstance(ways, bool) or not isinstance(ways, int):
            raise InvalidInput(f"ways must be a whole number, got {ways!r}")
        if split not in SPLITS:
            raise unknown_name("split", str(split), SPLITS)
        _check_ways(ways, _MAX_WAYS)
        self.outputs = ways
        chosen = {} if split == "test" else {"split": split}
        self._dealing = make_dealing(DEALT_BY, holders, by, alpha)
        options = {"ways": ways, "rotations": rotations, **chosen, **self._dealing.options}
        self.options: Mapping[str, Any] = MappingProxyType(options)


class Omniglot(OmniglotOutline, Held):
    """The task `omniglot`: grey images to one of `ways` classes, cross-entropy.

    ways: 2 to the number of characters to test on. The other options are those of the outline.
    Images to train on, or to test on, are read when the first such problem is drawn.
    """

    def __init__(
        self,
        data: Path | None,
        ways: int = 5,
        rotations: bool = True,
        split: str = "test",
        holders: int = 0,
        by: str = "",
        alpha: float = 0.0,
    ) -> None:
        super().__init__(ways, rotations, split, holders, by, alpha)
        self._data: OmniglotData = open_omniglot(data)
        self._training, self._testing = _parts(self._data, split)
        _check_ways(ways, min(sum(self._training.wanted), sum(self._testing.wanted)))
        self._rotations = _ROTATIONS if rotations else 1
        if holders:
            self._held = Holders(self._deal())

    @property
    def drawings(self) -> int:
        """Drawings of each character: support and query samples a class together."""
        return self._data.drawings

    def training_samples(self, stream: RandomStream, count: int) -> Samples:
        """As many of each class as of any other, give or take one, in random order.

        Beyond `ways * drawings` samples the drawings come again.
        """
        if self._held is not None:
            return self._held_samples(stream, self._held.draw(stream), count)
        classes = len(self._training_images) // self.drawings
        picks = _distinct(stream, classes * self._rotations, self.outputs)
        numbers = self._choose(stream, picks // self._rotations, -(-count // self.outputs))
        turns = picks % self._rotations if self._rotations > 1 else None
        return _samples(stream, self._training_images, numbers, count, turns)

    def _held_samples(
        self, stream: RandomStream, characters: Sequence[Numbers], count: int
    ) -> Samples:
        """As `training_samples`, of one holder's drawings of each character."""
        picks = stream.choice(len(characters) * self._rotations, self.outputs)
        which, turns = np.divmod(picks, self._rotations)
        each = -(-count // self.outputs)
        numbers = np.stack([some_of(stream, characters[i], each) for i in which.tolist()])
        return _samples(stream, self._training_images, numbers, count, turns)

    def _deal(self) -> tuple[tuple[Numbers, ...], ...]:
        """For each holder, the numbers of its drawings of each character that it has any of."""
        wanted = self._training.wanted
        drawings = np.arange(sum(wanted) * self.drawings).reshape(-1, self.drawings)
        alphabets = None
        if self._dealing.by == "alphabet":
            names = itertools.compress(self._data.alphabets("background"), wanted)
            alphabets = [name for name in names for _ in range(self.drawings)]
        return self._dealing.deal(list(drawings), alphabets, -(-self.outputs // self._rotations))

    @property
    def training_classes(self) -> TrainingClasses:
        """The characters to train on, each rotation one of its own."""
        return TrainingClasses(sum(self._training.wanted) * self._rotations, self._labelled)

    def _labelled(self, stream: RandomStream, count: int) -> Samples:
        classes = self.training_classes.count
        labels = stream.integers(count, classes)
        characters, turns = np.divmod(labels, self._rotations)
        numbers = characters * self.drawings + stream.integers(count, self.drawings)
        return Samples(self._training_images.read(numbers, turns), one_hot(labels, classes))

    @property
    def test_samples(self) -> int:
        return self.drawings

    def evaluation_problem(self, stream: RandomStream, shots: int, queries: int) -> FewShotProblem:
        check_shots(shots, queries)
        if shots + queries > self.drawings:
            raise InvalidInput(
                f"a character has {self.drawings} drawings, {shots} shots and {queries} queries "
                "need more: ask for fewer"
            )
        classes = len(self._test_images) // self.drawings
        picks = _distinct(stream, classes, self.outputs)
        numbers = self._choose(stream, picks, shots + queries)
        support, query = numbers[:, :shots], numbers[:, shots:]
        return FewShotProblem(
            _samples(stream, self._test_images, support, support.size),
            _samples(stream, self._test_images, query, query.size),
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
    def _training_images(self) -> ImageStore:
        return self._read(self._training)

    @cached_property
    def _test_images(self) -> ImageStore:
        return self._read(self._testing)

    def _read(self, part: _Part) -> ImageStore:
        return ImageStore(itertools.compress(self._data.classes(part.split), part.wanted), SIDE)


@dataclass(frozen=True)
class _Part:
    """Some classes of an official split: whether each is wanted."""

    split: str
    wanted: tuple[bool, ...]


def _parts(data: OmniglotData, split: str) -> tuple[_Part, _Part]:
    """What to train on and what to test on."""
    if split == "test":
        whole = {name: (True,) * data.class_count(name) for name in ("background", "evaluation")}
        training, testing = (_Part(name, wanted) for name, wanted in whole.items())
        return training, testing
    alphabets = data.alphabets("background")
    held_out = set(sorted(set(alphabets))[_VALIDATION_EVERY - 1 :: _VALIDATION_EVERY])
    if not held_out:
        raise InvalidInput(f"split=validation needs {_VALIDATION_EVERY} background alphabets")
    tested = tuple(alphabet in held_out for alphabet in alphabets)
    return _Part("background", tuple(not one for one in tested)), _Part("background", tested)


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
    return Samples(inputs, one_hot(labels, ways))


def _check_ways(ways: int, most: int) -> None:
    if not 2 <= ways <= most:
        raise InvalidInput(f"ways must be 2 to {most}, got {ways}")
