"""n-way problems from classes of unequal size: what the tasks that tell classes apart share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tinyfleet.errors import InvalidInput
from tinyfleet.learner.protocol import Floats, Samples
from tinyfleet.randomness import RandomStream
from tinyfleet.tasks.base import FewShotProblem, check_shots

Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Batch:
    """Which samples, and which class of the problem each belongs to: `(count,)` both."""

    numbers: Numbers
    labels: Numbers

    def samples(self, inputs: Floats, ways: int) -> Samples:
        """With `inputs` `(count, values)` and one-hot targets `(count, ways)`."""
        return Samples(inputs, one_hot(self.labels, ways))


def one_hot(labels: Numbers, ways: int) -> Floats:
    """`(len(labels), ways)`: 1 at each label, else 0."""
    targets = np.zeros((len(labels), ways), np.float32)
    targets[np.arange(len(labels)), labels] = 1.0
    return targets


def draw_training(stream: RandomStream, classes: Sequence[Numbers], ways: int, count: int) -> Batch:
    """`count` samples of `ways` of the classes, balanced give or take one, in random order.

    classes: the sample numbers of each. A class comes again from its first sample, in the same
    random order, when it has fewer than its share.
    """
    each = -(-count // ways)
    picks = stream.choice(len(classes), ways)
    chosen = [some_of(stream, classes[index], each) for index in picks]
    return _shuffled(stream, np.stack(chosen), count)


def some_of(stream: RandomStream, members: Numbers, count: int) -> Numbers:
    """`count` of the members in random order, from the first again after the last."""
    order = stream.permutation(len(members))
    chosen: Numbers = members[order[np.arange(count) % len(members)]]
    return chosen


def draw_labelled(stream: RandomStream, classes: Sequence[Numbers], count: int) -> Batch:
    """`count` samples, each of a class drawn at random and then drawn from that class."""
    labels = stream.integers(count, len(classes))
    ranks = stream.uniform(count) * np.array([len(classes[label]) for label in labels.tolist()])
    pairs = zip(labels.tolist(), ranks.astype(np.int64).tolist(), strict=True)
    return Batch(np.array([classes[label][rank] for label, rank in pairs], np.int64), labels)


def draw_evaluation(
    stream: RandomStream, classes: Sequence[Numbers], ways: int, shots: int, queries: int
) -> tuple[Batch, Batch]:
    """Support and query set of `ways` of the classes: no sample is in both, none comes twice.

    Raises InvalidInput unless every class has that many samples.
    """
    check_shots(shots, queries)
    if shots + queries > (least := min(len(members) for members in classes)):
        raise InvalidInput(
            f"the smallest class to test on has {least} samples, {shots} shots and {queries} "
            "queries need more: ask for fewer"
        )
    picks = stream.choice(len(classes), ways)
    orders = [classes[i][stream.permutation(len(classes[i]))] for i in picks]
    support = np.stack([order[:shots] for order in orders])
    query = np.stack([order[shots : shots + queries] for order in orders])
    return _shuffled(stream, support, support.size), _shuffled(stream, query, query.size)


def problem_of(
    batches: tuple[Batch, Batch], inputs: tuple[Floats, Floats], ways: int
) -> FewShotProblem:
    """The problem of a support and a query batch with their inputs."""
    support, query = (b.samples(x, ways) for b, x in zip(batches, inputs, strict=True))
    return FewShotProblem(support, query)


def check_ways(ways: object, most: int) -> int:
    """`ways` if it is a whole number of 2 to `most`; raises InvalidInput if not."""
    if isinstance(ways, bool) or not isinstance(ways, int):
        raise InvalidInput(f"ways must be a whole number, got {ways!r:.80}")
    if not 2 <= ways <= most:
        raise InvalidInput(f"ways must be 2 to {most}, got {ways}")
    return ways


def _shuffled(stream: RandomStream, numbers: Numbers, count: int) -> Batch:
    """`count` of the `(ways, each)` numbers in random order, the classes balanced."""
    order = stream.permutation(count)
    labels, ranks = order % len(numbers), order // len(numbers)
    return Batch(numbers[labels, ranks], labels)
