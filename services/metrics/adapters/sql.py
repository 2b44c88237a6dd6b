"""A store in a SQLite database, with SQLAlchemy Core. What `append` stored is on disk.

Samples that differ in round, time and value only share one row of `series`, so that a sample takes
some 70 bytes with its index, and a metric of a run lies together in that index. All aggregation
happens in the database, but for percentiles: there the values come out, group by group.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import sqlalchemy as sa
from sqlalchemy import func

from services.hosting.database import open_database, storage_errors
from services.metrics.core import (
    Aggregation,
    Batch,
    Filter,
    Group,
    Question,
    Retention,
    Sample,
    Summary,
    percentile,
)
from services.metrics.ports import PRUNE_STEP

MIGRATIONS = Path(__file__).parents[1] / "migrations"
TABLES = sa.MetaData()
MAX_KNOWN_SERIES = 100_000  # our choice: some 20 MB of names
_VALUES_AT_ONCE = 10_000

series = sa.Table(
    "series",
    TABLES,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("run_id", sa.Text, nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("source", sa.Text, nullable=False),
    sa.Column("unit", sa.Text, nullable=False),
    sa.UniqueConstraint("run_id", "name", "source", "unit"),
)
samples = sa.Table(
    "samples",
    TABLES,
    sa.Column("id", sa.Integer, primary_key=True),  # in order of arrival, without gaps
    sa.Column("series_id", sa.Integer, sa.ForeignKey("series.id"), nullable=False),
    sa.Column("round", sa.Integer, nullable=True),
    sa.Column("time_ns", sa.BigInteger, nullable=False),
    sa.Column("value", sa.Float, nullable=False),
    sa.Index("samples_by_series", "series_id", "round", "time_ns", "value"),
)
batches = sa.Table(
    "batches",
    TABLES,
    sa.Column("request_id", sa.Text, primary_key=True),
    sa.Column("stored_ns", sa.BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

_KEY_COLUMNS: dict[str, sa.Column[Any]] = {
    "run_id": series.c.run_id,
    "source": series.c.source,
    "name": series.c.name,
    "round": samples.c.round,
}
_IN_DATABASE: dict[Aggregation, Any] = {
    Aggregation.MEAN: func.avg(samples.c.value),
    Aggregation.MIN: func.min(samples.c.value),
    Aggregation.MAX: func.max(samples.c.value),
    Aggregation.SUM: func.sum(samples.c.value),
    Aggregation.COUNT: func.count(),
}
_JOINED = samples.join(series, series.c.id == samples.c.series_id)
# Written by hand: with thousands of rows a second, SQLAlchemy's compiler would cost more.
_ADD_SAMPLE = "INSERT INTO samples (series_id, round, time_ns, value) VALUES (?, ?, ?, ?)"
_ADD_BATCH = "INSERT OR IGNORE INTO batches (request_id, stored_ns) VALUES (?, ?)"

SeriesKey = tuple[str, str, str, str]


def open_store(state: Path) -> SqlStore:
    """The store in the folder `state`; see `open_database` for what it raises."""
    return SqlStore(open_database(state, "metrics", MIGRATIONS))


class SqlStore:
    """A store on an engine that it owns; writes through one connection that it keeps."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._known: dict[SeriesKey, int] = {}
        with storage_errors("cannot open the metrics"):
            self._writer = engine.connect()

    def append(self, batches: Sequence[Batch], now_ns: int) -> list[bool]:
        try:
            with storage_errors("cannot store samples"), self._writer.begin():
                return [self._append(batch, now_ns) for batch in batches]
        except BaseException:
            self._known.clear()  # some of these may have been added by what was rolled back
            raise

    def samples(self, which: Filter, limit: int) -> list[Sample]:
        columns = (
            *(series.c.run_id, samples.c.round, series.c.source, series.c.name),
            *(samples.c.value, series.c.unit, samples.c.time_ns),
        )
        query = (
            sa.select(*columns)
            .select_from(_JOINED)
            .where(*_conditions(which))
            .order_by(samples.c.time_ns, samples.c.id)
            .limit(limit)
        )
        with storage_errors("cannot read samples"), self._engine.connect() as connection:
            return [Sample(*row) for row in connection.execute(query)]

    def groups(self, question: Question) -> list[Group]:
        with storage_errors("cannot read samples"), self._engine.begin() as connection:
            return _groups(connection, question)

    def summarize(self, run_id: str) -> list[Summary]:
        with storage_errors("cannot read samples"), self._engine.begin() as connection:
            return _summaries(connection, run_id)

    def prune(self, retention: Retention) -> int:
        with storage_errors("cannot delete old samples"), self._writer.begin():
            self._forget_batches(retention.requests_before_ns)
            first, end = _expired(self._writer, retention)
            if end <= first:
                return 0
            self._writer.execute(sa.delete(samples).where(samples.c.id < end))
            self._drop_empty_series()
            return end - first

    def close(self) -> None:
        self._writer.close()
        self._engine.dispose()

    def _append(self, batch: Batch, now_ns: int) -> bool:
        added = self._writer.exec_driver_sql(_ADD_BATCH, (batch.request_id, now_ns))
        if not added.rowcount:
            return False
        rows = [
            (self._series_id(sample), sample.round, sample.time_ns, sample.value)
            for sample in batch.samples
        ]
        if rows:
            self._writer.exec_driver_sql(_ADD_SAMPLE, rows)
        return True

    def _series_id(self, sample: Sample) -> int:
        key = (sample.run_id, sample.name, sample.source, sample.unit)
        found = self._known.get(key)
        if found is None:
            if len(self._known) >= MAX_KNOWN_SERIES:
                self._known.clear()
            found = self._known[key] = self._stored_series_id(key)
        return found

    def _stored_series_id(self, key: SeriesKey) -> int:
        values = dict(zip(("run_id", "name", "source", "unit"), key, strict=True))
        same = [series.c[column] == value for column, value in values.items()]
        found = self._writer.execute(sa.select(series.c.id).where(*same)).scalar()
        if found is None:
            found = self._writer.execute(sa.insert(series).returning(series.c.id), values).scalar()
        assert isinstance(found, int)  # noqa: S101 - a primary key
        return found

    def _forget_batches(self, before_ns: int) -> None:
        self._writer.execute(sa.delete(batches).where(batches.c.stored_ns < before_ns))

    def _drop_empty_series(self) -> None:
        has_samples = sa.exists().where(samples.c.series_id == series.c.id)
        if self._writer.execute(sa.delete(series).where(~has_samples)).rowcount:
            self._known.clear()


def _conditions(which: Filter) -> list[sa.ColumnElement[bool]]:
    conditions: list[sa.ColumnElement[bool]] = [
        _KEY_COLUMNS[key] == wanted
        for key in ("run_id", "source", "name")
        if (wanted := getattr(which, key))
    ]
    if which.first_round is not None:
        conditions.append(samples.c.round >= which.first_round)
    if which.last_round is not None:
        conditions.append(samples.c.round <= which.last_round)
    return conditions


def _grouped(question: Question, *columns: Any) -> sa.Select[Any]:
    """One row per group, sorted: its keys, then the columns."""
    keys = [_KEY_COLUMNS[key] for key in question.group_by]
    return (
        sa.select(*keys, *columns)
        .select_from(_JOINED)
        .where(*_conditions(question.which))
        .group_by(*keys)
        .order_by(*_by_keys(question))
        .limit(question.limit)
    )


def _by_keys(question: Question) -> list[sa.ColumnElement[Any]]:
    return [_KEY_COLUMNS[key].asc().nulls_first() for key in question.group_by]


def _groups(connection: sa.Connection, question: Question) -> list[Group]:
    in_database = _IN_DATABASE.get(question.aggregation, sa.null())
    units = (func.min(series.c.unit), func.max(series.c.unit))
    query = _grouped(question, in_database, func.count(), *units)
    rows = [row for row in connection.execute(query) if row[-3]]  # without keys: a row for nothing
    counts = [row[-3] for row in rows]
    match question.aggregation:
        case Aggregation.PERCENTILE:
            values = _percentiles(connection, question, counts)
        case Aggregation.LAST:
            values = _last_values(connection, question)
        case _:
            values = [row[-4] for row in rows]
    return [_group(question, row, value) for row, value in zip(rows, values, strict=True)]


def _group(question: Question, row: Sequence[Any], value: float) -> Group:
    *keys, _, count, lowest_unit, highest_unit = row
    unit = lowest_unit if lowest_unit == highest_unit else ""
    return Group(float(value), count, unit, **dict(zip(question.group_by, keys, strict=True)))


def _percentiles(
    connection: sa.Connection, question: Question, counts: Sequence[int]
) -> list[float]:
    groups = _ordered_values(connection, question, counts)
    return [percentile(ordered, question.percentile) for ordered in groups]


def _ordered_values(
    connection: sa.Connection, question: Question, counts: Sequence[int]
) -> Iterator[list[float]]:
    """Each group's values in ascending order; counts: the groups' sizes, as sorted by key."""
    query = (
        sa.select(samples.c.value)
        .select_from(_JOINED)
        .where(*_conditions(question.which))
        .order_by(*_by_keys(question))
    )
    with connection.execution_options(yield_per=_VALUES_AT_ONCE).execute(query) as result:
        values = (row[0] for row in result)
        for count in counts:
            yield np.sort(np.fromiter(islice(values, count), np.float64, count)).tolist()


def _last_values(connection: sa.Connection, question: Question) -> list[float]:
    """Each group's latest value, of several at the same time the one that arrived last.

    First the latest time of each series, by the index; only samples of that time are then ranked.
    """
    by = [samples.c.series_id] + ([samples.c.round] if "round" in question.group_by else [])
    latest = (
        sa.select(*by, func.max(samples.c.time_ns).label("time_ns"))
        .select_from(_JOINED)
        .where(*_conditions(question.which))
        .group_by(*by)
        .subquery()
    )
    same = [samples.c[column.name].is_not_distinct_from(column) for column in latest.c]
    keys = [_KEY_COLUMNS[key] for key in question.group_by]
    newest_first = (samples.c.time_ns.desc(), samples.c.id.desc())
    rank = func.row_number().over(partition_by=keys or None, order_by=newest_first)
    ranked = (
        sa.select(*keys, samples.c.value, rank.label("rank"))
        .select_from(_JOINED.join(latest, sa.and_(*same)))
        .where(*_conditions(question.which))
        .subquery()
    )
    query = (
        sa.select(ranked.c.value)
        .where(ranked.c.rank == 1)
        .order_by(*(ranked.c[key].asc().nulls_first() for key in question.group_by))
        .limit(question.limit)
    )
    return list(connection.execute(query).scalars())


def _summaries(connection: sa.Connection, run_id: str) -> list[Summary]:
    question = Question(Filter(run_id=run_id), Aggregation.LAST, group_by=("name",), limit=-1)
    units = (func.min(series.c.unit), func.max(series.c.unit))
    numbers = [func.count(), *(_IN_DATABASE[Aggregation(name)] for name in ("mean", "min", "max"))]
    rounds = (func.min(samples.c.round), func.max(samples.c.round))
    rows = list(connection.execute(_grouped(question, *numbers, *units, *rounds)))
    last = _last_values(connection, question)
    ordered = _ordered_values(connection, question, [row[1] for row in rows])
    return [
        _summary(row, last_value, values)
        for row, last_value, values in zip(rows, last, ordered, strict=True)
    ]


def _summary(row: Sequence[Any], last: float, ordered: list[float]) -> Summary:
    name, count, mean, smallest, largest, lowest_unit, highest_unit, first, final = row
    return Summary(
        name=name,
        unit=lowest_unit if lowest_unit == highest_unit else "",
        count=count,
        last=last,
        mean=mean,
        min=smallest,
        max=largest,
        p50=percentile(ordered, 50.0),
        p95=percentile(ordered, 95.0),
        p99=percentile(ordered, 99.0),
        first_round=first,
        last_round=final,
    )


def _expired(connection: sa.Connection, retention: Retention) -> tuple[int, int]:
    """The ids that may be deleted now, as a half-open range."""
    first, last = connection.execute(
        sa.select(func.min(samples.c.id), func.max(samples.c.id))
    ).one()
    if first is None:
        return 0, 0
    recent = (
        sa.select(samples.c.id)
        .where(samples.c.time_ns >= retention.before_ns)
        .order_by(samples.c.id)
        .limit(1)
    )
    end = connection.execute(recent).scalar()
    end = last + 1 if end is None else end
    return first, min(max(end, last + 1 - retention.max_rows), first + PRUNE_STEP)
