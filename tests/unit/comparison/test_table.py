"""The table's figures follow from the results by the rules its page states."""

import csv
import io
import json
import math
import random
import tomllib
from dataclasses import replace

import pytest

from tinyfleet.comparison.experiment import experiment_from_document
from tinyfleet.comparison.jobs import JobResult, Measured, Point, make_jobs
from tinyfleet.comparison.pooled import deviation_about_line, pool
from tinyfleet.comparison.table import device_memory, make_table, table_csv, table_document
from tinyfleet.comparison.words import duration, markdown, quantity, short_cells
from tinyfleet.energy import builtin_models, estimate, plan_workload
from tinyfleet.evaluation.score import Result, score
from tinyfleet.learner.memory import memory_needed
from tinyfleet.run import make_run
from tinyfleet.tasks import make_task

EXPERIMENT = """
title = "A | B"
task = "sine"
model = "mlp_32"
rounds = 40
test_every = 10
seeds = [1, 2]
target = 0.5
[[strategies]]
strategy = "tiny_reptile"
label = "=one"
[[strategies]]
strategy = "reptile"
[[strategies]]
strategy = "local"
"""


def measured(value):
    return Measured(value, value - 0.1, value + 0.1, 100, value, 0)


def result(values, failure=None):
    points = tuple(
        Point(10 * i, measured(value), samples=500 * i, bytes_up=1000 * i, bytes_down=2000 * i)
        for i, value in enumerate(values)
    )
    before = None if failure else measured(4.0)
    return JobResult(points, before, (), "0" * 64, failure, 20 if failure else None)


@pytest.fixture
def table():
    experiment = experiment_from_document(tomllib.loads(EXPERIMENT), "x")
    jobs = make_jobs(experiment, make_task("sine", {}), "mlp_32")
    results = [
        result([3.0, 0.9, 0.4, 0.5, 0.3]),
        result([3.2, 0.9, 0.8, 0.4, 0.5]),
        replace(result([3.0, 2.0, 1.0, 0.8, 0.9]), warnings=("updates diverge",)),
        result([3.2, 2.0, math.nan], failure="training diverged: lower it"),
        result([3.0]),
        result([3.2]),
    ]
    return make_table(experiment, list(zip(jobs, results, strict=True)), builtin_models())


@pytest.mark.parametrize("counts", [(50, 50), (30, 70), (2, 2)])
def test_the_pooled_interval_is_that_of_all_problems_together(seed, counts):
    draw = random.Random(seed)
    groups = [[draw.gauss(i, 1 + i) for _ in range(n)] for i, n in enumerate(counts)]
    each = [Measured.of(score([Result(v, None) for v in g]), len(g)) for g in groups]
    together = score([Result(value, None) for group in groups for value in group])
    found = pool(each)
    assert found.value == pytest.approx(together.loss)
    assert (found.low, found.high) == pytest.approx(together.loss_ci95)
    means = [one.value for one in each]
    assert found.seed_sd == pytest.approx(abs(means[0] - means[1]) / math.sqrt(2))


def test_nothing_finite_pools_to_nothing():
    nothing = Measured(math.nan, math.nan, math.nan, 0, math.nan, 5)
    assert math.isnan(pool([nothing]).value)
    assert pool([nothing, measured(2.0)]).value == 2.0


def test_a_steady_rise_is_no_jumping_about():
    places, rise = [10, 20, 30, 40, 50], [0.1, 0.2, 0.3, 0.4, 0.5]
    jumps = [0.0, 0.03, -0.06, 0.03, 0.0]  # nothing of these lies along a line
    assert deviation_about_line(places, rise) == pytest.approx(0.0, abs=1e-12)
    jumping = [value + jump for value, jump in zip(rise, jumps, strict=True)]
    rest = math.sqrt(sum(jump**2 for jump in jumps) / 3)
    assert deviation_about_line(places, jumping) == pytest.approx(rest)
    assert deviation_about_line(places[:3], rise[:3]) is None


def test_figures_are_means_over_the_seeds_that_did_not_diverge(table):
    one, two, local = table.rows
    assert one.after.value == pytest.approx(0.4)
    assert (two.seeds, two.all_seeds, two.after.value) == (1, 2, pytest.approx(0.9))
    assert two.failures == ("seed 2: training diverged: lower it",)
    assert (one.bytes_up, one.bytes_down) == (4000.0, 8000.0)
    assert local.bytes_up is None
    assert local.reached is None
    assert one.late_sd is None  # two tests in the last quarter are too few


def test_the_target_is_reached_at_a_seed_s_first_test_beyond_it(table):
    one, two, _ = table.rows
    assert one.reached.seeds == 2
    assert one.reached.rounds == (20 + 30) / 2
    assert one.reached.bytes_up == (2000 + 3000) / 2
    assert two.reached.seeds == 0


def test_joules_are_those_of_the_energy_models(table):
    job_plan_samples = 128  # what the task recommends for tiny_reptile
    row = table.rows[0]
    experiment = experiment_from_document(tomllib.loads(EXPERIMENT), "x")
    job = make_jobs(experiment, make_task("sine", {}), "mlp_32")[0]
    plan = job.run.make_strategy().plan(0)
    assert plan.samples == job_plan_samples
    work = plan_workload(job.run.model, plan).times(2000 / job_plan_samples)
    for deployment, found in zip(builtin_models().deployments, row.estimates, strict=True):
        wanted = estimate(deployment, work, 4000, 8000)
        assert found.total_j == pytest.approx(wanted.total_j)
        assert found.device_s == pytest.approx(wanted.device_s)


def test_memory_is_what_the_device_needs_for_its_plan(table):
    experiment = experiment_from_document(tomllib.loads(EXPERIMENT), "x")
    jobs = make_jobs(experiment, make_task("sine", {}), "mlp_32")
    need = memory_needed(jobs[0].run.model)
    assert table.rows[0].memory_bytes == need.online_bytes
    stored = need.online_bytes + need.gradient_bytes + 50 * need.sample_bytes
    assert table.rows[1].memory_bytes == stored
    run = make_run(make_task("sine", {}), "fed_prox", 10, 1, "mlp_32")
    pulled = device_memory(replace(jobs[0], run=run))
    assert pulled == need.online_bytes + need.gradient_bytes + need.start_bytes


def test_the_same_figures_stand_in_json_csv_and_markdown(table):
    document = json.loads(json.dumps(table_document(table), allow_nan=False))
    rows = list(csv.DictReader(io.StringIO(table_csv(table))))
    page = markdown(table, "tinyfleet compare x.toml")
    assert [row["label"] for row in document["rows"]] == ["=one", "reptile", "local"]
    assert [row["strategy"] for row in rows] == ["'=one", "reptile", "local"]
    assert float(rows[0]["after"]) == pytest.approx(document["rows"][0]["after"]["value"])
    assert float(rows[0]["target_rounds"]) == 25.0
    assert rows[1]["diverged_seeds"] == "1"
    assert "| =one | 40 | 0.400 ± " in page or "| =one | 40 | 0.4 ± " in page
    assert "| reptile | 1 of 2 diverged |" in page
    assert "- reptile, seed 2: training diverged: lower it" in page
    assert "- reptile, seed 1: updates diverge" in page
    assert document["rows"][1]["warnings"] == ["seed 1: updates diverge"]
    assert "at most 0.5" in page
    assert len({line.count("|") for line in page.splitlines() if line.startswith("| =one")}) > 1


def test_the_table_on_the_terminal_is_narrow(table):
    head, rows = short_cells(table)
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    assert sum(widths) + 2 * (len(widths) - 1) <= 80


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0 B"), (999.6, "1.00 kB"), (1234, "1.23 kB"), (33_812, "33.8 kB"), (None, "-")],
)
def test_quantities_have_three_digits(value, text):
    assert quantity(value, "B") == text


def test_small_and_long():
    assert quantity(0.00236, "J") == "2.36 mJ"
    assert quantity(1.9e-7, "J") == "190 nJ"
    assert duration(30) == "30.0 s"
    assert duration(90) == "1.50 min"
    assert duration(7200) == "2.00 h"


@pytest.mark.needs_package("matplotlib", module="matplotlib")
def test_plots_are_drawn_also_with_diverged_seeds(table, tmp_path):
    from tinyfleet.reports.comparison import draw_comparison

    files = draw_comparison(tmp_path, table)
    assert [file.name for file in files] == ["progress.png", "to_target.png"]
    for file in files:
        assert file.read_bytes().startswith(b"\x89PNG")
