"""Tests of a run while it trains: its model is fetched and evaluated beside the fleet."""

from __future__ import annotations

import queue
import threading
from types import TracebackType
from typing import Self

from tinyfleet.cli.console import note
from tinyfleet.client import Fleet
from tinyfleet.errors import TinyFleetError
from tinyfleet.evaluation import Evaluation, EvaluationSettings, Health, evaluate
from tinyfleet.learner.protocol import Learner
from tinyfleet.tasks import Task


class LiveTests:
    """Evaluates the latest model about every `every` rounds, in a thread; 0 means never.

    `learner` is used by that thread alone. A test that cannot keep up is skipped; those that were
    made are in `results`, as `(rounds done, evaluation)`, and `health` is told of each. A context
    manager around the run.
    """

    def __init__(
        self,
        fleet: Fleet,
        run_id: str,
        task: Task,
        learner: Learner,
        settings: EvaluationSettings,
        every: int,
        health: Health,
    ) -> None:
        self.results: list[tuple[int, Evaluation]] = []
        self._fleet, self._run_id, self._task, self._learner = fleet, run_id, task, learner
        self._settings = settings.quick()
        self._every = every
        self._health = health
        self._next = every
        self._wanted: queue.Queue[bool] = queue.Queue(maxsize=1)
        self._thread = threading.Thread(target=self._test_until_told, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._wanted.put(False)
        self._thread.join()

    def reached(self, rounds: int) -> None:
        """Say how far the run is; starts a test when one is due and none is under way."""
        if self._every and rounds >= self._next and self._wanted.empty():
            self._next = (rounds // self._every + 1) * self._every
            self._wanted.put(True)

    def _test_until_told(self) -> None:
        while self._wanted.get():
            try:
                checkpoint = self._fleet.fetch_checkpoint(self._run_id)
            except TinyFleetError as error:
                note(f"test skipped: {error}")
                continue
            result = evaluate(self._learner, checkpoint.parameters, self._task, self._settings)
            self.results.append((checkpoint.version, result))
            self._health.tested(checkpoint.version, result)
