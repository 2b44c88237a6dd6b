"""Behind an extractor: its file is fetched once, what will not do is declined in one line."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from agent_fleet import PLAN, RUN, SINE, SPEC, START, Fleet, fleet, soon

sys.path.append(str(Path(__file__).parents[2]))
from tflite_files import custom_file, dense_file

from tinyfleet.learner import make_learner, run_plan
from tinyfleet.litert import runtime
from tinyfleet.litert.extractor import FeatureTask
from tinyfleet.litert.file import TfliteFile
from tinyfleet.litert.graph import Graph
from tinyfleet.model.extractor import Extractor
from tinyfleet.run import make_run, training_samples
from tinyfleet.run_files import file_of
from tinyfleet.v1 import coordinator_pb2 as co

CONTENT = dense_file(inputs=1, outputs=8)


def behind(content=CONTENT, features=8, input_shape=(1, 1, 1)):
    file = file_of(content)
    extractor = Extractor(file.sha256, file.size, (1, 1, 1), features)
    run = make_run(SINE, "tiny_reptile", 100, 5, model="mlp_32", extractor=extractor)
    return replace(run, extractor=replace(extractor, input_shape=input_shape))


def expected(spec, round):
    start = spec.initial_parameters()
    trained = start.copy()
    task = FeatureTask(SINE, Graph(TfliteFile(CONTENT)))
    samples = training_samples(task, spec.seed, round, 0, PLAN.samples)
    run_plan(make_learner(spec.model), trained, samples, PLAN)
    return trained - start


async def decline_of(f: Fleet, spec) -> co.Decline:
    """What the agent says of a run; then it trains another one, for it stays in the fleet."""
    visit = await f.visit()
    visit.brief("other", spec)
    visit.assign("other", 0, PLAN, spec.initial_parameters())
    decline = (await soon(visit.heard.get())).decline
    visit.brief(RUN, SPEC)
    visit.assign(RUN, 0, PLAN, START)
    assert (await f.update())[0].run_id == RUN
    assert f.coordinator.visits.empty()
    assert "\n" not in decline.reason
    return decline


async def test_the_head_is_trained_on_features_and_the_file_fetched_once(tmp_path):
    spec = behind()
    async with fleet(models=tmp_path) as f:
        f.aggregator.files[file_of(CONTENT).sha256] = CONTENT
        f.aggregator.chunk_bytes = 100
        visit = await f.visit()
        for run_id in ("one", "two"):
            visit.brief(run_id, spec)
            visit.assign(run_id, 3, PLAN, spec.initial_parameters())
            _, data = await f.update()
            assert np.array_equal(np.frombuffer(data, "<f4"), expected(spec, 3))
        assert len(f.aggregator.files_fetched) == 1
    async with fleet(models=tmp_path) as f:  # as after a restart
        visit = await f.visit()
        visit.brief("one", spec)
        visit.assign("one", 4, PLAN, spec.initial_parameters())
        _, data = await f.update()
        assert np.array_equal(np.frombuffer(data, "<f4"), expected(spec, 4))
        assert not f.aggregator.files_fetched


async def test_a_file_that_is_damaged_on_disk_is_fetched_again(tmp_path):
    sha256 = file_of(CONTENT).sha256
    (tmp_path / sha256).write_bytes(CONTENT[:-1])
    spec = behind()
    async with fleet(models=tmp_path) as f:
        f.aggregator.files[sha256] = CONTENT
        visit = await f.visit()
        visit.brief(RUN, spec)
        visit.assign(RUN, 3, PLAN, spec.initial_parameters())
        _, data = await f.update()
        assert np.array_equal(np.frombuffer(data, "<f4"), expected(spec, 3))
    assert (tmp_path / sha256).read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("content", "changes", "words"),
    [
        (b"no network", {}, "not a .tflite file"),
        (CONTENT[:100], {}, "LiteRT"),
        (CONTENT[:-64], {}, "LiteRT"),
        (custom_file(), {}, "LiteRT does not take this .tflite file"),
        (dense_file(inputs=1, takes=2), {}, "one input"),
        (dense_file(inputs=2), {}, "takes samples of 2"),
        (CONTENT, {"features": 9}, "gives 9 features"),
        (CONTENT, {"input_shape": (1, 1, 2)}, "task 'sine' gives input 1x1x1"),
    ],
)
async def test_a_file_that_will_not_do_is_declined_and_the_agent_stays(
    tmp_path, content, changes, words
):
    spec = behind(content, **changes)
    async with fleet(models=tmp_path) as f:
        f.aggregator.files[spec.extractor.sha256] = content
        decline = await decline_of(f, spec)
        assert words in decline.reason
        assert decline.permanent


@pytest.mark.parametrize("sent", [CONTENT[::-1], CONTENT[:-1], CONTENT + b"x"])
async def test_another_file_than_was_asked_for_is_never_opened(tmp_path, sent):
    async with fleet(models=tmp_path) as f:
        f.aggregator.files[file_of(CONTENT).sha256] = sent
        assert (await decline_of(f, behind())).permanent
    assert list(tmp_path.iterdir()) == []


async def test_a_file_that_the_aggregator_lacks_is_declined_for_this_time(tmp_path):
    async with fleet(models=tmp_path) as f:
        decline = await decline_of(f, behind())
        assert "a file of the run cannot be fetched" in decline.reason
        assert not decline.permanent


async def test_without_a_runtime_the_agent_says_how_to_get_one(tmp_path, monkeypatch):
    monkeypatch.setattr(runtime, "_MODULES", ())
    async with fleet(models=tmp_path) as f:
        f.aggregator.files[file_of(CONTENT).sha256] = CONTENT
        decline = await decline_of(f, behind())
        assert "pip install 'tinyfleet[litert]'" in decline.reason
        assert decline.permanent


async def test_data_of_the_agent_s_own_pass_through_the_extractor(tmp_path):
    inputs = np.linspace(-1, 1, 32, dtype=np.float32)[:, np.newaxis]
    np.savez(tmp_path / "own.npz", inputs=inputs, targets=inputs**2)
    spec = behind()
    async with fleet(models=tmp_path, own_data=tmp_path / "own.npz") as f:
        f.aggregator.files[spec.extractor.sha256] = CONTENT
        visit = await f.visit()
        visit.brief(RUN, spec)
        visit.assign(RUN, 3, PLAN, spec.initial_parameters())
        _, data = await f.update()
    assert np.isfinite(np.frombuffer(data, "<f4")).all()
    assert not np.array_equal(np.frombuffer(data, "<f4"), expected(spec, 3))
