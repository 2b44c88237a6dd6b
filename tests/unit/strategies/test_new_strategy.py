"""The guide to strategies of one's own: its code runs, and only where the operator says so."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from tinyfleet.cli.program import run
from tinyfleet.errors import InvalidInput
from tinyfleet.strategies import Update, find_strategy, make_strategy, strategy_names
from tinyfleet.strategies.base import asynchronous
from tinyfleet.strategies.server import initial_state, next_state

GUIDE = Path(__file__).parents[3] / "docs" / "guides" / "new-strategy.md"
TEXT = GUIDE.read_text(encoding="utf-8")
(STRATEGY,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
(EXPERIMENT,) = re.findall(r"```toml\n(.*?)```", TEXT, re.DOTALL)
REMEMBERING = STRATEGY.replace("    name =", "    memory_vectors = 1\n    name =").replace(
    "    def apply(self, model, updates, round):",
    "    def step(self, model, memory, updates, round):\n"
    "        return model + memory[0], (memory[0] + updates[0].delta,)\n\n"
    "    def unused(self, model, updates, round):",
)


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Writes a file and names it, and it alone, to the environment."""
    monkeypatch.chdir(tmp_path)

    def written(text=STRATEGY, name="majority.py"):
        (tmp_path / name).write_text(text, encoding="utf-8")
        monkeypatch.setenv("TINYFLEET_STRATEGIES", str(tmp_path / name))
        return tmp_path / name

    return written


def tinyfleet(capsys, *words):
    assert run([str(word) for word in words]) == 0
    return json.loads(capsys.readouterr().out)


def test_the_guides_strategy_takes_under_forty_lines():
    assert len(STRATEGY.splitlines()) < 40


def test_the_guides_strategy_learns_in_the_simulator(write, capsys):
    write()
    words = ("--task", "sine", "--strategy", "majority", "--set", "agents_per_round=7")
    done = tinyfleet(capsys, *("simulate", *words, "--rounds", 600, "--test-tasks", 60, "--json"))
    assert done["samples"] == 600 * 7 * 50
    again = tinyfleet(capsys, *("simulate", *words, "--rounds", 1, "--test-tasks", 60, "--json"))
    assert done["after"]["loss"] < again["after"]["loss"]


@pytest.mark.slow
def test_the_guides_experiment_compares_it(write, capsys, tmp_path):
    write()
    quick = EXPERIMENT.replace("rounds = 1000", "rounds = 5") + "\n[test]\ntasks = 8\n"
    (tmp_path / "majority.toml").write_text(quick, encoding="utf-8")
    done = tinyfleet(capsys, "compare", "majority.toml", "--out", "out", "--json")
    assert [row["strategy"] for row in done["rows"]] == ["majority", "reptile"]


def test_the_guides_rule_is_the_majority_of_signs(write):
    write()
    strategy = make_strategy("majority", 10, {"outer_rate": 0.5})
    deltas = np.array([[1, -2, 0], [3, 4, 0], [-1, -1, 5]], np.float32)
    moved = strategy.apply(
        np.zeros(3, np.float32), [Update(i, d, 1) for i, d in enumerate(deltas)], 0
    )
    assert moved.tolist() == [0.5, -0.5, 0.5]
    assert moved.dtype == np.float32


def test_a_strategy_of_ones_own_may_remember(write):
    write(REMEMBERING)
    strategy = make_strategy("majority", 10, {})
    state = initial_state(strategy, np.zeros(2, np.float32))
    for number in range(3):
        state = next_state(strategy, state, [Update(0, np.ones(2, np.float32), 1)], number)
    assert state.parameters.tolist() == [3.0, 3.0]  # 0 + 1 + 2
    assert state.memory[0].tolist() == [3.0, 3.0]


OVERLAPPING = "    concurrency, max_staleness, speed_spread = 3, 5, 0.5\n    name ="


def test_rounds_of_a_strategy_of_ones_own_may_overlap(write, capsys):
    write(STRATEGY.replace("    name =", OVERLAPPING))
    assert asynchronous(make_strategy("majority", 10, {})).concurrency == 3
    words = ("--task", "sine", "--strategy", "majority", "--rounds", 5, "--test-tasks", 5)
    done = [tinyfleet(capsys, "simulate", *words, "--json") for _ in range(2)]
    assert done[0]["parameters_sha256"] == done[1]["parameters_sha256"]


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("concurrency = 3", "one whose rounds overlap has concurrency, max_staleness, speed"),
        (OVERLAPPING.split("\n")[0].replace("3, 5", "0, 5"), "concurrency must be 1 to 1024"),
        (OVERLAPPING.split("\n")[0].replace("3, 5", "1025, 5"), "concurrency must be 1 to 1024"),
        (OVERLAPPING.split("\n")[0].replace("5, 0.5", "-1, 0.5"), "max_staleness is 0 or more"),
        (OVERLAPPING.split("\n")[0].replace("0.5", "4"), "speed_spread 0 to 3"),
    ],
)
def test_overlap_that_cannot_be_is_one_line(write, said, message):
    write(STRATEGY.replace("    name =", f"    {said.strip()}\n    name ="))
    with pytest.raises(InvalidInput, match=message):
        make_strategy("majority", 10, {})


def test_without_the_variable_a_run_cannot_make_code_run(write, monkeypatch):
    path = write()
    assert strategy_names()[-1] == "majority"
    monkeypatch.delenv("TINYFLEET_STRATEGIES")
    assert "majority" not in strategy_names()
    for name in ("majority", "majority.py", "majority:Majority", str(path)):
        with pytest.raises(InvalidInput, match="unknown strategy"):
            find_strategy(name)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.txt", STRATEGY, "no Python file"),
        ("a.py", "1 +", "SyntaxError"),
        ("a.py", "raise RuntimeError('two\\nlines')", "RuntimeError: two lines"),
        ("a.py", "x = 1", "must say STRATEGY = its class"),
        ("a.py", "class A: pass\nSTRATEGY = A", "a frozen dataclass"),
        (
            "a.py",
            STRATEGY.replace("= rounds_option()", "= 3").replace("rounds:", "turns:"),
            "rounds",
        ),
        ("a.py", STRATEGY.replace('option(50, "samples a', '(50, "samples a'), "samples as an opt"),
        ("a.py", STRATEGY.replace("def apply", "def fold"), "a strategy without apply"),
        ("a.py", STRATEGY.replace("def plan", "def map"), "a strategy without plan"),
        (
            "a.py",
            STRATEGY.replace("    name =", "    memory_vectors = 1\n    name ="),
            "without step",
        ),
        (
            "a.py",
            STRATEGY.replace("    name =", "    memory_vectors = 9\n    name ="),
            "0 to 4 memory",
        ),
        ("a.py", STRATEGY.replace('"majority"', '"a b"'), "is a word"),
    ],
)
def test_a_file_of_no_use_is_one_line(write, name, text, message):
    write(text, name)
    with pytest.raises(InvalidInput) as caught:
        find_strategy("majority")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_fault_in_the_plan_is_one_line(write):
    write(STRATEGY.replace("return TrainingPlan(", "return 1 / 0 + ("))
    with pytest.raises(InvalidInput, match="'majority' cannot be made: ZeroDivisionError"):
        make_strategy("majority", 10, {})


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("return 1 / 0", "'majority' cannot be made: ZeroDivisionError"),
        ("return model[0]", "must make float32 vectors like the model"),
        ("return model.astype(float)", "must make float32 vectors like the model"),
        ("return model[:2]", "must make float32 vectors like the model"),
    ],
)
def test_a_fault_in_the_rule_is_found_before_the_run_begins(write, rule, message):
    write(STRATEGY.replace("votes = sum", f"{rule}\n        votes = sum"))
    with pytest.raises(InvalidInput, match=message):
        make_strategy("majority", 10, {})


def test_a_memory_of_another_length_than_declared_is_refused(write):
    write(REMEMBERING.replace("memory_vectors = 1", "memory_vectors = 2"))
    with pytest.raises(InvalidInput, match="has 2 memory_vectors, but its step makes 1"):
        make_strategy("majority", 10, {})


def test_a_name_of_tinyfleet_is_not_to_be_taken(write):
    write(STRATEGY.replace('"majority"', '"reptile"'))
    with pytest.raises(
        InvalidInput, match="TinyFleet has a strategy 'reptile': give yours another"
    ):
        strategy_names()


def test_a_strategy_named_like_a_baseline_is_not_compared(write, capsys, tmp_path):
    write(STRATEGY.replace('"majority"', '"transfer"'))
    text = EXPERIMENT.replace('"majority"', '"transfer"').replace("agents_per_round", "samples")
    (tmp_path / "x.toml").write_text(text, encoding="utf-8")
    assert run(["compare", "x.toml", "--out", "out"]) == 2
    assert "'transfer' is a baseline, too: give your strategy another" in capsys.readouterr().err


def test_annotations_may_be_written_as_text(write):
    write("from __future__ import annotations\n" + STRATEGY)
    assert make_strategy("majority", 10, {"samples": 7}).plan(0).samples == 7
