"""The guide to tasks of one's own: its code runs, and code runs only where the operator says so."""

import re
from pathlib import Path

import numpy as np
import pytest

from tinyfleet.cli.program import run
from tinyfleet.errors import InvalidInput
from tinyfleet.tasks import make_task, outline_task, task_names

GUIDE = Path(__file__).parents[3] / "docs" / "guides" / "bring-a-task.md"
BLOCKS = re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
TABLE, TASK = BLOCKS


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_task(folder, name="humps.py", text=TASK):
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def tinyfleet(capsys, *words):
    code = run([str(word) for word in words])
    written = capsys.readouterr()
    return code, written.out, written.err


def test_each_way_takes_under_thirty_lines():
    assert max(len(block.splitlines()) for block in BLOCKS) < 30


def test_the_guides_table_is_trained_and_evaluated(here, capsys):
    exec(compile(TABLE, "guide", "exec"), {})  # noqa: S102 - the guide is ours
    words = ("--task", "table", "--data", "machines.npz", "--set", "inner_rate=0.02")
    code, out, _ = tinyfleet(
        capsys, "simulate", *words, "--rounds", 300, "--test-tasks", 30, "--out", "out"
    )
    assert code == 0
    assert "table" in out
    code, out, _ = tinyfleet(
        capsys,
        "evaluate",
        "out/checkpoint.tinyfleet",
        "--data",
        "machines.npz",
        "--shots",
        3,
        "--tasks",
        30,
    )
    assert code == 0
    before, after = re.findall(r"adaptation\s+([0-9.]+)", out)
    assert float(after) < float(before)


@pytest.mark.slow
def test_the_guides_file_is_trained_and_evaluated(here, capsys, monkeypatch):
    monkeypatch.setenv("TINYFLEET_TASKS", str(write_task(here)))
    code, out, _ = tinyfleet(
        capsys, "simulate", "--task", "humps", "--rounds", 300, "--test-tasks", 30, "--out", "out"
    )
    assert code == 0
    assert "on humps" in out
    code, out, _ = tinyfleet(capsys, "evaluate", "out/checkpoint.tinyfleet", "--tasks", 30)
    assert code == 0
    before, after = re.findall(r"adaptation\s+([0-9.]+)", out)
    assert float(after) < float(before)


def test_without_the_variable_a_run_cannot_make_code_run(here):
    write_task(here)
    assert "humps" not in task_names()
    for name in ("humps", "humps.py", "humps:Humps", str(here / "humps.py")):
        for make in (make_task, outline_task):
            with pytest.raises(InvalidInput, match="unknown task"):
                make(name, {})


def test_every_process_knows_the_shapes(here, monkeypatch):
    monkeypatch.setenv("TINYFLEET_TASKS", str(write_task(here)))
    assert task_names()[-1] == "humps"
    assert outline_task("humps", {}).input_shape == (1, 1, 1)
    with pytest.raises(InvalidInput, match="unknown option of task humps 'x'"):
        make_task("humps", {"x": 1})


def test_a_task_that_needs_data_is_not_made_without(here, monkeypatch):
    text = TASK.replace('name = "humps"', 'name = "fed"\n    needs_data = True')
    monkeypatch.setenv("TINYFLEET_TASKS", str(write_task(here, "fed.py", text)))
    assert outline_task("fed", {}).outputs == 1
    with pytest.raises(InvalidInput, match="task 'fed' needs its data"):
        make_task("fed", {})
    assert make_task("fed", {}, here).data == here


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.txt", TASK, "no Python file"),
        ("a.py", "1 +", "SyntaxError"),
        ("a.py", "raise RuntimeError('two\\nlines')", "RuntimeError: two lines"),
        ("a.py", "import nothing_like_it", "ModuleNotFoundError"),
        ("a.py", "x = 1", "must say TASK"),
        ("a.py", "class A: pass\nTASK = A", "derived from OwnTask"),
        ("a.py", TASK.replace('"humps"', '"a b"'), "is a word"),
    ],
)
def test_a_file_of_no_use_is_one_line(here, monkeypatch, name, text, message):
    monkeypatch.setenv("TINYFLEET_TASKS", str(write_task(here, name, text)))
    with pytest.raises(InvalidInput) as caught:
        make_task("humps", {})
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_two_files_with_one_name_are_refused(here, monkeypatch):
    both = f"{write_task(here, 'a.py')}:{write_task(here, 'b.py')}"
    monkeypatch.setenv("TINYFLEET_TASKS", both)
    with pytest.raises(InvalidInput, match="two files have a task 'humps'"):
        task_names()


def test_a_fault_in_the_constructor_is_one_line(here, monkeypatch):
    text = TASK.replace("    name =", "    def __init__(self, data):\n        1 / 0\n\n    name =")
    monkeypatch.setenv("TINYFLEET_TASKS", str(write_task(here, "faulty.py", text)))
    with pytest.raises(InvalidInput, match="'humps' cannot be made: ZeroDivisionError"):
        make_task("humps", {})


def test_the_table_of_the_guide_has_a_machine_a_problem(here):
    exec(compile(TABLE, "guide", "exec"), {})  # noqa: S102
    with np.load("machines.npz") as archive:
        assert archive["inputs"].shape == (2400, 3)
    assert make_task("table", {}, Path("machines.npz")).outputs == 1
