"""Plots of a run as PNG files: learning curve, adaptation curve, and a look at single problems.

`report.png` has the most telling of them on one page; each is also a file of its own. Needs
matplotlib (the extra `reports`). Figures are drawn without its global state and without a display.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure, FigureBase
from matplotlib.ticker import (
    FuncFormatter,
    LogLocator,
    MaxNLocator,
    NullFormatter,
    PercentFormatter,
)

from tinyfleet.evaluation import Evaluation, EvaluationSettings, Score
from tinyfleet.evaluation.adaptation import adapt, evaluation_problems
from tinyfleet.files import write_whole
from tinyfleet.learner.protocol import Floats, Learner
from tinyfleet.model.spec import Parameters
from tinyfleet.tasks import FewShotProblem, Task

BEFORE, AFTER, TRUTH, FAINT = "#8a8f98", "#1f6fb4", "#d1495b", "#c9ced6"
_DPI = 120
_REPORT_DPI = 200  # shown half as large, as in a README 900 pixels wide, it stays sharp
_FITS = 6
_SHOWN_PROBLEMS = 3
_SHOWN_QUERIES = 10

Points = Sequence[tuple[float, float]]
Tests = Sequence[tuple[int, Evaluation]]
Classes = npt.NDArray[np.int64]
Drawing = Callable[[FigureBase], None]
Look = tuple[str, float, Drawing]


def draw_report(
    folder: Path,
    task: Task,
    learner: Learner,
    parameters: Parameters,
    evaluation: Evaluation,
    losses: Points,
    tests: Tests,
    title: str = "",
) -> list[Path]:
    """Draw everything there is data for into `folder`; returns the files.

    losses: `(round, training loss)`. tests: `(rounds done, evaluation)` on the way, the last one
    included. title: stands above the report.
    """
    look = _look_at_problems(task, learner, parameters, evaluation.settings)
    plots: list[tuple[str, float, Drawing]] = []  # name, height in inches, what draws it
    if losses:
        plots.append(("learning_curve", 3.8, lambda on: _learning_curve(on, task, losses, tests)))
    if evaluation.curve:
        plots.append(("adaptation", 3.8, lambda on: _adaptation(on.subplots(), task, evaluation)))
    if look:
        plots.append(look)
    drawn = [_save(_page(height, draw), folder / f"{name}.png") for name, height, draw in plots]
    if losses and look:
        page = _report(task, evaluation, losses, tests, look, title)
        drawn.append(_save(page, folder / "report.png"))
    return drawn


def _report(
    task: Task, evaluation: Evaluation, losses: Points, tests: Tests, look: Look, title: str
) -> Figure:
    """Loss and few-shot result side by side, single problems below."""
    _, height, draw_look = look
    figure = Figure(figsize=(9, 3.4 + height), layout="constrained", dpi=_REPORT_DPI)
    figure.suptitle(title, fontsize=12, fontweight="bold")
    parts = figure.subfigures(2, 1, squeeze=False, height_ratios=[3.4, height], hspace=0.03)
    curves, problems = parts[:, 0]
    if len(tests) > 1 or not evaluation.curve:
        _learning_curve(curves, task, losses, tests)
    else:
        left, right = curves.subplots(1, 2)
        _loss_curve(left, task, losses)
        _adaptation(right, task, evaluation)
    draw_look(problems)
    return figure


def _learning_curve(canvas: FigureBase, task: Task, losses: Points, tests: Tests) -> None:
    """Training loss over the rounds; beside it, if there were tests on the way, their result."""
    several = len(tests) > 1
    axes = canvas.subplots(1, 2 if several else 1, squeeze=False)[0]
    _loss_curve(axes[0], task, losses)
    if several:
        at = [done for done, _ in tests]
        _band(axes[1], at, [test.before for _, test in tests], BEFORE, "before adaptation")
        _band(axes[1], at, [test.after for _, test in tests], AFTER, "after adaptation")
        _score_axis(axes[1], task, f"{_shots(task, tests[0][1])} on unseen problems", "round")
        _thousands(axes[1])


def _loss_curve(axes: Axes, task: Task, losses: Points) -> None:
    rounds, values = zip(*losses, strict=True)
    axes.plot(rounds, values, color=FAINT, linewidth=1, label="mean of a stretch of rounds")
    axes.plot(rounds, _smooth(values), color=AFTER, linewidth=2, label="smoothed")
    _title(axes, "Loss while learning online", "round", _loss_name(task))
    _logarithmic(axes)
    _thousands(axes)
    axes.legend(frameon=False)


def _adaptation(axes: Axes, task: Task, evaluation: Evaluation) -> None:
    """The score on unseen problems against online steps on their support sets."""
    steps = [point.steps for point in evaluation.curve]
    _band(axes, steps, [point.score for point in evaluation.curve], AFTER, None, marker="o")
    problems = min(evaluation.settings.curve_tasks, evaluation.settings.tasks)
    title = f"{_shots(task, evaluation)} adaptation, {problems} unseen problems"
    _score_axis(axes, task, title, "online steps")


def _look_at_problems(
    task: Task, learner: Learner, parameters: Parameters, settings: EvaluationSettings
) -> Look | None:
    """How to show single problems of the task; None where there is no way to draw them."""
    if task.input_shape == (1, 1, 1):
        return "adapted_fits", 4.8, lambda on: _fits(on, task, learner, parameters, settings)
    if task.input_shape[0] > 1 and task.input_shape[2] == 1:
        height = 0.85 * _SHOWN_PROBLEMS + 0.4
        return "adapted_images", height, lambda on: _images(on, task, learner, parameters, settings)
    return None


def _fits(
    canvas: FigureBase,
    task: Task,
    learner: Learner,
    parameters: Parameters,
    settings: EvaluationSettings,
) -> None:
    """A few unseen curves: the truth, the samples, the model before and after adaptation."""
    grid = np.linspace(-5.0, 5.0, 201, dtype=np.float32)[:, np.newaxis]
    before = learner.predict(parameters, grid)
    dense = replace(settings, queries=400, tasks=_FITS)
    panels = canvas.subplots(2, _FITS // 2, sharex=True, sharey=True, squeeze=False).ravel()
    for axes, problem in zip(panels, evaluation_problems(task, dense), strict=True):
        after = learner.predict(_adapted(learner, parameters, problem, settings), grid)
        _fit_panel(axes, problem, grid, before, after)
    _heading(canvas, f"Unseen waves: {settings.shots} samples, {settings.passes} passes")
    handles, labels = panels[0].get_legend_handles_labels()
    canvas.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)


def _images(
    canvas: FigureBase,
    task: Task,
    learner: Learner,
    parameters: Parameters,
    settings: EvaluationSettings,
) -> None:
    """A few unseen problems: a support image of each class, queries and the classes they got."""
    problems = list(islice(evaluation_problems(task, settings), _SHOWN_PROBLEMS))
    shown = min(_SHOWN_QUERIES, settings.queries * task.outputs)
    few = f"one of the {settings.shots} drawings learned" if settings.shots > 1 else "the drawing"
    _heading(canvas, f"Unseen characters: {few} of each class; new ones, and the class given")
    rows = canvas.subfigures(len(problems), 1, squeeze=False)[:, 0]
    for row, problem in zip(rows, problems, strict=True):
        adapted = _adapted(learner, parameters, problem, settings)
        said = learner.predict(adapted, problem.query.inputs).argmax(axis=1)
        widths = [1.0] * task.outputs + [1.6] + [1.0] * shown
        panels = row.subplots(1, len(widths), gridspec_kw={"width_ratios": widths})
        _support_images(panels[: task.outputs], task, problem)
        _share_right(panels[task.outputs], problem, said)
        _query_images(panels[task.outputs + 1 :], task, problem, said)


def _support_images(panels: Sequence[Axes], task: Task, problem: FewShotProblem) -> None:
    classes = problem.support.targets.argmax(axis=1)
    for label, axes in enumerate(panels):
        image = problem.support.inputs[int(np.flatnonzero(classes == label)[0])]
        _image(axes, task, image, str(label + 1), "black")


def _share_right(axes: Axes, problem: FewShotProblem, said: Classes) -> None:
    right = np.mean(said == problem.query.targets.argmax(axis=1))
    axes.text(0.5, 0.5, f"{right * 100:.0f} %\nof {len(said)}\nright", ha="center", va="center")
    axes.axis("off")


def _query_images(
    panels: Sequence[Axes], task: Task, problem: FewShotProblem, said: Classes
) -> None:
    """The first queries, which come in random order."""
    truth = problem.query.targets.argmax(axis=1)
    for query, axes in enumerate(panels):
        hit = said[query] == truth[query]
        text = f"{said[query] + 1}" if hit else f"{said[query] + 1}, is {truth[query] + 1}"
        _image(axes, task, problem.query.inputs[query], text, AFTER if hit else TRUTH)


def _image(axes: Axes, task: Task, pixels: Floats, text: str, colour: str) -> None:
    axes.imshow(pixels.reshape(task.input_shape[:2]), cmap="gray_r", vmin=0, vmax=1)
    axes.set_title(text, fontsize=9, color=colour, pad=3)
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_color(colour)


def _fit_panel(
    axes: Axes, problem: FewShotProblem, grid: Floats, before: Floats, after: Floats
) -> None:
    order = problem.query.inputs[:, 0].argsort()
    truth_x, truth_y = problem.query.inputs[order, 0], problem.query.targets[order, 0]
    axes.plot(truth_x, truth_y, color=TRUTH, linewidth=1.6, label="truth")
    axes.plot(grid[:, 0], before[:, 0], color=BEFORE, linestyle=":", label="before adaptation")
    axes.plot(grid[:, 0], after[:, 0], color=AFTER, linewidth=1.8, label="after adaptation")
    x, y = problem.support.inputs[:, 0], problem.support.targets[:, 0]
    axes.plot(x, y, "o", color="black", markersize=4, label="samples learned")
    axes.spines[["top", "right"]].set_visible(False)


def _adapted(
    learner: Learner, parameters: Parameters, problem: FewShotProblem, settings: EvaluationSettings
) -> Parameters:
    """Parameters adapted to a problem; those from before where training diverged."""
    adapted = parameters.copy()
    finite = adapt(learner, adapted, problem.support, settings, settings.passes)
    return adapted if finite else parameters


def _band(
    axes: Axes,
    at: Sequence[int],
    scores: Sequence[Score],
    colour: str,
    label: str | None,
    marker: str = "",
) -> None:
    """A line with its 95 % interval."""
    ends = [score.ci95 for score in scores]
    middle = [score.loss if score.accuracy is None else score.accuracy for score in scores]
    axes.plot(at, middle, color=colour, linewidth=2, label=label, marker=marker, markersize=4)
    low, high = zip(*ends, strict=True)
    axes.fill_between(at, low, high, color=colour, alpha=0.2, linewidth=0)


def _score_axis(axes: Axes, task: Task, title: str, x: str) -> None:
    if _classifies(task):
        _title(axes, title, x, "accuracy, 95 % interval")
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        axes.axhline(1 / task.outputs, color=FAINT, linestyle="--", linewidth=1, label="chance")
        axes.set_ylim(top=1.0)
    else:
        _title(axes, title, x, f"{_loss_name(task)}, 95 % interval")
        _logarithmic(axes)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False)


def _title(axes: Axes, title: str, x: str, y: str) -> None:
    axes.set_title(title, fontsize=11, loc="left")
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#eeeeee")
    axes.set_axisbelow(True)


def _smooth(values: Sequence[float]) -> list[float]:
    """Means over windows of up to a twentieth of the points.

    Centred, narrower near the beginning, where the loss falls fast, and cut off at the end.
    """
    sums = np.concatenate([[0.0], np.cumsum(values)])
    at = np.arange(len(values))
    half = max(1, len(values) // 40)
    low = at - np.minimum(at, half)
    high = np.minimum(at + np.minimum(at, half) + 1, len(values))
    return [float(mean) for mean in (sums[high] - sums[low]) / (high - low)]


def _shots(task: Task, evaluation: Evaluation) -> str:
    shots = evaluation.settings.shots
    return f"{task.outputs}-way {shots}-shot" if _classifies(task) else f"{shots}-shot"


def _heading(canvas: FigureBase, text: str) -> None:
    canvas.suptitle(text, fontsize=11, x=0.01, horizontalalignment="left")


def _logarithmic(axes: Axes) -> None:
    axes.set_yscale("log", nonpositive="clip")
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _thousands(axes: Axes) -> None:
    axes.set_xlim(left=0.0)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))


def _page(height: float, draw: Drawing) -> Figure:
    """A figure of its own; height in inches."""
    figure = Figure(figsize=(9, height), layout="constrained", dpi=_DPI)
    draw(figure)
    return figure


def _classifies(task: Task) -> bool:
    return task.loss == "softmax_cross_entropy"


def _loss_name(task: Task) -> str:
    return "cross-entropy" if _classifies(task) else "mean squared error"


def _save(figure: Figure, path: Path) -> Path:
    image = io.BytesIO()
    figure.savefig(image, format="png")
    write_whole(path, image.getvalue())
    return path
