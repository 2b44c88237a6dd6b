"""What all commands print with: JSON, tables, notes, and progress that suits the terminal."""

from __future__ import annotations

import json
import math
import re
import shutil
import sys
import textwrap
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Self

import click

_PLAIN_INTERVAL_S = 10.0
_BAR_INTERVAL_S = 0.1
_AMOUNT = r"-?\d[\d,.]*(?:e[+-]?\d+)?(?:/[\d,]+)?(?: (?:%|[A-Za-z]{1,3}))?"
_NUMBER = re.compile(rf"{_AMOUNT}(?: ± {_AMOUNT})?|-|nan|inf")
_LOSS_MEMORY = 0.98  # our choice: the shown loss averages over about 50 rounds

json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object and nothing else on stdout."
)


def examples(*lines: str) -> str:
    """The epilog of a command's help: how it is called."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


def print_json(document: dict[str, Any]) -> None:
    """One object on stdout; numbers that are not finite are a programming error."""
    print(json.dumps(document, allow_nan=False))


def note(message: str) -> None:
    """A line for people, on stderr."""
    print(message, file=sys.stderr, flush=True)


def warn(message: str) -> None:
    """What goes wrong while a command works, on stderr: also where JSON is asked for."""
    note(wrapped(f"warning: {message}"))


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table on stdout: columns two spaces apart, numbers to the right.

    Each row is one line, fit to be piped. Only on a terminal that is too narrow, the last cell of
    a row goes below it.
    """
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    pads = [_pad(index, columns, rows) for index in range(len(columns))]
    for number, row in enumerate([columns, *rows]):
        *cells, last = [pad(cell) for pad, cell in zip(pads, row, strict=True)]
        line = "  ".join([*cells, last]).rstrip()
        if number and width is not None and len(line) > width:
            line = "  ".join(cells).rstrip() + "\n" + wrapped(last.strip(), "    ", "    ", width)
        click.echo(line if number else click.style(line, bold=True))


def wrapped(text: str, first: str = "", later: str = "  ", width: int = 80) -> str:
    """A text in lines that fit a terminal, each begun by `first` or `later`."""
    return textwrap.fill(
        text,
        width,
        initial_indent=first,
        subsequent_indent=later,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _pad(index: int, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Callable[[str], str]:
    """What brings the cells of a column to one width."""
    cells = [row[index] for row in rows]
    width = max(map(len, [columns[index], *cells]))
    numeric = bool(cells) and all(_NUMBER.fullmatch(cell) for cell in cells)
    return (lambda cell: cell.rjust(width)) if numeric else (lambda cell: cell.ljust(width))


def si_bytes(count: float) -> str:
    """`1234567` as `1.2 MB`: powers of 1000, as networks are measured."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


class RoundProgress:
    """Round, loss, rounds/s and bytes of a run, on stderr.

    A live bar on a terminal, a line every ten seconds elsewhere, nothing when `quiet`. Cheap
    enough to be called every round.
    """

    def __init__(self, rounds: int, quiet: bool = False) -> None:
        self._rounds = rounds
        self._quiet = quiet
        self._bar = None if quiet or not sys.stderr.isatty() else _bar()
        self._interval = _BAR_INTERVAL_S if self._bar else _PLAIN_INTERVAL_S
        self._loss = math.nan
        self._began = self._shown = time.monotonic()
        self._first = self._last = -1

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
            self._bar.add_task("", total=self._rounds, text="")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def update(self, version: int, loss: float, sent_bytes: int) -> None:
        """version: rounds done. loss: of the last one. sent_bytes: up and down so far."""
        if not math.isnan(loss):
            kept = _LOSS_MEMORY if not math.isnan(self._loss) else 0.0
            self._loss = loss if kept == 0.0 else kept * self._loss + (1.0 - kept) * loss
        if self._first < 0:
            self._first = version - 1
        now = time.monotonic()
        at_end = version == self._rounds and version != self._last
        self._last = version
        if at_end or now - self._shown >= self._interval:
            self._shown = now
            self._show(version, sent_bytes, now)

    def _show(self, version: int, sent_bytes: int, now: float) -> None:
        if self._quiet:
            return
        rate = (version - self._first) / max(now - self._began, 1e-9)
        text = f"loss {self._loss:.4g}  {rate:,.0f} rounds/s  {si_bytes(sent_bytes)}"
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=version, text=text)
        else:
            note(f"round {version:,} of {self._rounds:,}  {text}")


def _bar() -> Any:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeRemainingColumn as Remaining

    columns = (TextColumn("round"), MofNCompleteColumn(), BarColumn(None))
    text = TextColumn("{task.fields[text]}")
    return Progress(*columns, text, Remaining(), console=Console(stderr=True), expand=True)
