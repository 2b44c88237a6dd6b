"""`simulate`, `evaluate`, `models` and `memory` as a script sees them."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tinyfleet.checkpoint import load_checkpoint
from tinyfleet.cli.console import RoundProgress
from tinyfleet.cli.program import run

QUICK = ["--model", "mlp_32", "--rounds", "30", "--set", "samples=16", "--test-tasks", "20"]


def document(capsys, *words):
    assert run([*words, "--json"]) == 0
    captured = capsys.readouterr()
    assert captured.out.count("\n") == 1
    return json.loads(captured.out)


def refused(capsys, code, *words):
    assert run(list(words)) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = [line for line in captured.err.splitlines() if not line.startswith("warning: ")]
    assert len(lines) == 1
    return lines[0]


def test_simulate_prints_the_promised_object(capsys):
    result = document(capsys, "simulate", "--task", "sine", "--seed", "1", *QUICK)
    assert result["model"] == {"name": "mlp_32", "parameters": 1153, "bytes": 4612}
    assert (result["task"], result["strategy"]) == ("sine", "tiny_reptile")
    assert (result["rounds"], result["seed"]) == (30, 1)
    assert set(result["before"]) >= {"loss", "accuracy"}
    assert set(result["after"]) >= {"loss", "accuracy", "ci95"}
    assert result["after"]["accuracy"] is None
    low, high = result["after"]["ci95"]
    assert low < result["after"]["loss"] < high
    assert result["bytes_up"] == result["bytes_down"] == 30 * 4612
    assert result["wall_s"] > 0
    assert result["samples_per_s"] > 0
    assert len(result["parameters_sha256"]) == 64


def test_devices_that_take_turns_are_sent_less_and_learn_the_same(capsys):
    words = ["simulate", "--strategy", "tiny_meta_fed", "--set", "fraction=0.05", *QUICK]
    new, turns = (document(capsys, *words, *extra) for extra in ([], ["--devices", "2"]))
    assert new["bytes_down"] == 30 * 4612
    assert turns["bytes_down"] < new["bytes_down"] / 2
    assert turns["parameters_sha256"] == new["parameters_sha256"]
    assert run([*words, "--devices", "0"]) == 2
    assert "--devices" in capsys.readouterr().err


def test_the_same_command_gives_the_same_parameters(capsys):
    hashes = {
        document(capsys, "simulate", *QUICK, *extra)["parameters_sha256"]
        for extra in ([], ["--engine", "reference"], ["--test-every", "7"])
    }
    assert len(hashes) == 1


@pytest.mark.slow
def test_out_keeps_checkpoint_result_and_plots(capsys, tmp_path):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    out = tmp_path / "out"
    result = document(capsys, "simulate", *QUICK, "--test-every", "10", "--out", str(out))
    names = {"checkpoint.tinyfleet", "result.json", "learning_curve.png", "adaptation.png"}
    assert {path.name for path in out.iterdir()} == names | {"adapted_fits.png", "report.png"}
    kept = json.loads((out / "result.json").read_text())
    assert kept["parameters_sha256"] == result["parameters_sha256"]
    assert [test["round"] for test in kept["tests"]] == [10, 20, 30]
    assert load_checkpoint(out / "checkpoint.tinyfleet").version == 30


@pytest.mark.slow
def test_evaluate_finds_what_simulate_found(capsys, tmp_path):
    result = document(capsys, "simulate", *QUICK, "--out", str(tmp_path))
    again = document(capsys, "evaluate", str(tmp_path / "checkpoint.tinyfleet"), "--tasks", "20")
    for key in ("before", "after", "model", "parameters_sha256"):
        assert again[key] == result[key]


@pytest.mark.slow
def test_evaluate_takes_its_own_settings(capsys, tmp_path):
    document(capsys, "simulate", *QUICK, "--out", str(tmp_path))
    file = str(tmp_path / "checkpoint.tinyfleet")
    words = ["--task", "sine", "--shots", "3", "--tasks", "5", "--seed", "7", "--passes", "2"]
    settings = document(capsys, "evaluate", file, *words)["evaluation"]
    chosen = {key: settings[key] for key in ("shots", "tasks", "seed", "passes")}
    assert chosen == {"shots": 3, "tasks": 5, "seed": 7, "passes": 2}


COLLAPSE = ["--model", "mlp_32", "--rounds", "400", "--test-tasks", "100", "--test-every", "100"]
COLLAPSE += ["--set", "outer_rate=1", "--set", "inner_rate=0.02", "--set", "samples=32"]


def test_a_run_that_collapses_says_so_while_it_does_and_at_the_end(capsys):
    """It leaves the finite numbers in three rounds of 400, and then stays finite and useless."""
    assert run(["simulate", *COLLAPSE, "--json"]) == 0
    captured = capsys.readouterr()
    warnings = json.loads(captured.out)["warnings"]
    assert [text.partition(":")[0] for text in warnings] == [
        "no better than without adaptation in round 100",
        "no better than without adaptation at the end",
    ]
    said = " ".join(captured.err.split())
    assert all(f"warning: {text}" in said for text in warnings)
    assert run(["simulate", *COLLAPSE]) == 0
    printed = capsys.readouterr().out
    assert "warning: no better than without adaptation at the end" in printed
    assert max(map(len, printed.splitlines())) <= 80


def test_a_run_that_learns_says_nothing(capsys):
    words = ["--model", "mlp_32", "--rounds", "1500", "--test-tasks", "50", "--test-every", "500"]
    assert document(capsys, "simulate", *words)["warnings"] == []
    assert "warning" not in capsys.readouterr().err


def test_people_get_a_table(capsys):
    assert run(["simulate", *QUICK]) == 0
    text = capsys.readouterr().out
    assert "before adaptation" in text
    assert "\nsha256 " in text
    assert max(map(len, text.splitlines())) <= 80


@pytest.fixture
def interrupted_after_12(monkeypatch):
    update = RoundProgress.update

    def interrupted(self, version, loss, sent_bytes):
        update(self, version, loss, sent_bytes)
        if version == 12:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(RoundProgress, "update", interrupted)
        yield patch


@pytest.mark.parametrize("more", [(), ("--strategy", "fed_yogi", "--set", "agents_per_round=1")])
def test_an_interrupted_run_is_kept_and_resuming_ends_in_the_same_parameters(
    capsys, tmp_path, interrupted_after_12, more
):
    run = (*QUICK, *more)
    line = refused(capsys, 5, "simulate", *run, "--out", str(tmp_path), "--json")
    interrupted_after_12.undo()
    whole = document(capsys, "simulate", *run)["parameters_sha256"]
    path = tmp_path / "checkpoint.tinyfleet"
    assert f"interrupted after 12 of 30 rounds; add --resume {path} to go on" in line
    assert load_checkpoint(path).version == 12
    resumed = document(capsys, "simulate", *run, "--resume", str(path))
    assert resumed["parameters_sha256"] == whole
    assert resumed["samples"] == 18 * 16


def test_an_interrupted_run_whose_rounds_overlap_is_kept_but_not_gone_on_with(
    capsys, tmp_path, interrupted_after_12
):
    overlapping = [*QUICK, "--strategy", "fed_buff"]
    line = refused(capsys, 5, "simulate", *overlapping, "--out", str(tmp_path), "--json")
    path = tmp_path / "checkpoint.tinyfleet"
    assert f"interrupted after 12 of 30 rounds; the model then is in {path}" in line
    interrupted_after_12.undo()
    line = refused(capsys, 2, "simulate", *overlapping, "--resume", str(path))
    assert "fed_buff cannot go on from version 12" in line
    assert "begin it anew" in line


def test_an_interrupted_run_with_error_feedback_is_kept_but_not_gone_on_with(
    capsys, tmp_path, interrupted_after_12
):
    fed = [*QUICK, "--strategy", "tiny_meta_fed", "--set", "error_feedback=true"]
    line = refused(capsys, 5, "simulate", *fed, "--out", str(tmp_path), "--json")
    path = tmp_path / "checkpoint.tinyfleet"
    assert f"interrupted after 12 of 30 rounds; the model then is in {path}" in line
    interrupted_after_12.undo()
    line = refused(capsys, 2, "simulate", *fed, "--resume", str(path))
    assert "a run with error_feedback cannot go on from a checkpoint" in line
    assert "start it anew" in line


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_run_with_its_exit_code(number):
    command = [sys.executable, "-m", "tinyfleet.cli", "simulate", *QUICK, "--rounds", "50000000"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        _wait_until_it_trains(process)
        process.send_signal(number)
        _, said = process.communicate(timeout=30)
    assert process.returncode == 5, said
    assert "of 50,000,000 rounds, nothing kept (no --out)" in said
    assert said.count("\n") == 1


def _wait_until_it_trains(process):
    """Until the process has mapped the C learner or used two seconds of CPU (the reference)."""
    maps, stat = Path(f"/proc/{process.pid}/maps"), Path(f"/proc/{process.pid}/stat")
    while process.poll() is None:
        seconds = int(stat.read_text().split()[13]) / os.sysconf("SC_CLK_TCK")
        if seconds > 2.0 or ("_native.so" in maps.read_text() and seconds > 0.6):
            return


@pytest.mark.slow
def test_a_checkpoint_of_another_run_is_not_resumed(capsys, tmp_path):
    document(capsys, "simulate", *QUICK, "--out", str(tmp_path))
    file = str(tmp_path / "checkpoint.tinyfleet")
    line = refused(capsys, 2, "simulate", *QUICK, "--seed", "2", "--resume", file)
    assert "is of another run" in line


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--task", "sin"], 2, "unknown task 'sin': did you mean 'sine'"),
        (["--strategy", "tinyreptile"], 2, "did you mean 'tiny_reptile'"),
        (["--model", "mlp_65"], 2, "did you mean 'mlp_64'"),
        (["--model", "none.toml"], 2, "cannot read model file none.toml"),
        (["--set", "inner_rte=1"], 2, "did you mean 'inner_rate'"),
        (["--set", "inner_rate=nan"], 2, "inner_rate must be a number"),
        (["--rounds", "0"], 2, "rounds must be 1"),
        (["--task", "omniglot"], 2, "needs its data"),
        (["--task", "omniglot", "--data", "/nowhere"], 2, "no Omniglot data at /nowhere"),
        (["--ways", "5"], 2, "'sine' has no options, got 'ways'"),
        (["--engine", "gpu"], 2, "unknown engine 'gpu'"),
        (["--test-shots", "0"], 2, "shots must be 1"),
        (["--resume", "/nowhere"], 2, "cannot read checkpoint /nowhere"),
        (["--out", "/dev/null/x"], 2, "cannot make folder /dev/null/x"),
        (["--set", "inner_rate=10"], 4, "diverged in 20 rounds in a row"),
    ],
)
def test_bad_input_is_one_line(capsys, monkeypatch, words, code, message):
    monkeypatch.delenv("TINYFLEET_DATA", raising=False)
    assert message in refused(capsys, code, "simulate", *words, "--json")


def test_evaluate_refuses_files_and_tasks_that_do_not_fit(capsys, tmp_path):
    assert "cannot read checkpoint" in refused(capsys, 2, "evaluate", str(tmp_path / "none"))
    bad = tmp_path / "bad.tinyfleet"
    bad.write_bytes(b"something else")
    assert "not a TinyFleet checkpoint" in refused(capsys, 2, "evaluate", str(bad))


def test_models_lists_every_model_for_every_task(capsys):
    models = document(capsys, "models")["models"]
    small = next(m for m in models if (m["task"], m["name"]) == ("omniglot", "cnn_s"))
    assert (small["parameters"], small["bytes"]) == (8453, 33812)
    assert small["arena_bytes"] > 0
    assert {(m["task"], m["name"]) for m in models} >= {("sine", "mlp_32"), ("sine", "mlp_64")}
    assert all(m["task"] == "sine" for m in document(capsys, "models", "--task", "sine")["models"])


def test_memory_adds_up_and_knows_the_task_that_suits_a_model(capsys):
    need = document(capsys, "memory", "cnn_s")
    assert need["model"]["parameters"] == 8453
    parts = ("parameters_bytes", "arena_bytes", "table_bytes", "sample_bytes")
    assert need["online_bytes"] == sum(need[part] for part in parts)
    assert need["sample_bytes"] == 4 * (784 + 5)
    assert document(capsys, "memory", "mlp_32")["sample_bytes"] == 8
    assert document(capsys, "memory", "cnn_s", "--ways", "20")["sample_bytes"] == 4 * (784 + 20)


@pytest.mark.parametrize("words", [["models"], ["memory", "cnn_s"]])
def test_people_get_tables_of_models_and_memory(capsys, words):
    assert run(words) == 0
    assert "bytes" in capsys.readouterr().out


def test_memory_refuses_what_it_does_not_know(capsys):
    assert "unknown model" in refused(capsys, 2, "memory", "cnn_x")
    assert "unknown task" in refused(capsys, 2, "memory", "cnn_s", "--task", "x")
