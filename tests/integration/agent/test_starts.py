"""What a round starts from: fetched, rounded, or as changes to what the agent holds."""

from typing import Any

import numpy as np
import pytest
from agent_fleet import LONG_PLAN, PLAN, RUN, SINE, SLOW_PLAN, SPEC, START, fleet, soon, wide_model

from tinyfleet.codec.start import Start
from tinyfleet.exchange import exchange_of
from tinyfleet.learner import make_learner, run_plan
from tinyfleet.run import make_run, training_samples
from tinyfleet.v1 import aggregator_pb2 as agg


async def test_where_rounds_overlap_the_newest_model_is_fetched_and_its_version_said() -> None:
    spec = make_run(SINE, "fed_buff", 100, 5, model=wide_model())
    start = spec.initial_parameters()
    async with fleet() as f:
        f.aggregator.model, f.aggregator.newest = start, 9
        visit = await f.visit()
        visit.brief(RUN, spec)
        visit.assign(RUN, 4, SLOW_PLAN, None)
        header, data = await f.update()
    (asked,) = f.aggregator.fetched
    assert not asked.HasField("version")
    assert (header.round, header.base_version) == (4, 9)
    trained = start.copy()
    samples = training_samples(SINE, spec.seed, 4, 0, 32)
    run_plan(make_learner(spec.model), trained, samples, SLOW_PLAN)
    assert data == (trained - start).astype("<f4").tobytes()


@pytest.mark.parametrize("fetched", [False, True])
async def test_local_layers_stay_and_only_the_largest_changes_are_sent(fetched: bool) -> None:
    options = {"local_layers": 1, "precision": "int8", "inner_rate": 0.0001, "local_rate": 0.0001}
    spec = make_run(SINE, "tiny_meta_fed", 100, 5, wide_model(), options)
    plan, exchange = spec.make_strategy().plan(0), exchange_of(spec)
    start = spec.initial_parameters()
    start[: exchange.count] += np.float32(0.001)  # some later version: the local layer is the last
    shared = start[: exchange.count]
    async with fleet() as f:
        f.aggregator.model = shared
        visit = await f.visit()
        visit.brief(RUN, spec)
        visit.assign(RUN, 3, plan, None if fetched else shared)
        header, data = await f.update()
    assert [one.shared_only for one in f.aggregator.fetched] == [True] * fetched
    trained = start.copy()
    samples = training_samples(SINE, spec.seed, 3, 0, plan.samples)
    run_plan(make_learner(spec.model), trained, samples, plan)
    assert data == exchange.encode(trained - start, spec.seed, 3, 0)
    assert header.encoding == agg.UPDATE_ENCODING_SELECTED
    assert header.total_bytes == len(data) < len(shared) / 2


class Rounded:
    """A run whose starts are int8 and sent as changes, and what to expect of an agent in it."""

    def __init__(self, precision: str = "int8") -> None:
        options = {"local_layers": 1, "down_precision": precision, "changes_only": True}
        options |= {"inner_rate": 0.0001, "local_rate": 0.0001}
        self.spec = make_run(SINE, "tiny_meta_fed", 100, 5, "mlp_32", options)
        self.plan, self.exchange = self.spec.make_strategy().plan(0), exchange_of(self.spec)
        self.form = self.exchange.starts

    def start(self, version: int) -> Start:
        model = self.spec.initial_parameters()
        model[version::17] += np.float32(0.1)
        model[63:65] = 2.0  # the last of one layer, the first of the next: their scale stays
        return self.exchange.start(model)

    def whole(self, version: int) -> bytes:
        return self.form.write_whole(self.start(version))

    def changes(self, held: int, version: int) -> bytes:
        data = self.form.write_changes(self.start(held), self.start(version))
        assert data is not None
        return data

    def update(self, version: int) -> bytes:
        start = self.exchange.started(self.start(version), self.spec.initial_parameters())
        trained = start.copy()
        samples = training_samples(SINE, self.spec.seed, version, 0, self.plan.samples)
        run_plan(make_learner(self.spec.model), trained, samples, self.plan)
        return bytes(self.exchange.encode(trained - start, self.spec.seed, version, 0))


@pytest.mark.parametrize("precision", ["float16", "int8"])
async def test_a_round_starts_from_what_changed_since_the_last_start(precision: str) -> None:
    run = Rounded(precision)
    async with fleet() as f:
        visit = await f.visit()
        visit.brief(RUN, run.spec)
        visit.assign_start(RUN, 0, run.plan, run.whole(0), None)
        header, data = await f.update()
        assert (data, header.HasField("start_bytes")) == (run.update(0), False)
        for held, version in ((0, 1), (1, 5), (5, 6)):  # versions may be skipped
            changes = run.changes(held, version)
            visit.assign_start(RUN, version, run.plan, changes, held)
            header, data = await f.update()
            assert (data, header.start_bytes) == (run.update(version), len(changes))


async def test_a_start_is_held_also_of_work_that_was_withdrawn() -> None:
    run = Rounded()
    async with fleet() as f:
        visit = await f.visit()
        visit.brief(RUN, run.spec)
        visit.brief("long", SPEC)
        visit.assign("long", 0, LONG_PLAN, START)
        visit.withdraw(visit.assign_start(RUN, 0, run.plan, run.whole(0), None))
        visit.assign_start(RUN, 1, run.plan, run.changes(0, 1), 0)
        assert (await f.update())[0].run_id == "long"
        assert (await f.update())[1] == run.update(1)


async def test_changes_to_what_is_not_held_are_declined_for_the_moment() -> None:
    run = Rounded()
    async with fleet() as f:
        visit = await f.visit()
        visit.brief(RUN, run.spec)
        visit.assign_start(RUN, 0, run.plan, run.whole(0), None)
        await f.update()
        for held in (7, 0):  # nothing is held after what made no sense
            visit.assign_start(RUN, 8, run.plan, run.changes(0, 8), held)
            decline = (await soon(visit.heard.get())).decline
            assert (decline.permanent, f"version {held} is not held" in decline.reason) == (0, 1)
        visit.assign_start(RUN, 8, run.plan, run.whole(8), None)
        assert (await f.update())[1] == run.update(8)


async def test_nothing_is_held_from_one_stream_to_the_next() -> None:
    run = Rounded()
    async with fleet() as f:
        visit = await f.visit()
        visit.brief(RUN, run.spec)
        visit.assign_start(RUN, 0, run.plan, run.whole(0), None)
        await f.update()
        visit.end()
        visit = await f.visit()
        visit.brief(RUN, run.spec)
        visit.assign_start(RUN, 1, run.plan, run.changes(0, 1), 0)
        decline = (await soon(visit.heard.get())).decline
        assert (decline.permanent, "send all of the start" in decline.reason) == (False, True)


@pytest.mark.parametrize("spoil", [lambda data: data[:-1], lambda data: b"\x7f" + data[1:]])
async def test_a_start_that_cannot_be_read_is_declined_for_good(spoil: Any) -> None:
    run = Rounded()
    async with fleet() as f:
        visit = await f.visit()
        visit.brief(RUN, run.spec)
        visit.assign_start(RUN, 0, run.plan, spoil(run.whole(0)), None)
        decline = (await soon(visit.heard.get())).decline
        assert decline.permanent
        assert "start" in decline.reason


async def test_a_large_start_is_fetched_in_the_precision_of_the_plan() -> None:
    options = {"down_precision": "int8", "inner_rate": 0.0001, "local_rate": 0.0001}
    spec = make_run(SINE, "tiny_meta_fed", 100, 5, wide_model(), options)
    plan, exchange = spec.make_strategy().plan(0), exchange_of(spec)
    start = exchange.start(spec.initial_parameters())
    async with fleet() as f:
        f.aggregator.start = exchange.starts.write_whole(start)
        visit = await f.visit()
        visit.brief(RUN, spec)
        visit.assign(RUN, 0, plan, None)
        header, data = await f.update()
    assert [one.shared_only for one in f.aggregator.fetched] == [True]
    begin = exchange.started(start, spec.initial_parameters())
    trained = begin.copy()
    samples = training_samples(SINE, spec.seed, 0, 0, plan.samples)
    run_plan(make_learner(spec.model), trained, samples, plan)
    assert data == exchange.encode(trained - begin, spec.seed, 0, 0)
    assert not header.HasField("start_bytes")


async def test_model_of_the_wrong_size_is_declined_for_good() -> None:
    spec = make_run(SINE, "tiny_reptile", 100, 5, model=wide_model())
    async with fleet() as f:
        f.aggregator.model = START
        visit = await f.visit()
        visit.brief(RUN, spec)
        visit.assign(RUN, 0, PLAN, None)
        decline = (await soon(visit.heard.get())).decline
        assert decline.permanent
        assert "bytes" in decline.reason
