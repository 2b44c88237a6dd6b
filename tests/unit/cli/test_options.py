"""Flags become one and the same run, whichever command reads them."""

import click
import pytest

from tinyfleet.cli.options import RunOptions, evaluation_options, find_model, run_options
from tinyfleet.errors import InvalidInput
from tinyfleet.evaluation import EvaluationSettings
from tinyfleet.tasks import make_task

SINE = make_task("sine", {})


def parsed(*words):
    """The RunOptions of a command line."""
    seen = []

    @click.command()
    @run_options
    def command(run):
        seen.append(run)

    command.main(list(words), standalone_mode=False)
    return seen[0]


def test_nothing_said_is_a_small_sine_run():
    options = parsed()
    assert isinstance(options, RunOptions)
    run = options.make_run(options.make_task())
    assert (run.task, run.strategy, run.model.name) == ("sine", "tiny_reptile", "mlp_64")


def test_every_flag_reaches_the_run():
    options = parsed(
        *("--strategy", "reptile", "--model", "mlp_32", "--rounds", "7", "--seed", "9"),
        *("--set", "inner_rate=0.25", "--set", "passes=2"),
    )
    run = options.make_run(options.make_task())
    assert (run.strategy, run.model.name, run.rounds, run.seed) == ("reptile", "mlp_32", 7, 9)
    assert run.strategy_options["inner_rate"] == 0.25
    assert run.strategy_options["passes"] == 2


def test_ways_is_a_task_option():
    assert parsed("--ways", "7").task_options == {"ways": 7}
    both = parsed("--task-option", "rotations=false", "--ways", "7")
    assert both.task_options == {"rotations": False, "ways": 7}


@pytest.mark.parametrize("text", ["inner_rate", "=3", "inner_rate=", ""])
def test_a_setting_without_name_or_value_is_refused(text):
    with pytest.raises(InvalidInput, match="is not NAME=VALUE"):
        parsed("--set", text)


def test_values_are_numbers_where_they_can_be():
    values = parsed(*("--set", "a=1", "--set", "b=1e-2", "--set", "c=true", "--set", "d=x"))
    assert values.settings == {"a": 1, "b": 0.01, "c": True, "d": "x"}


@pytest.mark.parametrize("seed", ["-1", str(2**63), "x"])
def test_seeds_out_of_range_are_refused(seed):
    with pytest.raises((click.BadParameter, InvalidInput)):
        parsed("--seed", seed)


def test_models_are_found_by_name_or_file(tmp_path):
    assert find_model("cnn_s") == "cnn_s"
    with pytest.raises(InvalidInput, match="unknown model 'cnn_x'"):
        find_model("cnn_x")
    path = tmp_path / "m.toml"
    path.write_text(
        'name = "m"\ninput_shape = [1]\nloss = "mean_squared_error"\n'
        'layers = [{ kind = "dense", units = 1 }]'
    )
    assert find_model(str(path)).parameter_count == 2


@pytest.mark.parametrize("prefix", ["", "test-"])
def test_evaluation_flags_override_what_the_task_recommends(prefix):
    seen = []

    @click.command()
    @evaluation_options(prefix)
    def command(test):
        seen.append(test.settings(SINE))

    command.main([f"--{prefix}shots", "3", f"--{prefix}seed", "5"], standalone_mode=False)
    assert seen == [EvaluationSettings.for_task(SINE, shots=3, seed=5)]
