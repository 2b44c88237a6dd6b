"""What a fleet is measured against is trained on every class, and devices get its body."""

import tomllib
from dataclasses import replace

import numpy as np
import pytest

from tinyfleet.comparison.baselines import given_to_devices, pretraining_run
from tinyfleet.comparison.experiment import experiment_from_document
from tinyfleet.comparison.jobs import make_jobs, run_job
from tinyfleet.comparison.store import Store
from tinyfleet.comparison.table import make_table, table_document
from tinyfleet.comparison.words import markdown
from tinyfleet.energy import builtin_models
from tinyfleet.errors import InvalidInput
from tinyfleet.evaluation import evaluate
from tinyfleet.learner import make_learner
from tinyfleet.model.layers import Dense, DepthwiseConv2D, Flatten, GlobalAveragePool2D, ReLU
from tinyfleet.model.spec import ModelSpec
from tinyfleet.randomness import Purpose, RandomStream
from tinyfleet.run import make_run
from tinyfleet.strategies.plan import Phase
from tinyfleet.tasks import make_task

EXPERIMENT = """
task = "table"
task_options = { ways = 2 }
model = "mlp_32"
rounds = 30
test_every = 10
seeds = [1]
[test]
tasks = 20
[[strategies]]
strategy = "transfer"
options = { samples = 20, inner_rate = 0.05 }
[[strategies]]
strategy = "tiny_ol"
options = { samples = 20, inner_rate = 0.05 }
[[strategies]]
strategy = "local"
"""


class Watcher:
    def __init__(self, stop_at=None):
        self.stop_at = stop_at

    def round(self, version):
        if version == self.stop_at:
            raise KeyboardInterrupt

    def tested(self, point):
        pass

    def warn(self, text):
        pass


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    """Ten clusters on a circle, eight of them to train on."""
    random = np.random.default_rng(1)
    labels = np.repeat(np.arange(10), 20)
    angle = labels * 2 * np.pi / 10
    inputs = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    inputs += 0.1 * random.standard_normal(inputs.shape)
    path = tmp_path_factory.mktemp("table") / "clusters.npz"
    np.savez(path, inputs=inputs, labels=labels)
    return make_task("table", {"ways": 2}, path)


@pytest.fixture(scope="module")
def jobs(task):
    return make_jobs(experiment_from_document(tomllib.loads(EXPERIMENT), "x"), task, "mlp_32")


def do(job, task, folder, watcher=None):
    return run_job(job, task, make_learner, Store(folder), watcher or Watcher())


def test_the_baseline_trains_one_head_over_all_training_classes(task, jobs):
    transfer, tiny_ol, local = jobs
    assert transfer.trained.model.outputs == tiny_ol.trained.model.outputs == 8
    assert transfer.run.model.outputs == 2
    assert local.trained == local.run
    first = task.training_classes.draw(RandomStream(1, Purpose.TRAINING_TASK, 0, 0), 500)
    assert first.targets.shape == (500, 8)
    assert (first.targets.sum(axis=0) > 30).all()


def test_a_device_gets_the_trained_body_and_the_initial_head(task, jobs, tmp_path):
    job, rounds = jobs[0], 3
    learner, wide = make_learner(job.trained.model), job.trained.initial_parameters()
    for index in range(rounds):
        stream = RandomStream(1, Purpose.TRAINING_TASK, index, 0)
        before = wide.copy()
        learner.train(wide, task.training_classes.draw(stream, 20), Phase(20, 0.05))
        wide = before + (wide - before)  # a round's change is added to what it began with
    given = job.run.initial_parameters()
    head = next(placed for placed in job.run.model.placed if placed.name == "dense_3")
    given[: head.start] = wide[: head.start]
    short = replace(job, rounds=rounds, trained=replace(job.trained, rounds=rounds), test_every=0)
    result = do(short, task, tmp_path)
    score = evaluate(make_learner(job.run.model), given, task, job.settings).after
    assert result.points[-1].after.value == score.accuracy
    assert (result.points[-1].samples, result.points[-1].bytes_up) == (60, 0)


def test_tiny_ol_is_the_same_body_with_only_the_last_layer_learning(task, jobs, tmp_path):
    transfer, tiny_ol, _ = jobs
    assert (transfer.settings.last_layers, tiny_ol.settings.last_layers) == (0, 1)
    one, two = (do(job, task, tmp_path / job.baseline) for job in (transfer, tiny_ol))
    assert one.parameters_sha256 == two.parameters_sha256
    assert one.before == two.before
    assert one.points[-1].after != two.points[-1].after


def test_what_is_trained_before_helps_with_classes_never_trained_on(task, jobs, tmp_path):
    transfer, _, local = (do(job, task, tmp_path / job.baseline) for job in jobs)
    assert transfer.points[-1].after.loss < local.points[-1].after.loss


@pytest.mark.parametrize(
    "stop_at", [11, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 30))]
)
def test_a_stopped_baseline_goes_on_to_the_same_result(task, jobs, tmp_path, stop_at):
    whole = do(jobs[0], task, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        do(jobs[0], task, tmp_path / "stopped", Watcher(stop_at))
    assert do(jobs[0], task, tmp_path / "stopped") == whole


def test_small_classes_are_tested_on_what_the_shots_leave(task, tmp_path):
    text = EXPERIMENT.replace("[test]", "shots = [1, 15, 19]\n[test]\nqueries = 10")
    experiment = experiment_from_document(tomllib.loads(text), "x")
    job = make_jobs(experiment, task, "mlp_32")[-1]
    assert [(one.shots, one.queries) for one in job.shots] == [(1, 10), (15, 5), (19, 1)]
    result = do(job, task, tmp_path)
    assert [count for count, _ in result.shots] == [1, 15, 19]
    table = make_table(experiment, [(job, result)], builtin_models())
    page = markdown(table, "x")
    assert "Tested on 10 samples a class, but where there are fewer: 5 at 15-shot, 1 at" in page
    assert table_document(table)["queries_by_shots"] == {"1": 10, "15": 5, "19": 1}
    with pytest.raises(InvalidInput, match="classes of 20 samples to test on, so ask for 1 to 19"):
        make_jobs(replace(experiment, shots=(20,)), task, "mlp_32")


def test_outputs_that_mean_the_same_everywhere_need_no_other_head():
    sine = make_task("sine", {})
    run = make_run(sine, "tiny_reptile", 5, 1)
    assert pretraining_run(run, sine) is run
    parameters = run.initial_parameters()
    assert given_to_devices(run, run.model, parameters) is parameters


@pytest.mark.parametrize(
    "layers",
    [
        (DepthwiseConv2D(1), GlobalAveragePool2D()),
        (Flatten(), Dense(2), ReLU(), DepthwiseConv2D(1), Flatten()),
    ],
)
def test_a_model_without_a_head_to_widen_is_refused(task, layers):
    spec = ModelSpec("odd", (1, 1, 2), layers, "softmax_cross_entropy")
    run = make_run(task, "tiny_reptile", 5, 1, spec)
    with pytest.raises(InvalidInput, match="'odd' cannot have a head for 8 training classes"):
        pretraining_run(run, task)
