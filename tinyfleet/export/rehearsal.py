"""What int8 loses on the problems of a task, adapted to one after the other as devices would.

An initialization cannot be judged by its own answers, which mean nothing yet. So what will be done
with it is done here: adapt, export, test on the query set, next to the learner's float32.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from tinyfleet.errors import Diverged
from tinyfleet.evaluation.adaptation import EvaluationSettings, adapt, evaluation_problems
from tinyfleet.export.quality import Quality, measure
from tinyfleet.export.quantize import int8_tflite
from tinyfleet.export.running import run_written
from tinyfleet.learner.protocol import Floats, Learner, Samples
from tinyfleet.model.spec import Parameters
from tinyfleet.tasks.base import Task

PROBLEMS = 40  # our choice: some 3,000 samples to test on, a few seconds


@dataclass(frozen=True)
class Rehearsal:
    """Problems to adapt `start` to, as `settings` say."""

    task: Task
    start: Parameters
    settings: EvaluationSettings

    def quality(self, learner: Learner, calibration: Floats) -> Quality:
        """Over all query samples. calibration: as for the model itself.

        Raises Diverged when adapting to each of the problems did.
        """
        answers = list(self.answers(learner, calibration))
        if not answers:
            raise Diverged(
                "adapting to the task's problems diverges: int8 cannot be judged by them"
            )
        said, expected, targets = (np.concatenate(part) for part in zip(*answers, strict=True))
        return measure(learner.spec, said, expected, targets)

    def answers(
        self, learner: Learner, calibration: Floats
    ) -> Iterator[tuple[Floats, Floats, Floats]]:
        """Of each problem what int8 and float32 say, and what is right; none where it diverges."""
        for problem in evaluation_problems(self.task, self.settings):
            parameters = self.start.copy()
            if adapt(learner, parameters, problem.support, self.settings, self.settings.passes):
                yield self._tested(learner, parameters, problem.query, calibration)

    def _tested(
        self, learner: Learner, parameters: Parameters, query: Samples, calibration: Floats
    ) -> tuple[Floats, Floats, Floats]:
        file = int8_tflite(learner.spec, parameters, calibration)
        expected = learner.predict(parameters, query.inputs)
        return run_written(file, query.inputs), expected, query.targets


def make_rehearsal(task: Task, start: Parameters, tasks: int = PROBLEMS) -> Rehearsal:
    """The problems of a task's own evaluation, as it recommends to adapt to them."""
    settings = EvaluationSettings.for_task(task)
    return Rehearsal(task, start, replace(settings, tasks=tasks, curve_tasks=0))
