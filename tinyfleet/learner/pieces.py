"""A training plan on samples that come one after the other: trained piece by piece.

A phase of online learning takes each sample when it is there and forgets it. A phase that goes over
its samples again, or in batches, waits for all of them. The result has the bits of `learn_by_plan`
on all samples at once.
"""

from __future__ import annotations

from dataclasses import replace

from tinyfleet.errors import InvalidInput
from tinyfleet.learner.protocol import Learner, PlanTotal, Samples, Trained
from tinyfleet.model.spec import Parameters
from tinyfleet.strategies.base import delta_of
from tinyfleet.strategies.plan import Phase, TrainingPlan


class PlanInPieces:
    """`plan`, run from `start`, which stays as it is.

    A phase of one sample is what makes the bits the same: it is the learner's own step, and its
    loss is the sample's, so both add up here in the order of one call. That costs a call of the
    learner for each sample, some ten microseconds with the native one.
    """

    def __init__(self, learner: Learner, start: Parameters, plan: TrainingPlan) -> None:
        self.parameters: Parameters = start.copy()  # as they are so far; changed in place
        self._learner = learner
        self._start = start
        self._plan = plan
        self._counted = start
        self._total = PlanTotal()
        self._index = 0
        self._diverged = False
        self._phase = _PhaseInPieces(plan.phases[0])

    @property
    def over(self) -> bool:
        """Whether no more samples are wanted: all are trained on, or the training diverged."""
        return self._diverged or self._index == len(self._plan.phases)

    @property
    def most(self) -> int:
        """How many samples the next piece may have; 0 when it is over."""
        return 0 if self.over else self._phase.missing

    @property
    def least(self) -> int:
        """How many it must have: 1 where each sample is used once, else all of the phase."""
        return min(self.most, 1) if self._phase.phase.online else self.most

    def train(self, samples: Samples) -> float:
        """Train on the next `least` to `most` samples; their mean loss, NaN when it diverged.

        The loss is of each sample just before its update. Raises InvalidInput for another count.
        """
        if not 0 < self.least <= len(samples) <= self.most:
            raise InvalidInput(
                f"the next piece has {self.least} to {self.most} samples, got {len(samples)}"
            )
        loss = self._phase.train(self._learner, self.parameters, samples, self._start)
        done = self._phase.done()
        if self._phase.missing == 0 or not done.finite:
            self._end_phase(done)
        return loss

    def result(self) -> tuple[Parameters | None, Trained]:
        """What `learn_by_plan` returns; of a training that diverged, `updates` may be fewer.

        Raises InvalidInput while samples are missing.
        """
        if not self.over:
            raise InvalidInput(f"the plan takes {self._plan.samples} samples, some are missing")
        total = self._total.trained()
        return delta_of(self.parameters, self._counted, total.finite), total

    def _end_phase(self, done: Trained) -> None:
        self._diverged = not self._total.add(self._phase.phase, done)
        self._index += 1
        if self.over:
            return
        self._phase = _PhaseInPieces(self._plan.phases[self._index])
        if self._index == self._plan.counted_from:
            self._counted = self.parameters.copy()


class _PhaseInPieces:
    """One phase and how far it is."""

    def __init__(self, phase: Phase) -> None:
        self.phase = phase
        self.missing = phase.samples
        self._one = replace(phase, samples=1) if phase.online else phase
        self._whole: Trained | None = None
        self._loss_sum = 0.0
        self._updates = 0
        self._finite = True

    def train(
        self, learner: Learner, parameters: Parameters, samples: Samples, start: Parameters
    ) -> float:
        self.missing -= len(samples)
        if not self.phase.online:
            self._whole = learner.train(parameters, samples, self.phase, start)
            return self._whole.loss
        before = self._loss_sum
        for index in range(len(samples)):
            done = learner.train(parameters, samples[index : index + 1], self._one, start)
            self._loss_sum += done.loss
            self._updates += done.updates
            self._finite = done.finite
            if not done.finite:
                return float("nan")
        return (self._loss_sum - before) / len(samples)

    def done(self) -> Trained:
        """What the phase came to, once it has all its samples or has diverged."""
        if self._whole is not None:
            return self._whole
        loss = self._loss_sum / self.phase.samples if self._finite else float("nan")
        return Trained(loss, self._updates, self._finite)
