"""Work that cannot be done or is withdrawn: declined in one line, and the agent stays."""

import asyncio
from dataclasses import replace

import numpy as np
import pytest
from agent_fleet import (
    LONG_PLAN,
    OUR_LOGS,
    PLAN,
    QUIET_S,
    RUN,
    SPEC,
    START,
    expected_delta,
    fleet,
    soon,
)

from tinyfleet.model.spec import Parameters
from tinyfleet.run import RunSpec
from tinyfleet.strategies.plan import Phase, TrainingPlan
from tinyfleet.v1 import coordinator_pb2 as co


async def test_withdrawn_work_is_dropped_wherever_it_is() -> None:
    async with fleet() as f:
        visit = await f.visit()
        visit.brief(RUN, SPEC)
        in_training = visit.assign(RUN, 0, LONG_PLAN, START)
        waiting = visit.assign(RUN, 1, PLAN, START)
        visit.withdraw(in_training)
        visit.withdraw(waiting)
        wanted = visit.assign(RUN, 2, PLAN, START)
        header, _ = await f.update()
        assert header.assignment_id == wanted


async def test_withdrawal_ends_the_wait_for_a_model() -> None:
    async with fleet() as f:
        visit = await f.visit()
        visit.brief(RUN, SPEC)
        f.aggregator.unavailable = True
        withdrawn = visit.assign(RUN, 0, PLAN, None)
        await asyncio.sleep(QUIET_S)
        visit.withdraw(withdrawn)
        wanted = visit.assign(RUN, 1, PLAN, START)
        assert (await f.update())[0].assignment_id == wanted
        assert visit.heard.empty()  # nothing to decline


async def test_withdrawal_of_work_whose_model_was_fetched_is_harmless() -> None:
    async with fleet() as f:
        f.aggregator.model = START
        visit = await f.visit()
        visit.brief(RUN, SPEC)
        withdrawn = visit.assign(RUN, 0, LONG_PLAN, None)
        while not f.aggregator.fetches:  # noqa: ASYNC110 - a peer, not an event
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.02)
        visit.withdraw(withdrawn)
        wanted = visit.assign(RUN, 1, PLAN, START)
        assert (await f.update())[0].assignment_id == wanted
        assert f.coordinator.visits.empty()  # it never had to come again


async def test_model_that_is_gone_is_declined_for_this_time() -> None:
    async with fleet() as f:
        visit = await f.visit()
        visit.brief(RUN, SPEC)
        f.aggregator.gone = True
        visit.assign(RUN, 0, PLAN, None)
        decline = (await soon(visit.heard.get())).decline
        assert not decline.permanent
        assert "cannot be fetched" in decline.reason


async def test_interrupted_fetch_is_tried_again() -> None:
    async with fleet() as f:
        f.aggregator.model, f.aggregator.unavailable = START, True
        visit = await f.visit()
        visit.brief(RUN, SPEC)
        visit.assign(RUN, 0, PLAN, None)
        await asyncio.sleep(QUIET_S)
        f.aggregator.unavailable = False
        _, data = await f.update()
        assert data == expected_delta(0).astype("<f4").tobytes()
        assert f.aggregator.fetches > 1


BAD_WORK: dict[str, tuple[RunSpec, TrainingPlan, Parameters, str]] = {
    "unknown task": (replace(SPEC, task="sines"), PLAN, START, "unknown task"),
    "missing data": (replace(SPEC, task="omniglot"), PLAN, START, "--data"),
    "unknown layer": (
        SPEC,
        TrainingPlan((Phase(samples=4, rate=0.1, trainable=("dense_9",)),)),
        START,
        "unknown layer 'dense_9'",
    ),
    "parameters of another model": (SPEC, PLAN, START[:-1], "parameters"),
    "NaN": (SPEC, PLAN, np.full_like(START, np.nan), "not finite"),
}


@pytest.mark.parametrize("case", BAD_WORK)
async def test_impossible_work_is_declined_in_one_line_and_the_agent_stays(
    case: str, caplog: pytest.LogCaptureFixture
) -> None:
    spec, plan, start, reason = BAD_WORK[case]
    async with fleet() as f:
        visit = await f.visit()
        visit.brief("bad", spec)
        bad = visit.assign("bad", 0, plan, start)
        decline = (await soon(visit.heard.get())).decline
        assert (decline.assignment_id, decline.permanent) == (bad, True)
        assert reason in decline.reason
        assert "\n" not in decline.reason
        assert [r for r in caplog.records if r.exc_info and r.name in OUR_LOGS] == []
        visit.brief(RUN, SPEC)
        good = visit.assign(RUN, 0, PLAN, START)
        assert (await f.update())[0].assignment_id == good


async def test_brief_that_does_not_parse_is_declined_and_the_agent_stays() -> None:
    async with fleet() as f:
        visit = await f.visit()
        brief = co.RunBrief(run_id="bad")  # no model at all
        visit.to_say.put_nowait(co.AttendResponse(run_brief=brief))
        visit.assign("bad", 0, PLAN, START)
        decline = (await soon(visit.heard.get())).decline
        assert decline.permanent
        visit.brief(RUN, SPEC)
        visit.assign(RUN, 0, PLAN, START)
        await f.update()


async def test_assignment_without_brief_is_declined_for_this_time() -> None:
    async with fleet() as f:
        visit = await f.visit()
        visit.assign("unheard", 0, PLAN, START)
        decline = (await soon(visit.heard.get())).decline
        assert not decline.permanent
        assert "no brief" in decline.reason
