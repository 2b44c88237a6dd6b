"""A run whose model is a file: it is fetched once and trains; what will not do is declined."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from agent_fleet import PLAN, RUN, SINE, SPEC, START, Fleet, fleet, soon

sys.path.append(str(Path(__file__).parents[2]))
from trainable_files import CLASSIFIER, edited, forget, leave_out, rename
from trainable_files import SINE as SINE_FILE

from tinyfleet.learner.protocol import learn_by_plan
from tinyfleet.litert import probe, runtime
from tinyfleet.litert.learner import LiteRtLearner, describe_trainable
from tinyfleet.model.trainable import SignatureNames
from tinyfleet.run import RunSpec, make_run, training_samples
from tinyfleet.run_files import file_of
from tinyfleet.v1 import coordinator_pb2 as co

DESCRIBED = describe_trainable(SINE_FILE, SignatureNames())
MODEL = DESCRIBED.layout.model("sine", (1, 1, 1), "mean_squared_error")


def a_run(**options) -> RunSpec:
    return make_run(SINE, "tiny_reptile", 100, 5, MODEL, options, trainable=DESCRIBED.graph)


def a_run_of(content: bytes, **changes) -> RunSpec:
    """A run that says of `content` what is true of the good file."""
    file = file_of(content)
    graph = replace(DESCRIBED.graph, sha256=file.sha256, size=file.size, **changes)
    return replace(a_run(), trainable=graph)


def expected(spec: RunSpec, round: int) -> np.ndarray:
    learner = LiteRtLearner(spec.model, spec.trainable, SINE_FILE)
    samples = training_samples(SINE, spec.seed, round, 0, PLAN.samples)
    delta, _ = learn_by_plan(learner, DESCRIBED.initial, samples, PLAN)
    return delta


async def decline_of(f: Fleet, spec: RunSpec) -> co.Decline:
    """What the agent says of a run; then it trains another one, for it stays in the fleet."""
    visit = await f.visit()
    visit.brief("other", spec)
    visit.assign("other", 0, PLAN, DESCRIBED.initial)
    decline = (await soon(visit.heard.get())).decline
    visit.brief(RUN, SPEC)
    visit.assign(RUN, 0, PLAN, START)
    assert (await f.update())[0].run_id == RUN
    assert f.coordinator.visits.empty()
    assert decline.reason.isprintable()
    return decline


async def test_the_file_is_fetched_once_and_trains(tmp_path):
    spec = a_run()
    async with fleet(models=tmp_path) as f:
        f.aggregator.files[SINE_FILE.sha256] = SINE_FILE.content
        visit = await f.visit()
        for run_id, number in (("one", 3), ("two", 4)):
            visit.brief(run_id, spec)
            visit.assign(run_id, number, PLAN, DESCRIBED.initial)
            _, data = await f.update()
            assert np.array_equal(np.frombuffer(data, "<f4"), expected(spec, number))
        assert len(f.aggregator.files_fetched) == 1


def trains_no_weights(model) -> None:
    for name in ("get_weights", "set_weights"):
        forget(model, name, "dense_0_bias")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"no network", "not a .tflite file"),
        (SINE_FILE.content[:300], "LiteRT"),
        (SINE_FILE.content[:-3000], ""),
        (edited(lambda m: leave_out(m, "train")).content, "has no signature 'train'"),
        (
            edited(lambda m: rename(m, "infer", "say")).content,
            "no signature 'infer', it has: get_w",
        ),
        (edited(trains_no_weights).content, "not those of 'sine'"),
        (CLASSIFIER.content, "x is 4x2x3x1"),
    ],
)
async def test_a_file_that_will_not_do_is_declined_and_the_agent_stays(tmp_path, content, words):
    spec = a_run_of(content)
    async with fleet(models=tmp_path) as f:
        f.aggregator.files[spec.trainable.sha256] = content
        decline = await decline_of(f, spec)
        assert words in decline.reason
        assert decline.permanent


async def test_a_file_that_ends_the_process_which_tries_it_does_not_end_the_agent(
    tmp_path, monkeypatch
):
    crash = (sys.executable, "-c", "import os; os.abort()")
    monkeypatch.setattr(probe, "_CHILD", crash)
    monkeypatch.setattr(probe, "_good", {})
    async with fleet(models=tmp_path) as f:
        f.aggregator.files[SINE_FILE.sha256] = SINE_FILE.content
        decline = await decline_of(f, a_run())
        assert "makes LiteRT crash" in decline.reason


async def test_weights_that_are_not_those_of_the_run_are_declined(tmp_path):
    spec = a_run_of(SINE_FILE.content, initial_sha256="0" * 64)
    async with fleet(models=tmp_path) as f:
        f.aggregator.files[SINE_FILE.sha256] = SINE_FILE.content
        assert "not the weights that the run's" in (await decline_of(f, spec)).reason


async def test_without_a_runtime_the_agent_says_how_to_get_one(tmp_path, monkeypatch):
    monkeypatch.setattr(runtime, "_MODULES", ())
    async with fleet(models=tmp_path) as f:
        f.aggregator.files[SINE_FILE.sha256] = SINE_FILE.content
        decline = await decline_of(f, a_run())
        assert "pip install 'tinyfleet[litert]'" in decline.reason


async def test_training_that_leaves_the_numbers_sends_that_and_no_numbers(tmp_path):
    def endless(model) -> None:
        for one in model.buffers:
            if one.data is not None and bytes(bytearray(one.data)) == np.float32(2).tobytes():
                one.data = np.frombuffer(np.float32(np.nan).tobytes(), np.uint8)

    file = edited(endless)
    spec = a_run_of(file.content)
    async with fleet(models=tmp_path) as f:
        f.aggregator.files[file.sha256] = file.content
        visit = await f.visit()
        visit.brief(RUN, spec)
        visit.assign(RUN, 3, PLAN, DESCRIBED.initial)
        header, data = await f.update()
        assert (header.diverged, data) == (True, b"")
        assert f.coordinator.visits.empty()
