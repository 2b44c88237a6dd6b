"""What goes wrong with a run, said while it happens: the one rule of all commands.

A run is warned about when many of its updates diverge, when adaptations to unseen problems diverge,
and when after the first quarter of its rounds a test finds the adapted model no better than
nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from tinyfleet.evaluation.adaptation import Evaluation
from tinyfleet.evaluation.score import Interval, Score
from tinyfleet.model.spec import ModelSpec

EARLY_PART = 0.25  # our choice: of its rounds, in which a run need not be good for anything yet
# Our choice: an update that diverges counts as zero, so that a run loses no more than one device's
# work. Ten of them, and more than one in a hundred rounds, say that the rates are too high.
MANY_UPDATES = 10
MANY_PART = 0.01


class Health:
    """Told what happens to a run; says each kind of trouble once, and at the end in any case.

    rounds: of the run; 0 for a model that nobody trains. model: None where nothing is tested. say:
    called with one line. said: what was said before, by kind, when the run goes on where it was;
    changed in place.
    """

    def __init__(
        self,
        rounds: int,
        model: ModelSpec | None,
        say: Callable[[str], None],
        said: dict[str, str] | None = None,
    ) -> None:
        self.said: dict[str, str] = {} if said is None else said
        self._rounds = rounds
        self._chance = None
        if model is not None and model.loss == "softmax_cross_entropy":
            self._chance = 1 / model.outputs
        self._say = say

    @property
    def warnings(self) -> tuple[str, ...]:
        """All that was said, in order."""
        return tuple(self.said.values())

    def updates(self, version: int, diverged: int) -> None:
        """How many updates diverged in the first `version` rounds. Single ones are no trouble."""
        if diverged >= MANY_UPDATES and diverged > MANY_PART * version:
            what = f"{diverged:,} updates diverged in {version:,} rounds: lower the rates"
            self._once("updates", what)

    def tested(
        self, version: int, evaluation: Evaluation, untrained: Interval | None = None
    ) -> None:
        """A test of the model after `version` rounds.

        untrained: of the same test of the initialization, where it was made.
        """
        last = version == self._rounds
        at = "at the end" if last else f"in round {version:,}"
        lost, tasks = evaluation.after.diverged, evaluation.settings.tasks
        if lost and (version or last):
            what = f"{lost:,} of {tasks:,} adaptations diverge {at}: adapt at a lower rate"
            self._once(f"lost {last}", what)
        if version and version >= EARLY_PART * self._rounds:
            for name, nothing in self._nothings(evaluation.before, untrained):
                if not self._better(evaluation.after.ci95, nothing):
                    what = f"no better than {name} {at}: try lower rates"
                    return self._once(f"chance {last}", what)
        return None

    def _nothings(
        self, before: Score, untrained: Interval | None
    ) -> Iterator[tuple[str, Interval]]:
        """What a model has to beat: guessing, or where that means nothing, not adapting at all."""
        if self._chance is not None:
            yield "guessing", (self._chance, self._chance)
        if untrained is not None:
            yield "an untrained model", untrained
        if self._chance is None:
            yield "without adaptation", before.ci95

    def _better(self, score: Interval, nothing: Interval) -> bool:
        """Whether the 95 % intervals do not even overlap; of nan, False."""
        if self._chance is not None:
            return score[0] > nothing[1]
        return score[1] < nothing[0]

    def _once(self, kind: str, text: str) -> None:
        if kind not in self.said:
            self.said[kind] = text
            self._say(text)
