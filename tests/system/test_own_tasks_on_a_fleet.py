"""A task of one's own, a table or a Python file, trains a fleet as it trains the simulator."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "bring-a-task.md"


@pytest.fixture
def table(tmp_path):
    random = np.random.default_rng(1)
    path = tmp_path / "table.npz"
    kinds = np.repeat(np.arange(10), 12)
    np.savez(path, inputs=random.normal(kinds[:, None], 0.1, (120, 3)), labels=kinds)
    return path


def sha_on_both(result_of, *run):
    return {
        result_of(*words, *run)["parameters_sha256"]
        for words in (("up", "--agents", 2), ("simulate",))
    }


def test_a_table(result_of, table):
    run = ("--task", "table", "--data", table, "--ways", 2, "--rounds", 20, "--test-tasks", 5)
    assert len(sha_on_both(result_of, *run)) == 1


def test_a_file_that_the_environment_names(result_of, tmp_path, monkeypatch):
    _, code = re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "humps.py").write_text(code, encoding="utf-8")
    monkeypatch.setenv("TINYFLEET_TASKS", str(tmp_path / "humps.py"))
    run = ("--task", "humps", "--rounds", 20, "--test-tasks", 5)
    assert len(sha_on_both(result_of, *run)) == 1
