"""A table in words: cells for people, and the Markdown page of a comparison."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tinyfleet.comparison.pooled import Pooled
from tinyfleet.comparison.table import Row, Table, adaptation

_LEGEND = (
    "After adaptation: mean and 95 % interval over the problems of all seeds. Between seeds: "
    "standard deviation of the seeds' means. Late: standard deviation of the tests of the last "
    "quarter of a run, four at least, about a straight line through them, mean over seeds. Bytes "
    "are payload, of all devices together. Time and energy are estimates for {drawn}, of all "
    "devices together; nothing of it was measured on a device. RAM: what a device needs to do its "
    "part."
)
Cells = list[list[str]]
NONE = "-"
_PREFIXES = ((1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""), (1e-3, "m"), (1e-6, "u"), (1e-9, "n"))


def quantity(value: float | None, unit: str) -> str:
    """Three significant digits with an SI prefix: `quantity(1234, "B")` is `1.23 kB`."""
    if value is None or not math.isfinite(value):
        return NONE
    if value == 0:
        return f"0 {unit}"
    for factor, prefix in _PREFIXES:
        if abs(value) >= 0.9995 * factor and not (unit == "B" and factor < 1):
            return f"{_three(value / factor)} {prefix}{unit}"
    return f"{value:.3g} {unit}"


def duration(seconds: float | None) -> str:
    """`1.5 s`, `12 min`, `3.4 h`."""
    if seconds is None or not math.isfinite(seconds):
        return NONE
    for size, name in ((3600.0, "h"), (60.0, "min")):
        if seconds >= size:
            return f"{_three(seconds / size)} {name}"
    return quantity(seconds, "s")


def score_cell(score: Pooled, classifies: bool) -> str:
    """Mean and half of its 95 % interval."""
    if not math.isfinite(score.value):
        return NONE
    half = (score.high - score.low) / 2
    if classifies:
        return f"{score.value * 100:.1f} ± {half * 100:.1f} %"
    return f"{score.value:.3g} ± {half:.2g}"


def spread_cell(value: float | None, classifies: bool) -> str:
    """A standard deviation, in points of accuracy or as a loss."""
    if value is None or not math.isfinite(value):
        return NONE
    return f"{value * 100:.2f}" if classifies else f"{value:.2g}"


def main_cells(table: Table) -> tuple[list[str], Cells]:
    """The main table: score, spreads, bytes, device time, joules, memory."""
    head = ["strategy", "rounds", "after adaptation", "between seeds", "late", "up", "down"]
    return [*head, "device time", "energy", "RAM"], [_main_row(row, table) for row in table.rows]


def short_cells(table: Table) -> tuple[list[str], Cells]:
    """The same for a terminal of 80 columns."""
    rows = []
    for row in table.rows:
        total = None if row.bytes_up is None else row.bytes_up + (row.bytes_down or 0.0)
        energy = quantity(_joules(row, table.drawn), "J")
        score = score_cell(row.after, table.classifies)
        rows.append([row.label, _rounds(row), score, quantity(total, "B"), energy, _to(row)])
    to = "to target" if table.target is not None else ""
    return ["strategy", "rounds", "after", "bytes", "energy", to], rows


def target_cells(table: Table) -> tuple[list[str], Cells]:
    """Until the target: rounds, bytes, joules."""
    rows = []
    for row in table.rows:
        there = row.reached
        if there is None:
            continue
        seeds = f"{there.seeds} of {row.all_seeds}"
        figures = [f"{there.rounds:,.0f}" if there.seeds else NONE] + [NONE] * 3
        if there.seeds and row.bytes_up is not None:
            joules = there.estimates[table.drawn].total_j
            figures = [f"{there.rounds:,.0f}", quantity(there.bytes_up, "B")]
            figures += [quantity(there.bytes_up + there.bytes_down, "B"), quantity(joules, "J")]
        rows.append([row.label, seeds, *figures])
    return ["strategy", "seeds", "rounds", "bytes up", "bytes in all", "energy"], rows


def energy_cells(table: Table) -> tuple[list[str], Cells]:
    """Device time and joules of a run on every deployment."""
    rows = []
    for row in table.rows:
        cells = [row.label]
        for one in row.estimates or ():
            cells += [duration(one.device_s), quantity(one.training_j, "J")]
            cells += [quantity(one.link_j, "J")]
        if row.estimates:
            rows.append(cells)
    head = ["strategy"]
    for deployment in table.deployments:
        head += [f"{deployment.name}: time", "training", "link"]
    return head, rows


def shots_cells(table: Table) -> tuple[list[str], Cells]:
    """The score by number of samples adapted to."""
    with_shots = [row for row in table.rows if row.shots]
    head = [
        "strategy",
        *(f"{count}-shot" for count, _ in (with_shots[0].shots if with_shots else ())),
    ]
    cells = [
        [row.label, *(score_cell(score, table.classifies) for _, score in row.shots)]
        for row in with_shots
    ]
    return head, cells


def markdown(table: Table, command: str) -> str:
    """The page `table.md`."""
    test, score = table.test, "accuracy" if table.classifies else "loss"
    ways = f"{table.classes}-way " if table.classifies else ""
    seeds = ", ".join(map(str, table.seeds))
    drawn = table.deployments[table.drawn].name
    parts = [
        f"# {table.title}",
        (
            f"{table.task}, {table.model}; {ways}{test['shots']}-shot {score} on "
            f"{test['tasks']:,} unseen problems, {adaptation(test)}; "
            f"seeds {seeds}. Made by `{command}`."
        ),
        _markdown_table(*main_cells(table)),
        _LEGEND.format(drawn=drawn),
    ]
    parts += [f"{row.label} learns {row.learns}." for row in table.rows if row.learns]
    parts += [
        f"{row.label} adapts in its own way: {row.adapts}." for row in table.rows if row.adapts
    ]
    if table.target is not None:
        sign, shown = ("at least", f"{table.target:.0%}")
        if not table.classifies:
            sign, shown = ("at most", f"{table.target:g}")
        parts += [
            f"## To {score} of {sign} {shown}",
            _markdown_table(*target_cells(table)),
            "Until a seed's first test at the target; means over the seeds that reached it.",
        ]
    if any(row.shots for row in table.rows):
        parts += ["## By samples to adapt to", _markdown_table(*shots_cells(table))]
        parts += _fewer_queries(table)
    parts += ["## Estimates by device", _markdown_table(*energy_cells(table))]
    failures = [f"- {row.label}, {text}" for row in table.rows for text in row.failures]
    warnings = [f"- {text}" for text in warning_lines(table)]
    return "\n\n".join(parts + _list("Diverged", failures) + _list("Warnings", warnings)) + "\n"


def _fewer_queries(table: Table) -> list[str]:
    """Where the curve is tested on fewer samples than the main table, because there are no more."""
    usual = table.test["queries"]
    fewer = [f"{count} at {n}-shot" for n, count in table.queries.items() if count < usual]
    if not fewer:
        return []
    each = " a class" if table.classifies else ""
    return [f"Tested on {usual} samples{each}, but where there are fewer: {', '.join(fewer)}."]


def warning_lines(table: Table) -> list[str]:
    """What there was to say of each strategy and seed while it trained."""
    return [f"{row.label}, {text}" for row in table.rows for text in row.warnings]


def _list(title: str, lines: list[str]) -> list[str]:
    return [f"## {title}", "\n".join(lines)] if lines else []


def _main_row(row: Row, table: Table) -> list[str]:
    one = row.estimates[table.drawn] if row.estimates else None
    return [
        row.label,
        _rounds(row),
        score_cell(row.after, table.classifies),
        spread_cell(row.after.seed_sd, table.classifies),
        spread_cell(row.late_sd, table.classifies),
        quantity(row.bytes_up, "B"),
        quantity(row.bytes_down, "B"),
        duration(one.device_s if one else None),
        quantity(one.total_j if one else None, "J"),
        quantity(row.memory_bytes, "B"),
    ]


def _rounds(row: Row) -> str:
    if row.seeds == row.all_seeds:
        return f"{row.rounds:,}" if row.rounds else NONE
    return f"{row.all_seeds - row.seeds} of {row.all_seeds} diverged"


def _to(row: Row) -> str:
    there = row.reached
    if there is None:
        return ""
    if not there.seeds:
        return "never"
    some = "" if there.seeds == row.all_seeds else f" ({there.seeds} of {row.all_seeds})"
    return f"{there.rounds:,.0f}{some}"


def _joules(row: Row, drawn: int) -> float | None:
    return row.estimates[drawn].total_j if row.estimates else None


def _three(value: float) -> str:
    """Three significant digits, without an exponent below a million."""
    value = float(f"{value:.3g}")
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{digits}f}"


def _markdown_table(head: Sequence[str], rows: Cells) -> str:
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join("| " + " | ".join(_escaped(cell) for cell in line) + " |" for line in lines)


def _escaped(cell: str) -> str:
    return cell.replace("\\", "\\\\").replace("|", "\\|")
