"""Who holds which training data: a fixed number of holders, each with data of its own.

Data are dealt once, the same in every run. By group: whole alphabets, or speakers, go round in
a random order, so that holders have as many of them as one another, give or take one. By
`dirichlet`: each class's samples are divided in shares drawn from a symmetric Dirichlet
distribution (Yurochkin et al., arXiv 1905.12022; Hsu, Qi and Brown, arXiv 1909.06335, draw a
holder's shares of the classes). The smaller `alpha`, the fewer holders have most of a class.

The shares themselves are never computed. Dealing sample by sample, to a holder with k samples of
the class already with probability (alpha + k) / (holders * alpha + dealt), gives the same counts as
drawing the shares first and each sample by them (Polya's urn: Blackwell and MacQueen, Annals of
Statistics 1, 1973). It takes no logarithm and no gamma draw, only additions, multiplications and
divisions, and so has the same bits everywhere (docs/decisions/0016-dealt-by-an-urn.md).

A slot of a round first draws its holder, each alike, then its problem from that holder's data.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np

from tinyfleet.errors import InvalidInput, unknown_name
from tinyfleet.randomness import Purpose, RandomStream
from tinyfleet.tasks.base import Task
from tinyfleet.tasks.classes import Numbers

MAX_HOLDERS = 10_000  # our choice
ALPHAS = (1e-3, 1e6)  # our choice
DEFAULT_ALPHA = 0.5  # our choice: most holders lack some classes, few have one alone
_DIRICHLET = "dirichlet"


@dataclass(frozen=True)
class Dealing:
    """How data are dealt. holders: 0 for not at all. alpha: of `dirichlet`, else 0."""

    holders: int
    by: str
    alpha: float

    @property
    def options(self) -> Mapping[str, Any]:
        """What a run carries of it: nothing where nothing is dealt."""
        if not self.holders:
            return {}
        alpha = {"alpha": self.alpha} if self.by == _DIRICHLET else {}
        return {"holders": self.holders, "by": self.by} | alpha

    def deal(
        self, classes: Sequence[Numbers], groups: Sequence[str] | None, ways: int
    ) -> tuple[tuple[Numbers, ...], ...]:
        """For each holder, its samples of each class that it has any of.

        classes: the sample numbers of each, below 2**63 and all different. groups: the group of
        each of those samples in the same order, class after class; None where `by` is dirichlet.
        ways: classes that a holder needs. Raises InvalidInput for a holder with fewer, and for
        more holders than groups.
        """
        if groups is None:
            owners = _owners_by_urn([len(members) for members in classes], self)
        else:
            owners = _owners_by_group(groups, self)
        ends = np.cumsum([len(members) for members in classes])
        held: list[list[Numbers]] = [[] for _ in range(self.holders)]
        for members, own in zip(classes, np.split(owners, ends[:-1]), strict=True):
            for holder in np.unique(own).tolist():
                held[holder].append(members[own == holder])
        self._check(held, ways)
        return tuple(map(tuple, held))

    def _check(self, held: Sequence[Sequence[Numbers]], ways: int) -> None:
        for holder, classes in enumerate(held, 1):
            if len(classes) < ways:
                larger = " or a larger alpha" if self.by == _DIRICHLET else ""
                raise InvalidInput(
                    f"holder {holder} of {self.holders} has samples of {len(classes)} classes and "
                    f"needs {ways} for a problem: take fewer holders{larger}, or fewer ways"
                )


def make_dealing(kinds: tuple[str, ...], holders: object, by: object, alpha: object) -> Dealing:
    """The dealing that options ask for; raises InvalidInput with the remedy.

    kinds: what a task can deal by, the usual one first. holders 0, by "" and alpha 0 mean that
    the option was not given.
    """
    if isinstance(holders, bool) or not isinstance(holders, int):
        raise InvalidInput(f"holders must be a whole number, got {holders!r:.80}")
    if not 0 <= holders <= MAX_HOLDERS or holders == 1:
        raise InvalidInput(f"holders must be 2 to {MAX_HOLDERS}, or 0 for none, got {holders}")
    if not holders and (by or alpha):
        raise InvalidInput("by and alpha say how data are dealt to holders: give holders, too")
    kind = by or kinds[0]
    if kind not in kinds:
        raise unknown_name("way of dealing to holders", str(by)[:80], kinds)
    if kind != _DIRICHLET:
        if alpha:
            raise InvalidInput(f"alpha is for by=dirichlet, not for by={kind}: leave it out")
        return Dealing(holders, str(kind), 0.0)
    return Dealing(holders, _DIRICHLET, _checked_alpha(alpha or DEFAULT_ALPHA))


class Held:
    """What tasks are whose training data can be dealt; each sets `_held` when it is made."""

    _held: Holders | None = None

    def held_by(self, holder: int) -> Self:
        """The same task on the device that is this holder, 1 to holders: it draws from no other's.

        Raises InvalidInput where there is no such holder.
        """
        count = len(self._held.classes) if self._held is not None else 1
        if self._held is None or count == 1:
            raise InvalidInput(
                "this run deals its data to no holders: start it with the task option holders, or "
                "the agent without --holder"
            )
        if not 1 <= holder <= count:
            raise InvalidInput(f"there is no holder {holder}: this run has holders 1 to {count}")
        pinned = copy.copy(self)
        pinned._held = replace(self._held, only=holder - 1)  # noqa: SLF001 - a copy of itself
        return pinned


@dataclass(frozen=True)
class Holders:
    """classes: what each holder has. only: the one that this device is, None for any."""

    classes: tuple[tuple[Numbers, ...], ...]
    only: int | None = None

    def draw(self, stream: RandomStream) -> Sequence[Numbers]:
        """The classes of one holder.

        A device that is a holder draws, too, and takes its own: where the draw names it, it gets
        the samples that the simulator gets.
        """
        drawn = int(stream.integers(1, len(self.classes))[0])
        return self.classes[drawn if self.only is None else self.only]


def held_by(task: Task, holder: int) -> Task:
    """`task` on the device that is `holder`, counted from 1.

    Raises InvalidInput for a task whose data are not dealt, or not to so many.
    """
    if not isinstance(task, Held):
        raise InvalidInput(f"task '{task.name}' has no holders: leave --holder out")
    return task.held_by(holder)


def _owners_by_group(groups: Sequence[str], dealing: Dealing) -> Numbers:
    """`(len(groups),)` of [0, holders): whole groups in turn, in a random order."""
    names, codes = np.unique(np.array(groups), return_inverse=True)
    if len(names) < dealing.holders:
        raise InvalidInput(
            f"there are {len(names)} different {dealing.by}s to deal to {dealing.holders} holders: "
            "take fewer holders"
        )
    turn = np.empty(len(names), np.int64)
    turn[RandomStream(0, Purpose.HOLDERS).permutation(len(names))] = np.arange(len(names))
    owners: Numbers = (turn % dealing.holders)[codes]
    return owners


def _owners_by_urn(sizes: Sequence[int], dealing: Dealing) -> Numbers:
    """`(sum(sizes),)` of [0, holders): class after class, each from an urn of its own."""
    stream = RandomStream(0, Purpose.HOLDERS)
    owners: list[int] = []
    for size in sizes:
        owners += _urn(stream.uniform(size).tolist(), dealing.holders, dealing.alpha)
    return np.array(owners, np.int64)


def _urn(draws: list[float], holders: int, alpha: float) -> list[int]:
    """A holder for each draw of [0, 1).

    With weight alpha a holder, any holder; with weight 1 a sample dealt before, whoever got that.
    """
    dealt: list[int] = []
    for draw in draws:
        place = draw * (holders * alpha + len(dealt)) - len(dealt)
        if place < 0.0:
            dealt.append(dealt[min(int(place + len(dealt)), len(dealt) - 1)])
        else:
            dealt.append(min(int(place / alpha), holders - 1))
    return dealt


def _checked_alpha(alpha: object) -> float:
    if isinstance(alpha, bool) or not isinstance(alpha, int | float):
        raise InvalidInput(f"alpha must be a number, got {alpha!r:.80}")
    low, high = ALPHAS
    if not low <= alpha <= high:
        raise InvalidInput(f"alpha must be {low:g} to {high:g}, got {str(alpha)[:80]}")
    return float(alpha)
