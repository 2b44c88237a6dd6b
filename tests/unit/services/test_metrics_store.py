"""What every store of the metrics service promises, tried on each of them."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.hosting.database import disagreements, open_database
from services.hosting.errors import StorageFailed
from services.metrics.adapters.memory import MemoryStore
from services.metrics.adapters.sql import MIGRATIONS, TABLES, SqlStore, open_store
from services.metrics.core import (
    KEYS,
    Aggregation,
    Batch,
    Filter,
    Question,
    Retention,
    Sample,
)
from services.metrics.ports import PRUNE_STEP, MetricsStore

NOW = 1_700_000_000_000_000_000
NOTHING = Retention(before_ns=0, max_rows=10**9, requests_before_ns=0)
EVERYTHING = Filter()
_ids = itertools.count()


def sample(value: float = 1.0, **changes) -> Sample:
    plain = Sample("r1", 0, "agent-1", "loss", value, "", NOW)
    return plain._replace(**changes)


def batch(*samples: Sample, request_id: str = "") -> Batch:
    return Batch(request_id or f"request-{next(_ids)}", samples)


@pytest.fixture(params=["memory", "sql"])
def store(request, tmp_path: Path) -> Iterator[MetricsStore]:
    made = MemoryStore() if request.param == "memory" else open_store(tmp_path)
    yield made
    made.close()


def put(store: MetricsStore, *samples: Sample) -> None:
    assert store.append([batch(*samples)], NOW) == [True]


def ask(store: MetricsStore, aggregation: str, group_by=(), which=EVERYTHING, **options):
    question = Question(which, Aggregation(aggregation), group_by=tuple(group_by), **options)
    return [
        (*(getattr(group, key) for key in group_by), group.value)
        for group in store.groups(question)
    ]


class TestAppend:
    def test_samples_come_back_as_they_were_stored(self, store: MetricsStore) -> None:
        stored = [
            sample(0.1, unit="seconds"),
            sample(-1e300, round=2**32 - 1, time_ns=NOW + 1),
            sample(5e-324, run_id="", round=None, source="ü" * 9, time_ns=NOW + 2),
        ]
        put(store, *stored)
        assert store.samples(Filter(), 10) == stored

    def test_a_repeated_request_is_stored_once(self, store: MetricsStore) -> None:
        assert store.append([batch(sample(), request_id="a")], NOW) == [True]
        assert store.append([batch(sample(), request_id="a")], NOW) == [False]
        assert store.append([batch(sample(), request_id="b")], NOW) == [True]
        assert len(store.samples(Filter(), 10)) == 2

    def test_a_request_repeated_within_one_commit_is_stored_once(self, store) -> None:
        twice = [batch(sample(), request_id="a"), batch(sample(), request_id="a")]
        assert store.append(twice, NOW) == [True, False]
        assert len(store.samples(Filter(), 10)) == 1

    def test_an_empty_batch_is_stored(self, store: MetricsStore) -> None:
        assert store.append([batch()], NOW) == [True]
        assert store.samples(Filter(), 10) == []


class TestSamples:
    def test_they_are_in_order_of_time_then_of_arrival(self, store: MetricsStore) -> None:
        put(store, sample(1, time_ns=NOW + 5), sample(2, time_ns=NOW), sample(3, time_ns=NOW))
        assert [found.value for found in store.samples(Filter(), 10)] == [2, 3, 1]

    def test_the_first_ones_are_returned_up_to_the_limit(self, store: MetricsStore) -> None:
        put(store, *(sample(value, time_ns=NOW + value) for value in range(5)))
        assert [found.value for found in store.samples(Filter(), 3)] == [0, 1, 2]

    @pytest.mark.parametrize(
        ("which", "expected"),
        [
            (Filter(), [0, 1, 2, 3, 4]),
            (Filter(run_id="r1"), [0, 2, 3, 4]),
            (Filter(run_id="r2"), [1]),
            (Filter(source="agent-2"), [2]),
            (Filter(name="rate"), [3]),
            (Filter(first_round=1), [1, 2]),
            (Filter(last_round=0), [0]),
            (Filter(first_round=2, last_round=2), [2]),
            (Filter(run_id="r1", source="agent-1", name="loss"), [0, 4]),
            (Filter(run_id="nobody"), []),
        ],
    )
    def test_a_filter_leaves_out_what_is_not_meant(self, store, which, expected) -> None:
        put(
            store,
            sample(0),
            sample(1, run_id="r2", round=1),
            sample(2, source="agent-2", round=2),
            sample(3, name="rate", round=None),
            sample(4, round=None),
        )
        assert [found.value for found in store.samples(which, 10)] == expected


class TestGroups:
    @pytest.mark.parametrize(
        ("aggregation", "expected"),
        [("last", 2), ("mean", 3), ("min", 1), ("max", 6), ("sum", 9), ("count", 3)],
    )
    def test_aggregations(self, store: MetricsStore, aggregation, expected) -> None:
        put(store, sample(1), sample(2, time_ns=NOW + 9), sample(6))
        assert ask(store, aggregation) == [(expected,)]

    @pytest.mark.parametrize(
        ("percent", "expected"), [(0, 0), (50, 2), (62.5, 2.5), (75, 3), (95, 9.6), (100, 11.25)]
    )
    def test_percentiles_are_exact(self, store: MetricsStore, percent, expected) -> None:
        put(store, *(sample(value) for value in (11.25, 3.0, 0.0, 2.0, 1.0)))
        assert ask(store, "percentile", percentile=percent) == [(pytest.approx(expected),)]

    def test_nothing_makes_no_group(self, store: MetricsStore) -> None:
        for aggregation in Aggregation:
            assert ask(store, aggregation) == []
            assert ask(store, aggregation, ["round"]) == []

    @pytest.mark.parametrize("aggregation", ["last", "percentile", "max"])
    def test_groups_are_sorted_by_their_keys_and_no_round_comes_first(
        self, store: MetricsStore, aggregation: str
    ) -> None:
        put(store, sample(1, round=10), sample(2, round=None), sample(3, round=9), sample(4))
        put(store, sample(5, round=9, source="agent-0"))
        by_round = ask(store, aggregation, ["round"], Filter(source="agent-1"))
        assert by_round == [(None, 2), (0, 4), (9, 3), (10, 1)]
        by_source = ask(store, aggregation, ["source", "round"])
        assert by_source[0] == ("agent-0", 9, 5)
        assert ask(store, aggregation, ["source", "round"], limit=2) == by_source[:2]

    @pytest.mark.parametrize("group_by", [[], ["round"], ["source"], ["source", "round"]])
    def test_the_last_of_several_at_one_time_is_the_one_that_arrived_last(
        self, store: MetricsStore, group_by
    ) -> None:
        put(store, sample(9), sample(1), sample(3), sample(2))
        assert ask(store, "last", group_by)[0][-1] == 2

    def test_a_group_has_a_unit_only_when_its_samples_share_one(self, store) -> None:
        put(store, sample(name="a", unit="bytes"), sample(name="a", unit="bytes"))
        put(store, sample(name="b", unit="bytes"), sample(name="b", unit=""))
        question = Question(Filter(), Aggregation.SUM, group_by=("name",))
        assert [group.unit for group in store.groups(question)] == ["bytes", ""]
        assert [group.count for group in store.groups(question)] == [2, 2]


class TestSummarize:
    def test_each_metric_of_the_run_is_summarized(self, store: MetricsStore) -> None:
        put(
            store,
            *(sample(value, round=value, time_ns=NOW + value, unit="s") for value in range(1, 101)),
        )
        put(store, sample(7, name="accuracy", round=None), sample(8, run_id="r2"))
        accuracy, loss = store.summarize("r1")
        assert (accuracy.name, accuracy.count, accuracy.p99) == ("accuracy", 1, 7)
        assert (accuracy.first_round, accuracy.last_round) == (None, None)
        assert (loss.name, loss.unit, loss.count, loss.last) == ("loss", "s", 100, 100)
        assert (loss.mean, loss.min, loss.max) == (50.5, 1, 100)
        assert (loss.p50, loss.p95, loss.p99) == pytest.approx((50.5, 95.05, 99.01))
        assert (loss.first_round, loss.last_round) == (1, 100)

    def test_an_unknown_run_has_no_summary(self, store: MetricsStore) -> None:
        put(store, sample())
        assert store.summarize("r2") == []


class TestPrune:
    def test_samples_that_are_too_old_go(self, store: MetricsStore) -> None:
        put(store, *(sample(age, time_ns=NOW - age) for age in (30, 20, 10)))
        assert store.prune(Retention(NOW - 20, 10**9, 0)) == 1
        assert [found.value for found in store.samples(Filter(), 10)] == [20, 10]
        assert store.prune(Retention(NOW - 20, 10**9, 0)) == 0

    def test_the_oldest_go_when_there_are_too_many(self, store: MetricsStore) -> None:
        put(store, *(sample(value) for value in range(5)))
        assert store.prune(Retention(0, 2, 0)) == 3
        assert [found.value for found in store.samples(Filter(), 10)] == [3, 4]

    def test_everything_may_go_and_the_store_goes_on(self, store: MetricsStore) -> None:
        put(store, sample(1), sample(2, source="agent-2"))
        assert store.prune(Retention(NOW + 1, 10**9, 0)) == 2
        put(store, sample(3), sample(4, source="agent-2"))
        assert ask(store, "sum", ["source"]) == [("agent-1", 3), ("agent-2", 4)]

    def test_no_call_deletes_more_than_one_step(self, store: MetricsStore) -> None:
        put(store, *(sample(value) for value in range(PRUNE_STEP + 5)))
        assert store.prune(Retention(0, 1, 0)) == PRUNE_STEP
        assert store.prune(Retention(0, 1, 0)) == 4

    def test_nothing_goes_without_a_reason(self, store: MetricsStore) -> None:
        assert store.prune(NOTHING) == 0
        put(store, sample())
        assert store.prune(NOTHING) == 0

    def test_requests_are_forgotten_by_age(self, store: MetricsStore) -> None:
        store.append([batch(request_id="a")], NOW)
        store.append([batch(request_id="b")], NOW + 10)
        store.prune(Retention(0, 10**9, NOW + 10))
        assert store.append([batch(request_id="a"), batch(request_id="b")], NOW) == [True, False]


few_samples = st.lists(
    st.builds(
        Sample,
        run_id=st.sampled_from(["", "r1", "r2"]),
        round=st.sampled_from([None, 0, 1, 2]),
        source=st.sampled_from(["a", "b"]),
        name=st.sampled_from(["loss", "rate"]),
        value=st.floats(-1e6, 1e6, allow_subnormal=False),
        unit=st.sampled_from(["", "s"]),
        time_ns=st.integers(NOW, NOW + 3),
    ),
    max_size=30,
)
questions = st.builds(
    Question,
    which=st.builds(
        Filter,
        run_id=st.sampled_from(["", "r1"]),
        source=st.sampled_from(["", "a"]),
        name=st.sampled_from(["", "loss"]),
        first_round=st.sampled_from([None, 0, 1]),
        last_round=st.sampled_from([None, 1, 2]),
    ),
    aggregation=st.sampled_from(Aggregation),
    percentile=st.floats(0, 100),
    group_by=st.sets(st.sampled_from(KEYS)).map(
        lambda chosen: tuple(key for key in KEYS if key in chosen)
    ),
    limit=st.integers(1, 6),
)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[SqlStore]:
    made = open_store(tmp_path)
    yield made
    made.close()


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(stored=few_samples, asked=st.lists(questions, min_size=1, max_size=5))
def test_the_database_answers_as_the_definitions_say(
    database: SqlStore, stored: list[Sample], asked: list[Question]
) -> None:
    definition = MemoryStore()
    database.prune(Retention(NOW + 10, 0, NOW))  # what the example before has left
    for store in (definition, database):
        store.append([batch(*stored)], NOW)
    for question in asked:
        expected, found = definition.groups(question), database.groups(question)
        assert list(map(_without_value, found)) == list(map(_without_value, expected))
        values = [group.value for group in expected]
        assert [group.value for group in found] == pytest.approx(values, abs=1e-6)
    assert definition.samples(asked[0].which, 20) == database.samples(asked[0].which, 20)
    for summary, other in zip(definition.summarize("r1"), database.summarize("r1"), strict=True):
        for field, value in vars(summary).items():
            same = value if isinstance(value, str | None) else pytest.approx(value, abs=1e-6)
            assert getattr(other, field) == same


def _without_value(group) -> tuple:
    return (group.run_id, group.source, group.name, group.round, group.count, group.unit)


class TestDatabase:
    def test_what_was_stored_is_there_after_a_restart(self, tmp_path: Path) -> None:
        store = open_store(tmp_path)
        store.append([batch(sample(4.5), request_id="a")], NOW)
        store.close()
        store = open_store(tmp_path)
        assert [found.value for found in store.samples(Filter(), 10)] == [4.5]
        assert store.append([batch(sample(), request_id="a")], NOW) == [False]
        store.close()

    def test_the_migrations_make_the_declared_tables(self, tmp_path: Path) -> None:
        engine = open_database(tmp_path, "metrics", MIGRATIONS)
        assert disagreements(engine, TABLES) == []
        engine.dispose()

    def test_a_full_disk_stores_none_of_a_commit_and_says_so(self, tmp_path: Path) -> None:
        store = open_store(tmp_path)
        limit_pages(store, spare=2)
        small = batch(sample(1))
        large = batch(*(sample(value, source="agent-2") for value in range(5000)))
        with pytest.raises(StorageFailed, match=r"cannot store samples: .*full.*free some room"):
            store.append([small, large], NOW)
        assert store.samples(Filter(), 10) == []
        limit_pages(store, spare=10_000)
        assert store.append([small, large], NOW) == [True, True]
        assert ask(store, "count", ["source"]) == [("agent-1", 1), ("agent-2", 5000)]
        store.close()

    def test_a_metric_among_a_hundred_thousand_rows_is_answered_from_the_index(
        self, tmp_path: Path
    ) -> None:
        """No full scan: the plan says so, whatever the machine's speed."""
        store = open_store(tmp_path)
        with store._engine.connect() as connection:
            plan = connection.exec_driver_sql(
                "EXPLAIN QUERY PLAN SELECT avg(samples.value) FROM samples JOIN series ON "
                "series.id = samples.series_id WHERE series.run_id = 'r' AND series.name = 'n'"
            ).all()
        store.close()
        text = " ".join(row[-1] for row in plan)
        assert "USING COVERING INDEX samples_by_series" in text
        assert "SCAN" not in text

    def test_names_of_very_many_series_are_not_all_remembered(self, tmp_path, monkeypatch) -> None:
        monkeypatch.setattr("services.metrics.adapters.sql.MAX_KNOWN_SERIES", 3)
        store = open_store(tmp_path)
        for turn in range(2):
            put(store, *(sample(turn, source=f"agent-{k}") for k in range(10)))
        assert len(store._known) <= 3
        assert len(ask(store, "sum", ["source"])) == 10
        store.close()


def limit_pages(store: SqlStore, spare: int) -> None:
    """Let the file grow by no more than `spare` pages: what SQLite does on a full disk."""
    used = store._writer.exec_driver_sql("PRAGMA page_count").scalar()
    store._writer.exec_driver_sql(f"PRAGMA max_page_count={used + spare}")
    store._writer.rollback()
