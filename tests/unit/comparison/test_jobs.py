"""A job is a simulation with tests on the way: resumed or not, its result is the same."""

import json
import tomllib
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from tinyfleet.comparison.experiment import experiment_from_document
from tinyfleet.comparison.jobs import (
    Measured,
    bar_of,
    make_jobs,
    result_to_document,
    run_job,
)
from tinyfleet.comparison.store import Store
from tinyfleet.errors import InvalidInput
from tinyfleet.evaluation import evaluate
from tinyfleet.learner import make_learner
from tinyfleet.run import make_run, training_samples
from tinyfleet.simulation import simulate
from tinyfleet.strategies.plan import Phase
from tinyfleet.tasks import make_task

TASK = make_task("sine", {})
EXPERIMENT = """
task = "sine"
model = "mlp_32"
rounds = 12
test_every = 5
seeds = [1, 2]
shots = [1, 5]
[test]
tasks = 8
[[strategies]]
strategy = "tiny_reptile"
options = { samples = 16 }
[[strategies]]
strategy = "reptile"
rounds = 6
options = { samples = 10, agents_per_round = 2 }
[[strategies]]
strategy = "tiny_meta_fed"
options = { samples = 10, local_samples = 4, fraction = 0.2, precision = "int8" }
[[strategies]]
strategy = "tiny_meta_fed"
label = "three devices"
devices = 3
[strategies.options]
samples = 10
local_samples = 4
fraction = 0.05
agents_per_round = 2
down_precision = "int8"
local_layers = 1
[[strategies]]
strategy = "fed_yogi"
options = { samples = 10, agents_per_round = 2 }
[[strategies]]
strategy = "transfer"
options = { samples = 4, inner_rate = 0.01 }
[[strategies]]
strategy = "local"
adapt = { rate = 0.001, passes = 3 }
"""


class Watcher:
    """Remembers what it is told; stops the job where it is asked to."""

    def __init__(self, stop_at=None):
        self.rounds, self.points, self.warnings = [], [], []
        self.stop_at = stop_at

    def round(self, version):
        self.rounds.append(version)
        if version == self.stop_at:
            raise KeyboardInterrupt

    def tested(self, point):
        self.points.append(point)

    def warn(self, text):
        self.warnings.append(text)


def jobs(text=EXPERIMENT):
    experiment = experiment_from_document(tomllib.loads(text), "x")
    return make_jobs(experiment, TASK, experiment.model)


def do(job, folder, watcher=None):
    return run_job(job, TASK, make_learner, Store(folder), watcher or Watcher())


def test_a_job_ends_where_the_simulator_does(tmp_path):
    for job in [job for job in jobs() if job.baseline is None]:
        learner = make_learner(job.run.model)
        done = simulate(job.run, TASK, learner, devices=job.devices)
        score = evaluate(learner, done.parameters, TASK, job.settings).after
        last = do(job, tmp_path).points[-1]
        assert (last.after.value, last.after.low, last.after.high) == (score.loss, *score.loss_ci95)
        assert (last.samples, last.bytes_up, last.bytes_down) == (
            done.samples,
            done.bytes_up,
            done.bytes_down,
        )


def test_a_job_is_tested_before_on_the_way_and_after(tmp_path):
    watcher = Watcher()
    result = do(jobs()[0], tmp_path, watcher)
    assert [point.version for point in result.points] == [0, 5, 10, 12]
    assert list(result.points) == watcher.points
    assert watcher.rounds == list(range(1, 13))
    assert [count for count, _ in result.shots] == [1, 5]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """What the job of that number ends with when nothing stops it."""
    return cache(lambda number: do(jobs()[number], tmp_path_factory.mktemp("whole")))


@pytest.mark.parametrize("number", range(12))
@pytest.mark.parametrize(
    "stop_at", [5, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 6, 11))]
)
def test_a_stopped_job_goes_on_to_the_same_result(tmp_path, uninterrupted, number, stop_at):
    job, whole = jobs()[number], uninterrupted(number)
    if stop_at <= job.rounds:
        with pytest.raises(KeyboardInterrupt):
            do(job, tmp_path / "stopped", Watcher(stop_at))
    again = Watcher()
    assert do(job, tmp_path / "stopped", again) == whole
    if job.rounds:
        assert again.rounds[0] == min(stop_at, job.rounds + 1) or stop_at > job.rounds


def test_devices_that_take_turns_are_sent_less_and_end_alike(tmp_path):
    job = next(job for job in jobs() if job.devices)
    alike = replace(job, devices=None)
    turns, new = do(job, tmp_path / "turns"), do(alike, tmp_path / "new")
    assert turns.parameters_sha256 == new.parameters_sha256
    assert turns.points[-1].bytes_down < new.points[-1].bytes_down == 12 * 2 * (1120 + 2)


@pytest.mark.parametrize("spoil", [lambda path: path.unlink(), lambda path: path.write_bytes(b"")])
def test_what_devices_held_is_needed_to_go_on(tmp_path, spoil):
    job = next(job for job in jobs() if job.devices)
    with pytest.raises(KeyboardInterrupt):
        do(job, tmp_path, Watcher(7))
    (path,) = (tmp_path / "jobs").glob("*.starts")
    assert path.stat().st_size % (1120 + 2) == 0
    spoil(path)
    with pytest.raises(InvalidInput, match=r"progress\.json is damaged: remove it, and its job"):
        do(job, tmp_path)


def test_a_finished_job_leaves_nothing_of_its_way(tmp_path):
    job = next(job for job in jobs() if job.devices)
    store, result = Store(tmp_path), do(job, tmp_path)
    assert list((tmp_path / "jobs").glob(f"{job.name}.at-*"))
    store.finish(job, result)
    assert [path.name for path in (tmp_path / "jobs").iterdir()] == [f"{job.name}.json"]


OVERLAPPING = """
task = "sine"
model = "mlp_32"
rounds = 6
test_every = 5
seeds = [1]
[test]
tasks = 8
[[strategies]]
strategy = "fed_buff"
options = { samples = 10, buffer = 2, concurrency = 3 }
"""


def test_a_stopped_job_whose_rounds_overlap_begins_anew_and_ends_the_same(tmp_path):
    (job,) = jobs(OVERLAPPING)
    whole = do(job, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        do(job, tmp_path / "stopped", Watcher(stop_at=5))
    again = Watcher()
    assert do(job, tmp_path / "stopped", again) == whole
    assert again.rounds == list(range(1, 7))
    assert [point.version for point in whole.points] == [0, 5, 6]


def test_a_stopped_job_with_error_feedback_starts_anew_to_the_same_result(tmp_path):
    job = jobs()[0]
    options = {"samples": 4, "fraction": 0.1, "error_feedback": True}
    run = make_run(TASK, "tiny_meta_fed", job.rounds, 1, "mlp_32", options)
    job = replace(job, run=run)
    whole = do(job, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        do(job, tmp_path / "stopped", Watcher(6))
    again = Watcher()
    assert do(job, tmp_path / "stopped", again) == whole
    assert again.rounds[0] == 1


def test_the_baseline_local_is_the_untrained_model_adapted_in_its_own_way(tmp_path):
    job = jobs()[-1]
    assert (job.rounds, job.settings.rate, job.settings.passes) == (0, 0.001, 3)
    learner = make_learner(job.run.model)
    score = evaluate(learner, job.run.initial_parameters(), TASK, job.settings).after
    result = do(job, tmp_path)
    assert [point.after.value for point in result.points] == [score.loss]


def test_any_strategy_may_adapt_in_its_own_way(tmp_path):
    text = EXPERIMENT.replace("samples = 16 }", "samples = 16 }\nadapt = { last_layers = 1 }")
    job = jobs(text)[0]
    assert job.settings == replace(jobs()[0].settings, last_layers=1)
    assert do(job, tmp_path / "own").points != do(jobs()[0], tmp_path / "usual").points
    with pytest.raises(InvalidInput, match="last_layers must be 0 to 3"):
        jobs(text.replace("last_layers = 1", "last_layers = 4"))


def test_the_baseline_transfer_is_one_online_stream_over_mixed_problems(tmp_path):
    job = next(job for job in jobs() if job.baseline == "transfer")
    job = replace(job, rounds=2, trained=replace(job.trained, rounds=2))
    learner, parameters = make_learner(job.run.model), job.run.initial_parameters()
    for index in range(2):
        for slot in range(4):
            learner.train(parameters, training_samples(TASK, 1, index, slot, 1), Phase(1, 0.01))
    score = evaluate(learner, parameters, TASK, job.settings).after
    found = do(job, tmp_path).points[-1]
    # A round's change is added to what it began with, which rounds once more.
    assert found.after.value == pytest.approx(score.loss, rel=1e-4)
    assert (found.bytes_up, found.bytes_down, found.samples) == (0, 0, 8)


def test_a_diverging_job_ends_with_what_and_where_and_says_so_before(tmp_path):
    text = EXPERIMENT.replace("rounds = 12", "rounds = 500").replace(
        "samples = 16", "inner_rate = 5"
    )
    watcher = Watcher()
    result = do(jobs(text)[0], tmp_path, watcher)
    assert "diverged in 20 rounds in a row" in result.failure
    assert 20 <= result.failed_at < 100
    assert any("updates diverged in" in text for text in watcher.warnings)
    assert result.warnings == tuple(watcher.warnings)


def test_an_untrained_model_that_diverges_is_no_bar():
    assert bar_of(Measured(4.0, 3.5, 4.5, 10, 4.0, 0)) == (3.5, 4.5)
    assert bar_of(Measured(2.6e31, -2.5e31, 7.7e31, 6, 2.6e31, 4)) is None


def test_a_job_at_chance_says_so_while_it_happens(tmp_path):
    text = EXPERIMENT.replace("samples = 16", "inner_rate = 1e-9")
    watcher = Watcher()
    result = do(jobs(text)[0], tmp_path, watcher)
    assert [text.partition(":")[0] for text in watcher.warnings] == [
        "no better than an untrained model in round 5",
        "no better than an untrained model at the end",
    ]
    assert result.warnings == tuple(watcher.warnings)


def test_a_stopped_job_says_nothing_twice(tmp_path):
    job = jobs(EXPERIMENT.replace("samples = 16", "inner_rate = 1e-9"))[0]
    with pytest.raises(KeyboardInterrupt):
        do(job, tmp_path / "stopped", Watcher(stop_at=7))
    again = Watcher()
    result = do(job, tmp_path / "stopped", again)
    assert result == do(job, tmp_path / "whole")
    assert [text for text in again.warnings if "round 5" in text] == []


def test_results_come_back_from_their_files(tmp_path):
    store, job = Store(tmp_path), jobs()[0]
    assert store.result(job) is None
    result = do(job, tmp_path)
    store.finish(job, result)
    assert store.result(job) == result
    assert [path.name for path in (tmp_path / "jobs").iterdir()] == [f"{job.name}.json"]


def test_results_without_a_finite_number_are_json(tmp_path):
    text = EXPERIMENT.replace("rate = 0.001, passes = 3", "rate = 10.0, passes = 3")
    store, job = Store(tmp_path), jobs(text)[-1]
    result = do(job, tmp_path)
    assert np.isnan(result.points[0].after.value)
    json.dumps(result_to_document(result), allow_nan=False)
    store.finish(job, result)
    assert np.isnan(store.result(job).points[0].after.value)


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ("rounds = 12", "rounds = 13", r"01-tiny-reptile-seed-1\.rounds was 12, is 13"),
        ("seeds = [1, 2]", "seeds = [1, 3]", "seed-2 is gone|seed-3 is new"),
        ("tasks = 8", "tasks = 9", r"test\.tasks was 8, is 9"),
        ("samples = 16", "samples = 17", r"strategy_options\.samples was 16, is 17"),
        ('"mlp_32"', '"mlp_64"', "model"),
        ("[1, 5]", "[1, 6]", "shots"),
        ("rate = 0.001", "rate = 0.002", r"test\.rate was 0\.001, is 0\.002"),
    ],
)
def test_a_changed_experiment_is_refused_with_the_remedy(tmp_path, old, new, what):
    store = Store(tmp_path)
    store.claim(jobs(), TASK)
    store.claim(jobs(), TASK)
    with pytest.raises(InvalidInput, match=what) as caught:
        store.claim(jobs(EXPERIMENT.replace(old, new)), TASK)
    assert "give another --out, or remove the folder" in str(caught.value)


def test_other_data_are_another_experiment(tmp_path):
    class Shifted(type(TASK)):
        def evaluation_problem(self, stream, shots, queries):
            stream.uniform(1)
            return super().evaluation_problem(stream, shots, queries)

    store = Store(tmp_path)
    store.claim(jobs(), TASK)
    with pytest.raises(InvalidInput, match="data_sha256"):
        store.claim(jobs(), Shifted())


@pytest.mark.parametrize("data", [b"", b"{}", b"[1]", b"\xff", b'{"points": 5}', b"[" * 100_000])
@pytest.mark.parametrize("suffix", [".json", ".progress.json"])
def test_a_damaged_file_is_named_with_the_remedy(tmp_path, data, suffix):
    store, job = Store(tmp_path), jobs()[0]
    path = tmp_path / "jobs" / f"{job.name}{suffix}"
    path.parent.mkdir()
    path.write_bytes(data)
    with pytest.raises(InvalidInput, match=f"{path.name} is damaged: remove it"):
        store.result(job) if suffix == ".json" else store.begin(job)


def test_bad_options_are_refused_before_anything_runs():
    for old, new, message in [
        ("samples = 16", "sample = 16", "did you mean 'samples'"),
        ('"mlp_32"', '"mlp_33"', "did you mean 'mlp_32'"),
        ("tasks = 8", "tasks = 0", "tasks must be 1"),
    ]:
        with pytest.raises(InvalidInput, match=message):
            jobs(EXPERIMENT.replace(old, new))
