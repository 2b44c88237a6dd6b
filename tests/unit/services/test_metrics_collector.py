"""Reports are acknowledged when they are stored, in groups; watchers miss nothing silently."""

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence

import pytest

from services.hosting.errors import NotFound, NotReady, StorageFailed
from services.metrics.adapters.memory import MemoryStore
from services.metrics.collector import MAX_WAITING_SAMPLES, Collector, Keep
from services.metrics.core import NANOSECONDS, Batch, Filter, Sample
from services.metrics.ports import PRUNE_STEP
from services.metrics.watchers import MAX_WATCHERS, Watchers
from tinyfleet.errors import InvalidInput
from tinyfleet.readings import Level

NOW = 1_700_000_000 * NANOSECONDS
DAY = 86_400 * NANOSECONDS
GOOD = Sample("r1", 0, "agent-1", "loss", 1.0, "", NOW)


class GatedStore(MemoryStore):
    """A store whose commits wait at a gate, fail when told to, and are recorded."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()
        self.gate.set()
        self.commits: list[int] = []
        self.failure: Exception | None = None

    def append(self, batches: Sequence[Batch], now_ns: int) -> list[bool]:
        self.commits.append(len(batches))
        assert self.gate.wait(10)
        if self.failure is not None:
            raise self.failure
        return super().append(batches, now_ns)


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def store() -> GatedStore:
    return GatedStore()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def collector(store: GatedStore, clock: Clock) -> AsyncIterator[Collector]:
    made = Collector(store, Keep(days=30, max_rows=25_000), clock)
    yield made
    store.gate.set()
    await made.close()


def report(collector: Collector, request_id: str, *samples: Sample) -> asyncio.Task:
    return asyncio.create_task(collector.report(Batch(request_id, samples or [GOOD])))


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_report_is_not_acknowledged_before_it_is_stored(collector, store) -> None:
    store.gate.clear()
    waiting = report(collector, "a")
    await settle()
    assert not waiting.done()
    store.gate.set()
    await waiting
    assert len(store.samples(Filter(), 10)) == 1


async def test_reports_that_arrive_during_a_commit_share_the_next_one(collector, store) -> None:
    store.gate.clear()
    reports = [report(collector, "first")]
    await settle()
    reports += [report(collector, str(number)) for number in range(100)]
    await settle()
    store.gate.set()
    await asyncio.gather(*reports)
    assert store.commits == [1, 100]


async def test_a_failed_commit_acknowledges_none_of_its_reports_and_the_next_one_works(
    collector, store
) -> None:
    store.failure = StorageFailed("cannot store samples: the disk is full; free some room")
    told: list[bool] = []
    collector.tell_health(told.append)
    results = await asyncio.gather(
        report(collector, "a"), report(collector, "b"), return_exceptions=True
    )
    assert [type(result) for result in results] == [StorageFailed, StorageFailed]
    store.failure = None
    await report(collector, "a")
    assert len(store.samples(Filter(), 10)) == 1
    assert told == [False, True]


async def test_an_unexpected_error_of_the_store_acknowledges_nothing(collector, store) -> None:
    store.failure = ZeroDivisionError()
    with pytest.raises(StorageFailed, match="log has the details"):
        await report(collector, "a")


async def test_a_caller_that_hangs_up_does_not_take_others_with_it(collector, store) -> None:
    store.gate.clear()
    first, second = report(collector, "a"), report(collector, "b")
    await settle()
    first.cancel()
    await settle()
    store.gate.set()
    await second
    assert len(store.samples(Filter(), 10)) == 2


async def test_callers_are_told_to_come_back_when_too_much_waits(collector, store) -> None:
    store.gate.clear()
    full = MAX_WAITING_SAMPLES // 10_000
    reports = [report(collector, str(number), *[GOOD] * 10_000) for number in range(full)]
    await settle()
    with pytest.raises(StorageFailed, match="try again"):
        await report(collector, "one too many")
    store.gate.set()
    await asyncio.gather(*reports)
    await report(collector, "now there is room")


async def test_an_invalid_report_is_refused_and_stores_nothing(collector, store) -> None:
    with pytest.raises(InvalidInput, match=r"samples\[1\]"):
        await report(collector, "a", GOOD, GOOD._replace(name=""))
    assert store.commits == []


async def test_close_stores_what_was_reported(store: GatedStore, clock: Clock) -> None:
    collector = Collector(store, Keep(30, 1000), clock)
    waiting = report(collector, "a")
    await settle()
    await collector.close()
    await waiting
    assert len(store.samples(Filter(), 10)) == 1


async def test_a_summary_of_an_unknown_run_is_not_found(collector: Collector) -> None:
    with pytest.raises(NotFound, match="'r9'"):
        await collector.summarize("r9")
    with pytest.raises(InvalidInput, match="run_id is not set"):
        await collector.summarize("")


async def test_pruning_deletes_by_age_and_by_number(collector, store, clock) -> None:
    old = GOOD._replace(time_ns=NOW - 29 * DAY, value=7.0)
    await report(collector, "a", *[old] * (PRUNE_STEP - 1))
    await report(collector, "b", *[old] * 3, GOOD)
    assert await collector.prune() == 0
    clock.now = NOW + 2 * DAY
    assert await collector.prune() == PRUNE_STEP + 2
    assert await collector.samples(Filter(), 10) == [GOOD]


async def test_a_request_is_remembered_for_a_day(collector, store, clock) -> None:
    await report(collector, "a")
    clock.now += DAY
    await collector.prune()
    await report(collector, "a")
    assert len(store.samples(Filter(), 10)) == 1
    clock.now += 1
    await collector.prune()
    await report(collector, "a")
    assert len(store.samples(Filter(), 10)) == 2


async def test_pruning_is_tried_again_after_a_failure(store, clock, caplog, monkeypatch) -> None:
    monkeypatch.setattr("services.metrics.collector.PRUNE_INTERVAL_S", 0.0)
    loop, tries, again = asyncio.get_running_loop(), [], asyncio.Event()

    def fail(retention) -> int:
        tries.append(retention)
        if len(tries) == 2:
            loop.call_soon_threadsafe(again.set)
        raise StorageFailed("cannot delete old samples: the disk is full; free some room")

    store.prune = fail
    collector = Collector(store, Keep(30, 1000), clock)
    collector.start()
    async with asyncio.timeout(5):
        await again.wait()
    await collector.close()
    assert "old samples not deleted" in caplog.text


async def test_readings_tell_of_a_store_that_fails(collector: Collector, store: GatedStore) -> None:
    (storage,) = collector.readings()
    none = {"stored_samples": 0, "waiting_samples": 0, "watchers": 0}
    assert (storage.level, storage.values) == (Level.OK, none)
    store.failure = StorageFailed("disk full")
    with pytest.raises(StorageFailed):
        await report(collector, "a")
    assert [one.level for one in collector.readings()] == [Level.ERROR]
    store.failure = None
    await report(collector, "a")
    (storage,) = collector.readings()
    assert (storage.level, storage.values["stored_samples"] > 0) == (Level.OK, True)


class TestWatchers:
    async def test_a_watcher_gets_what_it_asked_for_once_it_is_stored(
        self, collector, store
    ) -> None:
        watcher = collector.watchers.add(Filter(name="loss"))
        store.gate.clear()
        waiting = report(collector, "a", GOOD, GOOD._replace(name="rate"))
        news = asyncio.create_task(watcher.next(10))
        await settle()
        assert not news.done()
        store.gate.set()
        await waiting
        assert await news == ([GOOD], 0)

    async def test_a_repeated_report_is_not_told_twice(self, collector: Collector) -> None:
        watcher = collector.watchers.add(Filter())
        for _ in range(2):
            await report(collector, "a")
        assert await watcher.next(10) == ([GOOD], 0)

    async def test_a_slow_watcher_loses_the_oldest_and_is_told_how_many(self) -> None:
        watchers = Watchers(capacity=3)
        watcher = watchers.add(Filter())
        watchers.offer(GOOD._replace(value=value) for value in range(5))
        samples, dropped = await watcher.next(2)
        assert ([sample.value for sample in samples], dropped) == ([2, 3], 2)
        samples, dropped = await watcher.next(2)
        assert ([sample.value for sample in samples], dropped) == ([4], 0)

    async def test_a_watcher_ends_after_what_waits_for_it(self) -> None:
        watchers = Watchers()
        watcher = watchers.add(Filter())
        watchers.offer([GOOD, GOOD])
        watchers.end()
        assert await watcher.next(1) == ([GOOD], 0)
        assert await watcher.next(1) == ([GOOD], 0)
        assert await watcher.next(1) is None

    async def test_one_that_left_takes_no_more_and_makes_room(self) -> None:
        watchers = Watchers()
        all_of_them = [watchers.add(Filter()) for _ in range(MAX_WATCHERS)]
        with pytest.raises(NotReady, match="end one of them"):
            watchers.add(Filter())
        watchers.remove(all_of_them[0])
        watchers.add(Filter())
