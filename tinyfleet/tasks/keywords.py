"""Keywords: tell a few spoken words apart that nobody has trained on.

Speech Commands (Warden, arXiv 1804.03209): clips of at most one second by many speakers, as 49 x
10 mel-frequency cepstral coefficients. n-way k-shot problems over words. The split is ours, by
word: the ten digits test, all other words train, so that what a fleet learned from commands has to
serve words of another kind.

The recommended settings were chosen on held-out training words (`split=validation`), one run each
of 1,000 to 5,000 rounds: 80 samples and an outer rate of 0.25 against 40 and 0.5 (+7 points), inner
rates 0.02 to 0.2, coefficients relative to the training words' mean against each clip's own (+2
to +3, three pairs), augmentation (+3 to +6). Single runs differ by several points: they rank no
close seconds.
"""

from __future__ import annotations

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
from tinyfleet.tasks.keywords_data import MAX_WORDS, read_clips
from tinyfleet.tasks.mfcc import COEFFICIENTS, FRAMES, STEPS

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SPLITS = ("test", "validation")
DEALT_BY = ("speaker", "dirichlet")
_VALIDATION_EVERY = 3
_FURTHEST = 4  # frames of 20 ms that training moves a clip by; the frame at the end comes again
_ORDER = np.arange(FRAMES)


class KeywordsOutline:
    """What the task `keywords` is, without the clips.

    ways: words of a problem, from 2. per_speaker: whether the clips of a training problem are one
    person's, as on a device that has an owner; the clips are few then and come again. Problems to
    test on always mix the speakers (hardly anybody said a word twice). split: `test`, or
    `validation` to choose settings by: every third training word, by the alphabet, takes the place
    of the digits and is not trained on. augment: whether training also moves clips in time, and
    takes each word backwards as a word of its own. holders, by (`speaker`, `dirichlet`), alpha: see
    `tinyfleet.tasks.holders`; `per_speaker` makes a holder of each speaker of enough words.
    """

    name: ClassVar[str] = "keywords"
    default_model: ClassVar[str] = "ds_cnn_s"
    recommended: ClassVar[Mapping[str, Mapping[str, Any]]] = MappingProxyType(
        {
            "tiny_reptile": {"samples": 80, "inner_rate": 0.1, "outer_rate": 0.25},
            "tiny_meta_fed": {
                "samples": 70,
                "local_samples": 10,
                "inner_rate": 0.1,
                "local_rate": 0.1,
                "outer_rate": 0.25,
            },
        }
    )
    recommended_evaluation: ClassVar[Mapping[str, Any]] = MappingProxyType(
        {"shots": 5, "queries": 15, "passes": 5, "rate": 0.1}
    )

    input_shape: Shape = (FRAMES, COEFFICIENTS, 1)
    loss = "softmax_cross_entropy"

    def __init__(
        self,
        ways: int = 4,
        per_speaker: bool = False,
        split: str = "test",
        augment: bool = True,
        holders: int = 0,
        by: str = "",
        alpha: float = 0.0,
    ) -> None:
        for what, value in (("per_speaker", per_speaker), ("augment", augment)):
            if not isinstance(value, bool):
                raise InvalidInput(f"{what} must be true or false, got {value!r:.80}")
        if split not in SPLITS:
            raise unknown_name("split", str(split), SPLITS)
        self.outputs = check_ways(ways, MAX_WORDS)
        self._dealing = make_dealing(DEALT_BY, holders, by, alpha)
        if per_speaker and holders:
            raise InvalidInput("per_speaker makes each speaker a holder: leave it or holders out")
        options = {"ways": ways, "per_speaker": per_speaker, "split": split, "augment": augment}
        self.options: Mapping[str, Any] = MappingProxyType({**options, **self._dealing.options})


class Keywords(KeywordsOutline, Held):
    """The task `keywords`: features in [-4, 4) to one of `ways` words, cross-entropy.

    All clips are read at construction: half a second and half a megabyte for a thousand.
    """

    _held: Holders

    def __init__(
        self,
        data: Path | None,
        ways: int = 4,
        per_speaker: bool = False,
        split: str = "test",
        augment: bool = True,
        holders: int = 0,
        by: str = "",
        alpha: float = 0.0,
    ) -> None:
        super().__init__(ways, per_speaker, split, augment, holders, by, alpha)
        clips = read_clips(data)
        self._features = np.stack([clip.features for clip in clips])
        words = sorted({clip.word for clip in clips})
        self.training_words, self.evaluation_words = split_words(words, split)
        check_ways(ways, min(len(self.training_words), len(self.evaluation_words)))
        by_word = _by([clip.word for clip in clips], np.arange(len(clips)))
        self._evaluation = [by_word[word] for word in self.evaluation_words]
        training = [by_word[word] for word in self.training_words]
        speakers = [clip.speaker for clip in clips]
        held: list[Sequence[Numbers]] = [training]
        if per_speaker:
            held = _by_speaker(speakers, training, ways)
        elif holders:
            held = self._deal(training, speakers, -(-ways // (2 if augment else 1)))
        self._held = Holders(
            tuple(tuple(_with_backwards(words, len(clips), augment)) for words in held)
        )
        self._words = _with_backwards(training, len(clips), augment)
        self._furthest = _FURTHEST if augment else 0

    @property
    def owners(self) -> int:
        """How many different devices there are: speakers of enough words, or one of all clips."""
        return len(self._held.classes)

    def training_samples(self, stream: RandomStream, count: int) -> Samples:
        """As many of each word as of any other, give or take one, in random order."""
        words = self._held.draw(stream)
        batch = draw_training(stream, words, self.outputs, count)
        return batch.samples(self._played(stream, batch.numbers), self.outputs)

    @property
    def training_classes(self) -> TrainingClasses:
        """The training words, and with `augment` each of them backwards."""
        return TrainingClasses(len(self._words), self._labelled)

    def _deal(
        self, training: list[Numbers], speakers: list[str], ways: int
    ) -> list[Sequence[Numbers]]:
        by_speaker = self._dealing.by == "speaker"
        each = [speakers[number] for word in training for number in word.tolist()]
        return list(self._dealing.deal(training, each if by_speaker else None, ways))

    def _labelled(self, stream: RandomStream, count: int) -> Samples:
        batch = draw_labelled(stream, self._words, count)
        return batch.samples(self._played(stream, batch.numbers), len(self._words))

    def _played(self, stream: RandomStream, numbers: Numbers) -> Floats:
        """The features of clips to train on, some backwards, each moved by some frames."""
        backwards, numbers = np.divmod(numbers, len(self._features))
        by = stream.integers(len(numbers), 2 * self._furthest + 1) - self._furthest
        frames = np.where(backwards[:, np.newaxis], FRAMES - 1 - _ORDER, _ORDER)
        frames = np.clip(frames + by[:, np.newaxis], 0, FRAMES - 1)
        inputs = self._inputs(numbers).reshape(-1, FRAMES, COEFFICIENTS)
        inputs = np.take_along_axis(inputs, frames[:, :, np.newaxis], axis=1)
        return inputs.reshape(len(numbers), -1)

    @property
    def test_samples(self) -> int:
        return min(map(len, self._evaluation))

    def evaluation_problem(self, stream: RandomStream, shots: int, queries: int) -> FewShotProblem:
        batches = draw_evaluation(stream, self._evaluation, self.outputs, shots, queries)
        support, query = (self._inputs(batch.numbers) for batch in batches)
        return problem_of(batches, (support, query), self.outputs)

    def _inputs(self, numbers: Numbers) -> Floats:
        """Exact in float32: multiples of 1/32."""
        return self._features[numbers].astype(np.float32) / np.float32(STEPS)


def split_words(words: list[str], split: str) -> tuple[list[str], list[str]]:
    """`words`, which are sorted, to train on and to test on."""
    training = [word for word in words if word not in DIGITS]
    if split == "test":
        return training, [word for word in words if word in DIGITS]
    held_out = training[_VALIDATION_EVERY - 1 :: _VALIDATION_EVERY]
    return [word for word in training if word not in held_out], held_out


def _by(keys: list[str], numbers: Numbers) -> dict[str, Numbers]:
    """Those of `numbers` that belong to each key; `keys` has one for every clip."""
    found: dict[str, list[int]] = {}
    for number in numbers.tolist():
        found.setdefault(keys[number], []).append(number)
    return {key: np.array(members, np.int64) for key, members in found.items()}


def _with_backwards(words: Sequence[Numbers], clips: int, augment: bool) -> list[Numbers]:
    """A clip played backwards has the number of the clip plus how many there are."""
    return [*words, *(word + clips for word in words if augment)]


def _by_speaker(speakers: list[str], words: list[Numbers], ways: int) -> list[Sequence[Numbers]]:
    """For each speaker of at least `ways` of the words, that person's clips of each word."""
    owners: dict[str, list[Numbers]] = {}
    for members in words:
        for speaker, own in _by(speakers, members).items():
            owners.setdefault(speaker, []).append(own)
    able: list[Sequence[Numbers]] = [
        owners[speaker] for speaker in sorted(owners) if len(owners[speaker]) >= ways
    ]
    if not able:
        raise InvalidInput(f"no speaker says {ways} of the training words: leave per_speaker out")
    return able
