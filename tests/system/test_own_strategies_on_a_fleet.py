"""A strategy of one's own trains a fleet as it trains the simulator."""

from __future__ import annotations

import re
from pathlib import Path

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "new-strategy.md"


def test_a_file_that_the_environment_names(result_of, tmp_path, monkeypatch):
    (code,) = re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "majority.py").write_text(code, encoding="utf-8")
    monkeypatch.setenv("TINYFLEET_STRATEGIES", str(tmp_path / "majority.py"))
    run = ("--strategy", "majority", "--rounds", 20, "--test-tasks", 5)
    shas = {
        result_of(*words, *run)["parameters_sha256"]
        for words in (("up", "--agents", 2), ("simulate",))
    }
    assert len(shas) == 1
