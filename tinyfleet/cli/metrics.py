"""`tinyfleet metrics`: query, watch and summarize what a fleet measured."""

from __future__ import annotations

import csv
import json
import math
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from google.protobuf.timestamp_pb2 import Timestamp

from tinyfleet.cli.console import examples, json_option, note, print_json, print_table, si_bytes
from tinyfleet.cli.fleet_options import fleet_options, resolve_run
from tinyfleet.cli.metrics_client import Metrics, NoSuchRun
from tinyfleet.cli.options import checked_address
from tinyfleet.client import Fleet
from tinyfleet.errors import InvalidInput, unknown_name
from tinyfleet.v1 import metrics_pb2

Row = dict[str, Any]
Command = Callable[..., Any]

_AGGREGATIONS = ("last", "mean", "min", "max", "sum", "count")
_KEYS = {
    "run": metrics_pb2.GROUP_BY_RUN,
    "source": metrics_pb2.GROUP_BY_SOURCE,
    "metric": metrics_pb2.GROUP_BY_NAME,
    "round": metrics_pb2.GROUP_BY_ROUND,
}
_MAX_ROUND = 2**32 - 1
_LAST_REPORTS_S = 1.2  # reporters send what they have at the latest after a second
_SETTLE_LIMIT_S = 6.0


@click.group("metrics")
def command() -> None:
    """Query, watch and summarize what a fleet measured."""


def _shared(function: Command) -> Command:
    """The flags that all three commands have."""
    function = fleet_options(function)
    return click.option(
        "--metrics-service",
        "address",
        default="127.0.0.1:7312",
        envvar="TINYFLEET_METRICS",
        show_envvar=True,
        callback=checked_address,
        metavar="HOST:PORT",
        help="Address of the metrics service.",
    )(function)


def _filter_flags(function: Command) -> Command:
    for flag in (
        click.option(
            "--rounds",
            metavar="A:B",
            help="Only of rounds A to B, both included; either may be left out.",
        ),
        click.option(
            "--source", default="", show_default=False, help="Only from this agent or service."
        ),
        click.option("--metric", default="", show_default=False, help="Only of this metric."),
        click.option(
            "--run",
            "run_id",
            default="",
            show_default=False,
            metavar="RUN|last",
            help="Only of this run.",
        ),
    ):
        function = flag(function)
    return function


@command.command(
    "query",
    epilog=examples(
        "tinyfleet metrics query --run last --metric round_loss --rounds 100:200 --csv",
        "tinyfleet metrics query --run last --metric training_seconds --aggregate p95",
    ),
)
@_filter_flags
@click.option(
    "--aggregate",
    metavar="|".join((*_AGGREGATIONS, "pN")),
    help="Make one value of many; p95 is the 95th percentile.",
)
@click.option(
    "--group-by",
    default="",
    show_default=False,
    metavar="KEYS",
    help=f"One value for each of: {','.join(_KEYS)}.",
)
@click.option("--limit", type=click.IntRange(1, 100_000), default=1000, help="Most rows.")
@click.option("--csv", "as_csv", is_flag=True, help="Print comma-separated values.")
@_shared
@json_option
def query(
    run_id: str,
    metric: str,
    source: str,
    rounds: str | None,
    aggregate: str | None,
    group_by: str,
    limit: int,
    as_csv: bool,
    address: str,
    coordinator: str,
    tls: Path | None,
    as_json: bool,
) -> None:
    """Print samples, or one value per group of them."""
    if as_csv and as_json:
        raise InvalidInput("--csv and --json exclude each other")
    keys = _parsed_keys(group_by)
    request = metrics_pb2.QueryRequest(
        filter=_filter(run_id, metric, source, rounds, coordinator, tls),
        group_by=[_KEYS[key] for key in keys],
        limit=limit,
        **_parsed_aggregation(aggregate, keys),
    )
    with Metrics(address, tls) as metrics:
        answer = metrics.query(request)
    kind = "groups" if aggregate else "samples"
    rows = (
        [_group_row(group, keys) for group in answer.groups]
        if aggregate
        else [_sample_row(sample) for sample in answer.samples]
    )
    if as_json:
        print_json({kind: rows, "truncated": answer.truncated})
        return
    if as_csv:
        _print_csv(rows)
    else:
        _print_rows(rows, known={"run"} if run_id else set())
    if not rows:
        note("no samples match")
    if answer.truncated:
        note(f"only the first {limit:,}: raise --limit or ask for fewer rounds")


@command.command("watch")
@_filter_flags
@click.option("--count", type=click.IntRange(1), help="End after so many samples.")
@_shared
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per sample.")
def watch(
    run_id: str,
    metric: str,
    source: str,
    rounds: str | None,
    count: int | None,
    address: str,
    coordinator: str,
    tls: Path | None,
    as_json: bool,
) -> None:
    """Print samples as they arrive, until Ctrl-C."""
    left = math.inf if count is None else count
    with Metrics(address, tls) as metrics:
        for news in metrics.watch(_filter(run_id, metric, source, rounds, coordinator, tls)):
            if news.dropped:
                note(f"too slow: {news.dropped:,} samples were left out here")
            for sample in news.samples:
                row = _sample_row(sample)
                print(json.dumps(row) if as_json else _line(row), flush=True)
                left -= 1
                if left <= 0:
                    return


@command.command("summary")
@click.option("--run", "run_id", required=True, metavar="RUN|last", help="The run to summarize.")
@_shared
@json_option
def summary(run_id: str, address: str, coordinator: str, tls: Path | None, as_json: bool) -> None:
    """Print a run at a glance: one line per metric."""
    with Metrics(address, tls) as metrics:
        rows = [
            _summary_row(entry) for entry in metrics.summarize(_resolved(run_id, coordinator, tls))
        ]
    if as_json:
        print_json({"metrics": rows})
    else:
        _print_summary(rows)


def print_summary(rows: Sequence[Row]) -> None:
    """Print a run at a glance, as `settled_summary` gives it."""
    if rows:
        _print_summary(rows)
    else:
        note("the metrics service has no samples of this run")


def settled_summary(metrics: Metrics, run_id: str) -> list[Row]:
    """The summary when no sample has come for as long as a reporter waits."""
    began = changed = time.monotonic()
    rows, known = [], -1
    while (now := time.monotonic()) - changed < _LAST_REPORTS_S and now - began < _SETTLE_LIMIT_S:
        try:
            rows = [_summary_row(entry) for entry in metrics.summarize(run_id)]
        except NoSuchRun:
            rows = []
        count = sum(row["count"] for row in rows)
        if count != known:
            known, changed = count, now
        time.sleep(0.2)
    return rows


def _filter(
    run_id: str, metric: str, source: str, rounds: str | None, coordinator: str, tls: Path | None
) -> metrics_pb2.Filter:
    first, last = _parsed_rounds(rounds)
    return metrics_pb2.Filter(
        run_id=_resolved(run_id, coordinator, tls),
        name=metric,
        source=source,
        first_round=first,
        last_round=last,
    )


def _resolved(run_id: str, coordinator: str, tls: Path | None) -> str:
    if run_id != "last":
        return run_id
    with Fleet(coordinator, tls=tls) as fleet:
        return resolve_run(fleet, run_id)


def _parsed_rounds(text: str | None) -> tuple[int | None, int | None]:
    if text is None:
        return None, None
    first, colon, last = text.partition(":")
    try:
        parts = [int(part) if part else None for part in (first, last if colon else first)]
    except ValueError:
        parts = [-1]
    if text in ("", ":") or any(part is not None and not 0 <= part <= _MAX_ROUND for part in parts):
        raise InvalidInput(f"--rounds is A:B, A:, :B or A, from 0, got '{text[:80]}'")
    return parts[0], parts[1]


def _parsed_aggregation(text: str | None, keys: Sequence[str]) -> dict[str, Any]:
    if text is None:
        if keys:
            raise InvalidInput("--group-by needs --aggregate: one value per group")
        return {}
    if text in _AGGREGATIONS:
        return {"aggregation": f"AGGREGATION_{text.upper()}"}
    try:
        percent = float(text.removeprefix("p")) if text.startswith("p") else math.nan
    except ValueError:
        percent = math.nan
    if math.isnan(percent):
        raise unknown_name("aggregation", text, [*_AGGREGATIONS, "p50", "p95", "p99"])
    if not 0 <= percent <= 100:
        raise InvalidInput(f"a percentile is p0 to p100, got '{text[:80]}'")
    return {"aggregation": metrics_pb2.AGGREGATION_PERCENTILE, "percentile": percent}


def _parsed_keys(text: str) -> list[str]:
    wanted = [word.strip() for word in text.split(",")] if text else []
    for word in wanted:
        if word not in _KEYS:
            raise unknown_name("key to group by", word, _KEYS)
    return [key for key in _KEYS if key in wanted]


def _sample_row(sample: metrics_pb2.Sample) -> Row:
    return {
        "time": _iso(sample.time),
        "run": sample.run_id,
        "round": sample.round if sample.HasField("round") else None,
        "source": sample.source,
        "metric": sample.name,
        "value": sample.value,
        "unit": sample.unit,
    }


def _group_row(group: metrics_pb2.Group, keys: Sequence[str]) -> Row:
    known = {
        "run": group.run_id,
        "source": group.source,
        "metric": group.name,
        "round": group.round if group.HasField("round") else None,
    }
    of_group = {"value": group.value, "unit": group.unit, "count": group.count}
    return {key: known[key] for key in keys} | of_group


def _summary_row(entry: metrics_pb2.MetricSummary) -> Row:
    row: Row = {"metric": entry.name, "unit": entry.unit, "count": entry.count}
    row |= {
        name: getattr(entry, name) for name in ("last", "mean", "min", "max", "p50", "p95", "p99")
    }
    for name in ("first_round", "last_round"):
        row[name] = getattr(entry, name) if entry.HasField(name) else None
    return row


def _iso(time_: Timestamp) -> str:
    """`2026-01-02T03:04:05.123456Z`: sorts as text, and every tool reads it."""
    whole = datetime.fromtimestamp(time_.seconds, UTC)
    return f"{whole:%Y-%m-%dT%H:%M:%S}.{time_.nanos // 1000:06d}Z"


def _print_csv(rows: Sequence[Row]) -> None:
    if rows:
        writer = csv.DictWriter(sys.stdout, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _print_rows(rows: Sequence[Row], known: set[str]) -> None:
    """A table of what the reader does not know: without `known` and empty columns, or the date."""
    if not rows:
        return
    names = [name for name in rows[0] if name not in known]
    columns = [name for name in names if any(row[name] not in ("", None) for row in rows)]
    print_table(columns, [[_cell(name, row[name]) for name in columns] for row in rows])


def _line(row: Row) -> str:
    where = [row["run"] or "-", "-" if row["round"] is None else f"{row['round']:,}"]
    value = f"{row['metric']}={row['value']:.6g}"
    return "  ".join(
        [_time_of_day(row["time"]), *where, row["source"], value, row["unit"]]
    ).rstrip()


def _print_summary(rows: Sequence[Row]) -> None:
    names = ("last", "mean", "p50", "p95", "max")
    table = [
        [row["metric"], f"{row['count']:,}", *(quantity(row[name], row["unit"]) for name in names)]
        for row in rows
    ]
    print_table(("metric", "samples", *names), table)


def quantity(value: float, unit: str) -> str:
    """A value for people: seconds and bytes with the prefix that suits, others as they are."""
    if unit == "bytes" and value >= 0:
        return si_bytes(value)
    if unit == "seconds":
        size = abs(value)
        scale, name = (1, "s") if size >= 1 else (1e3, "ms") if size >= 1e-3 else (1e6, "us")
        scaled = value * scale
        return f"{scaled:,.0f} {name}" if abs(scaled) >= 100 else f"{scaled:.3g} {name}"
    return f"{value:.4g}"


def _cell(name: str, value: Any) -> str:
    if value is None:
        return "-"
    if name == "time":
        return _time_of_day(str(value))
    if isinstance(value, float):
        return f"{value:.6g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _time_of_day(iso: str) -> str:
    return iso[11:23]
