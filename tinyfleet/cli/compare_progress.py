"""What a comparison shows while it runs, within 80 columns, on stderr.

On a terminal: a line for each job under way, replaced as it moves, with what went wrong above it.
Elsewhere: a line for each job that ends or goes wrong, and one every ten seconds.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from tinyfleet.cli.console import note, wrapped
from tinyfleet.cli.job_pool import Told
from tinyfleet.comparison.jobs import Job, JobResult, Point

_PLAIN_INTERVAL_S = 10.0
_BAR = 16
_LABEL = 24


class CompareProgress:
    """Told what the jobs say, shows where they are; only warnings when `quiet`."""

    def __init__(self, jobs: Sequence[Job], done: Mapping[str, JobResult], quiet: bool) -> None:
        self._jobs = {job.name: job for job in jobs}
        self._versions = {name: self._jobs[name].rounds for name in done}
        self._scores: dict[str, Point] = {}
        self._running: list[str] = []
        self._finished = len(done)
        self._todo = sum(job.rounds for job in jobs) or 1
        self._began = self._shown = time.monotonic()
        self._first = sum(self._versions.values())
        self._quiet = quiet
        self._live = None if quiet or not sys.stderr.isatty() else _live()

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.update(_text(""))
            self._live.stop()

    def told(self, said: Told | None) -> None:
        """Something a job said, or that nothing was said for a while."""
        if said is not None:
            self._take(said)
        self._show()

    def done(self, job: Job, result: JobResult) -> None:
        """A job is finished, one way or the other."""
        self._finished += 1
        self._versions[job.name] = job.rounds
        if job.name in self._running:
            self._running.remove(job.name)
        if result.failure is not None:
            self._say(f"{_name(job)} DIVERGED in round {result.failed_at or 0:,}: {result.failure}")
        else:
            last = result.points[-1]
            self._say(f"{_name(job)} done: {_score(job, last)}")
        self._show()

    def _take(self, said: Told) -> None:
        name = said.name
        if said.kind == "begun":
            self._running.append(name)
        if said.kind == "warned":
            self._warn(wrapped(f"warning: {_name(self._jobs[name])}: {said.text}"))
        if said.point is not None:
            self._scores[name] = said.point
        self._versions[name] = max(said.version, self._versions.get(name, 0))

    def _say(self, line: str) -> None:
        if not self._quiet:
            self._warn(line)

    def _warn(self, line: str) -> None:
        """Also when quiet."""
        if self._live is not None:
            self._live.console.print(line, markup=False, highlight=False)
        else:
            note(line)

    def _show(self) -> None:
        if self._live is not None:
            self._live.update(_text("\n".join([*map(self._line, self._running), self._summary()])))
            return
        now = time.monotonic()
        if not self._quiet and now - self._shown >= _PLAIN_INTERVAL_S:
            self._shown = now
            note(self._summary())

    def _line(self, name: str) -> str:
        """At most 80 columns: label, seed, bar, round, last score."""
        job, version = self._jobs[name], self._versions.get(name, 0)
        filled = round(_BAR * version / job.rounds) if job.rounds else _BAR
        bar = "=" * filled + "." * (_BAR - filled)
        point = self._scores.get(name)
        score = _score(job, point) if point is not None else ""
        rounds = f"{version:,}/{job.rounds:,}"
        return f"{_name(job):<{_LABEL + 5}.{_LABEL + 5}} {bar} {rounds:>15} {score:>14}"[:80]

    def _summary(self) -> str:
        rounds = sum(self._versions.values())
        share = min(rounds / self._todo, 1.0)
        text = f"{self._finished} of {len(self._jobs)} jobs done, {share:.0%} of the rounds"
        spent, gained = time.monotonic() - self._began, rounds - self._first
        if gained > 0 and spent > 1.0:
            text += f", about {_left((self._todo - rounds) * spent / gained)} left"
        return text


def _name(job: Job) -> str:
    label = job.label if len(job.label) <= _LABEL else f"{job.label[: _LABEL - 1]}…"
    return f"{label} #{job.seed}"


def _score(job: Job, point: Point) -> str:
    """The last test: accuracy or loss."""
    value = point.after.value
    if not math.isfinite(value):
        return "no finite loss"
    if job.run.model.loss == "softmax_cross_entropy":
        return f"{value:.1%}"
    return f"loss {value:.4g}"


def _left(seconds: float) -> str:
    if seconds < 90:
        return f"{max(seconds, 1):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _live() -> Any:
    from rich.console import Console
    from rich.live import Live

    return Live(console=Console(stderr=True), refresh_per_second=5, transient=True)


def _text(text: str) -> Any:
    from rich.text import Text

    return Text(text, no_wrap=True, overflow="crop")
