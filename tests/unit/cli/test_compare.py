"""`compare` as scripts and people see it: the figures of `simulate`, nothing lost to a kill."""

import json
import re
import signal
import subprocess
import sys
import time

import pytest

from tinyfleet.cli.program import run

EXPERIMENT = """
title = "Small"
task = "sine"
model = "mlp_32"
rounds = 40
test_every = 10
seeds = [1, 2]
target = 3.0
shots = [1, 5]
[test]
tasks = 20
[[strategies]]
label = "online"
strategy = "tiny_reptile"
options = { samples = 16 }
[[strategies]]
label = "from scratch"
strategy = "local"
adapt = { rate = 0.0003 }
"""
TABLES = ("table.md", "table.csv", "table.json")
pytestmark = pytest.mark.slow  # each comparison starts processes


def written(tmp_path, text=EXPERIMENT):
    path = tmp_path / "small.toml"
    path.write_text(text)
    return str(path)


def compared(capsys, *words):
    assert run(["compare", *words, "--json"]) == 0
    captured = capsys.readouterr()
    assert captured.out.count("\n") == 1
    return json.loads(captured.out)


def refused(capsys, code, *words):
    assert run(["compare", *words]) == code
    captured = capsys.readouterr()
    return captured.out, captured.err


def test_the_table_has_the_numbers_of_simulate_for_the_same_flags(capsys, tmp_path):
    text = EXPERIMENT.replace("seeds = [1, 2]", "seeds = [2]")
    table = compared(capsys, written(tmp_path, text), "--out", str(tmp_path / "out"))
    words = ["--model", "mlp_32", "--rounds", "40", "--seed", "2", "--set", "samples=16"]
    assert run(["simulate", *words, "--test-tasks", "20", "--json"]) == 0
    single = json.loads(capsys.readouterr().out)
    row = table["rows"][0]
    assert row["after"]["value"] == single["after"]["loss"]
    assert [row["after"]["low"], row["after"]["high"]] == pytest.approx(single["after"]["ci95"])
    assert row["before"]["value"] == single["before"]["loss"]
    assert (row["bytes_up"], row["bytes_down"]) == (single["bytes_up"], single["bytes_down"])
    assert row["estimates"] == single["energy_estimates"]


def test_people_get_a_table_in_80_columns_and_files(capsys, tmp_path):
    out = tmp_path / "out"
    assert run(["compare", written(tmp_path), "--out", str(out)]) == 0
    captured = capsys.readouterr()
    assert max(map(len, captured.out.splitlines())) <= 80
    assert max(map(len, captured.err.split("kept in")[0].splitlines())) <= 80
    assert "online #1 done: loss" in captured.err
    assert {path.name for path in out.iterdir()} >= {*TABLES, "experiment.json", "jobs"}
    assert "energy is an estimate for cortex-m4+ble" in captured.out


def test_a_killed_comparison_goes_on_to_the_same_table(capsys, tmp_path):
    text = EXPERIMENT.replace("rounds = 40", "rounds = 20000").replace("= 10\n", "= 1000\n")
    file = written(tmp_path, text)
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    command = [sys.executable, "-m", "tinyfleet.cli", "compare", file, "--out", str(cut)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as process:
        wait_for(lambda: list((cut / "jobs").glob("*.progress.json")), process)
        process.send_signal(signal.SIGKILL)
    assert list((cut / "jobs").glob("*.progress.json")), "it was done before it could be killed"
    compared(capsys, file, "--out", str(whole), "--jobs", "1")
    compared(capsys, file, "--out", str(cut))
    for name in TABLES:
        assert (cut / name).read_bytes() == (whole / name).read_bytes()
    assert not list((cut / "jobs").glob("*.progress.json"))
    assert not list((cut / "jobs").glob("*.tinyfleet"))


def test_workers_end_with_a_killed_parent(tmp_path):
    file = written(tmp_path, EXPERIMENT.replace("= 40", "= 5000000").replace("= 10\n", "= 10000\n"))
    command = [sys.executable, "-m", "tinyfleet.cli", "compare", file, "--out"]
    with subprocess.Popen(
        [*command, str(tmp_path / "out"), "--jobs", "2"], stderr=subprocess.PIPE, text=True
    ) as process:
        wait_for(lambda: len(children(process.pid)) >= 2, process)
        workers = children(process.pid)
        process.send_signal(signal.SIGKILL)
    wait_for(lambda: not any(alive(pid) for pid in workers))


def test_a_stop_is_code_5_and_says_how_to_go_on(tmp_path):
    file = written(tmp_path, EXPERIMENT.replace("= 40", "= 5000000").replace("= 10\n", "= 10000\n"))
    out = tmp_path / "out"
    command = [sys.executable, "-m", "tinyfleet.cli", "compare", file, "--out", str(out)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        wait_for(lambda: list((out / "jobs").glob("*.progress.json")), process)
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=30)
    assert process.returncode == 5, said
    assert re.search(r"interrupted after [0-4] of 4 jobs; the same command goes on", said)


def test_a_diverging_job_is_named_and_the_others_go_on(capsys, tmp_path):
    hot = '[[strategies]]\nlabel = "hot"\nstrategy = "tiny_reptile"\noptions = { inner_rate = 5 }\n'
    out = tmp_path / "out"
    table, said = refused(capsys, 4, written(tmp_path, EXPERIMENT + hot), "--out", str(out))
    assert "hot #1 DIVERGED in round" in said
    assert "online #2 done" in said
    assert "2 of 6 jobs diverged (hot seed 1, hot seed 2): lower their rates" in said
    assert "2 of 2 diverged" in table
    assert "- hot, seed 1: training diverged" in (out / "table.md").read_text()


def test_a_changed_experiment_is_refused_with_the_remedy(capsys, tmp_path):
    out = str(tmp_path / "out")
    compared(capsys, written(tmp_path), "--out", out)
    changed = written(tmp_path, EXPERIMENT.replace("samples = 16", "samples = 17"))
    printed, said = refused(capsys, 2, changed, "--out", out)
    assert printed == ""
    assert "strategy_options.samples was 16, is 17" in said
    assert "give another --out" in said
    # What is reckoned afterwards may change: nothing is trained again.
    target = written(tmp_path, EXPERIMENT.replace("target = 3.0", "target = 3.5"))
    assert compared(capsys, target, "--out", out)["target"] == 3.5


def test_two_comparisons_do_not_write_into_one_folder(capsys, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    import fcntl

    with (out / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        _, said = refused(capsys, 2, written(tmp_path), "--out", str(out))
    assert "another comparison is writing into" in said


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("task = [", "is not valid TOML"),
        (EXPERIMENT + "[tests]", "did you mean 'test'"),
        (EXPERIMENT.replace('"sine"', '"sin"'), "unknown task 'sin'"),
        (EXPERIMENT.replace('"sine"', '"omniglot"'), "needs its data"),
        (EXPERIMENT.replace("target", 'deployment = "pi5"\ntarget'), "unknown deployment 'pi5'"),
    ],
)
def test_bad_input_is_one_line(capsys, monkeypatch, tmp_path, text, message):
    monkeypatch.delenv("TINYFLEET_DATA", raising=False)
    printed, said = refused(capsys, 2, written(tmp_path, text), "--out", str(tmp_path / "out"))
    assert (printed, said.count("\n")) == ("", 1)
    assert message in said
    assert not (tmp_path / "out").exists()


def wait_for(condition, process=None):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "not in a minute"
        assert process is None or process.poll() is None, "it ended too soon"
        time.sleep(0.02)


def children(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as file:  # noqa: PTH123
        return [int(word) for word in file.read().split()]


def alive(pid):
    """Whether the process exists and is no zombie."""
    try:
        with open(f"/proc/{pid}/stat") as file:  # noqa: PTH123
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
