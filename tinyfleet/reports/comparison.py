"""Plots of a comparison: the way to a score, what a target costs, adaptation by samples.

`progress.png`, `to_target.png` and `adaptation_by_shots.png`, made to be read at the width of a
README. Needs matplotlib, like `plots`.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import (
    EngFormatter,
    FixedLocator,
    FuncFormatter,
    LogLocator,
    MaxNLocator,
    NullFormatter,
    NullLocator,
    PercentFormatter,
)

from tinyfleet.comparison.pooled import Pooled
from tinyfleet.comparison.table import Reached, Row, Step, Table
from tinyfleet.comparison.words import quantity
from tinyfleet.files import write_whole

# Okabe and Ito's colours, told apart by colour-blind readers, the dark ones first.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#7f5539", "#444444")
FAINT = "#9aa0a8"
_DPI = 160
_WIDTH = 9.0
_LOWEST = 0.05  # of a value: where a band ends at the latest
_HIGHEST = 30.0  # times the middle value: a loss beyond is not shown, what is left would be flat
_STYLES = ("-", "--", "-.", ":")  # beyond eight strategies the colours come again, in other strokes


def draw_comparison(folder: Path, table: Table) -> list[Path]:
    """Draw everything there is data for into `folder`; returns the files."""
    drawn = []
    if any(len(row.steps) > 1 for row in table.rows):
        drawn.append(_save(_progress(table), folder / "progress.png"))
    if any(row.shots for row in table.rows):
        drawn.append(_save(_by_shots(table), folder / "adaptation_by_shots.png"))
    if any(row.reached is not None and row.reached.seeds for row in table.rows):
        drawn.append(_save(_to_target(table), folder / "to_target.png"))
    return drawn


def _progress(table: Table) -> Figure:
    """The score against rounds, bytes and joules, side by side, on one scale."""
    figure = _page(4.6, table.title)
    panels = figure.subplots(1, 3, sharey=True)
    joules = f"estimated J, {table.deployments[table.drawn].name}"
    measures: list[tuple[str, Callable[[Step], float]]] = [
        ("rounds", lambda step: step.rounds),
        ("bytes up and down", lambda step: step.bytes_up + step.bytes_down),
        (joules, lambda step: step.joules[table.drawn]),
    ]
    for number, (axes, (title, measure)) in enumerate(zip(panels, measures, strict=True)):
        _ways(axes, table, measure, fleet_only=number > 0)
        axes.set_xlabel(title)
        _frame(axes)
    _score_scale(panels[0], table)
    _limit(panels[0], table, [step.score for row in table.rows for step in row.steps])
    for axes in panels[1:]:
        axes.tick_params(axis="y", labelleft=True)
    _mark_target(panels, table)
    _legend(figure, panels[0])
    return figure


def _ways(axes: Axes, table: Table, measure: Callable[[Step], float], fleet_only: bool) -> None:
    """A line with its band for each strategy; what needs no rounds is a level."""
    ends = [0.0]
    for number, row in enumerate(table.rows):
        look = _look(number)
        points = [(measure(step), step.score) for step in row.steps if _shown(step.score)]
        if len(points) > 1 and not (fleet_only and row.bytes_up is None):
            _band(axes, points, row.label, look)
            ends.append(points[-1][0])
        elif len(points) == 1 and not row.rounds:
            axes.axhline(points[0][1].value, label=row.label, **look | {"linestyle": (0, (1, 1.5))})
    axes.set_xlim(0.0, max(ends) or 1.0)
    axes.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]))
    axes.xaxis.set_major_formatter(EngFormatter(sep="\N{NARROW NO-BREAK SPACE}"))


def _by_shots(table: Table) -> Figure:
    """The score after adaptation against the number of samples adapted to."""
    figure = _page(4.4, table.title)
    axes = figure.subplots()
    counts = sorted({count for row in table.rows for count, _ in row.shots})
    for number, row in enumerate(table.rows):
        points = [(float(count), score) for count, score in row.shots if _shown(score)]
        if points:
            _band(axes, points, row.label, _look(number), marker="o")
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator(counts))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    per = " of each class" if table.classifies else ""
    axes.set_xlabel(f"samples{per} a new device adapts to")
    _frame(axes)
    _score_scale(axes, table, at_shots=False)
    _limit(axes, table, [score for row in table.rows for _, score in row.shots])
    _legend(figure, axes)
    return figure


def _to_target(table: Table) -> Figure:
    """Bars of bytes (up, down) and of joules (training, link) until the target."""
    rows = [(i, row, row.reached) for i, row in enumerate(table.rows) if row.bytes_up is not None]
    shown = [(number, row, reached) for number, row, reached in rows if reached is not None]
    figure = _page(1.5 + 0.46 * len(shown), f"{table.title}: cost of {_target_words(table)}")
    left, right = figure.subplots(1, 2, sharey=True)
    drawn = table.drawn
    _bars(left, shown, ("up", "down"), lambda r: (r.bytes_up, r.bytes_down), "B")
    _bars(
        right,
        shown,
        ("training", "link"),
        lambda r: (r.estimates[drawn].training_j, r.estimates[drawn].link_j),
        "J",
    )
    left.set_xlabel("bytes")
    right.set_xlabel(f"estimated J, {table.deployments[drawn].name}")
    left.set_yticks(range(len(shown)), [_bar_label(row, reached) for _, row, reached in shown])
    left.set_ylim(len(shown) - 0.5, -0.5)
    return figure


Shown = Sequence[tuple[int, Row, Reached]]


def _bars(
    axes: Axes,
    shown: Shown,
    names: tuple[str, str],
    parts: Callable[[Reached], tuple[float, float]],
    unit: str,
) -> None:
    """One bar a strategy in two parts, the second one paler, and its length in words."""
    longest = max(sum(parts(reached)) for _, _, reached in shown if reached.seeds)
    for place, (number, _, reached) in enumerate(shown):
        if not reached.seeds:
            axes.text(0.01 * longest, place, "not reached", va="center", color=FAINT, fontsize=9)
            continue
        colour = str(_look(number)["color"])
        first, second = parts(reached)
        axes.barh(place, first, 0.62, color=colour)
        axes.barh(place, second, 0.62, left=first, color=colour, alpha=0.4)
        total = first + second
        words = f"{quantity(total, unit)}, {first / total:.0%} {names[0]}" if total else "0"
        inside = total > 0.62 * longest
        at = total - 0.015 * longest if inside else total + 0.015 * longest
        axes.text(
            at, place, words, va="center", ha="right" if inside else "left", fontsize=8.5,
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 1.2},
        )  # fmt: skip
    axes.set_title(f"dark: {names[0]}; pale: {names[1]}", loc="left", fontsize=9, color="#555555")
    axes.set_xlim(0.0, 1.03 * longest)
    axes.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]))
    axes.xaxis.set_major_formatter(EngFormatter(sep="\N{NARROW NO-BREAK SPACE}"))
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(axis="y", length=0)


def _bar_label(row: Row, reached: Reached) -> str:
    if 0 < reached.seeds < row.all_seeds:
        return f"{row.label}\n({reached.seeds} of {row.all_seeds} seeds)"
    return row.label


def _band(
    axes: Axes,
    points: Sequence[tuple[float, Pooled]],
    label: str,
    look: dict[str, Any],
    marker: str = "",
) -> None:
    """A line with its 95 % interval."""
    at = [x for x, _ in points]
    axes.plot(at, [s.value for _, s in points], label=label, marker=marker, markersize=4, **look)
    low = [max(s.low, s.value * _LOWEST) for _, s in points]  # above 0: the scale may be a log one
    high = [s.high for _, s in points]
    axes.fill_between(at, low, high, color=str(look["color"]), alpha=0.18, linewidth=0)


def _score_scale(axes: Axes, table: Table, at_shots: bool = True) -> None:
    test = table.test
    if table.classifies:
        shots = f" {test['shots']}-shot" if at_shots else ""
        axes.set_ylabel(f"{table.classes}-way{shots} accuracy, 95 % interval")
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        low = min(score.low for row in table.rows for score in _scores(row, at_shots))
        axes.set_ylim(max(0.0, math.floor(10 * low) / 10), 1.0)
        return
    axes.set_ylabel("mean squared error, 95 % interval")
    axes.set_yscale("log", nonpositive="clip")
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _limit(axes: Axes, table: Table, scores: Sequence[Pooled]) -> None:
    """Cut off losses that went through the roof."""
    values = sorted(score.value for score in scores if _shown(score))
    if table.classifies or not values:
        return
    roof = _HIGHEST * values[len(values) // 2]
    lowest = min(max(score.low, score.value * _LOWEST) for score in scores if _shown(score))
    highest = max(score.high for score in scores if _shown(score) and score.value <= roof)
    axes.set_ylim(0.85 * lowest, 1.15 * min(highest, roof))


def _scores(row: Row, at_shots: bool) -> list[Pooled]:
    every = [step.score for step in row.steps] if at_shots else [score for _, score in row.shots]
    return [score for score in every if _shown(score)] or [Pooled(1.0, 1.0, 1.0, None)]


def _mark_target(panels: Sequence[Axes], table: Table) -> None:
    if table.target is None:
        return
    for axes in panels:
        axes.axhline(table.target, color="#666b73", linewidth=1, linestyle=(0, (4, 3)), zorder=1)
    below = table.classifies  # where the lines are not, beyond the target
    panels[-1].annotate(
        f"target: {_target_words(table)}",
        (1.0, table.target),
        (-2, -4 if below else 3),
        xycoords=("axes fraction", "data"),
        textcoords="offset points",
        ha="right",
        va="top" if below else "bottom",
        fontsize=8,
        color="#666b73",
        bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.7, "pad": 0.8},
    )


def _target_words(table: Table) -> str:
    target = table.target if table.target is not None else math.nan
    return f"{target:.0%} accuracy" if table.classifies else f"a loss of {target:g}"


def _legend(figure: Figure, axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    columns = min(len(labels), 5)
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False)


def _frame(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#eeeeee")
    axes.set_axisbelow(True)


def _look(number: int) -> dict[str, Any]:
    style = _STYLES[number // len(COLOURS) % len(_STYLES)]
    return {"color": COLOURS[number % len(COLOURS)], "linewidth": 1.8, "linestyle": style}


def _shown(score: Pooled) -> bool:
    return math.isfinite(score.value)


def _page(height: float, title: str) -> Figure:
    figure = Figure(figsize=(_WIDTH, height), layout="constrained", dpi=_DPI)
    figure.suptitle(title, fontsize=12, x=0.01, horizontalalignment="left")
    return figure


def _save(figure: Figure, path: Path) -> Path:
    image = io.BytesIO()
    figure.savefig(image, format="png")
    write_whole(path, image.getvalue())
    return path
