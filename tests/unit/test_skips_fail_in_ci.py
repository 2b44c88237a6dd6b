"""What could be installed is skipped on a laptop and is a failure in CI."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

CONFTEST = Path(__file__).resolve().parents[1] / "conftest.py"
SAMPLE = """
import pytest

@pytest.mark.needs_package("a-package", command="no-such-command")
def test_never_runs():
    raise AssertionError

@pytest.mark.needs_package("pytest", module="pytest")
def test_runs():
    pass
"""


def run_sample(folder: Path, *, ci: str) -> str:
    """Run the sample with our conftest in a process of its own; return what pytest printed."""
    (folder / "conftest.py").write_text(CONFTEST.read_text(encoding="utf-8"), encoding="utf-8")
    (folder / "pytest.ini").write_text("[pytest]\nmarkers = needs_package\n", encoding="utf-8")
    (folder / "test_sample.py").write_text(SAMPLE, encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-ra", "-p", "no:cacheprovider", str(folder)]
    environment = {**os.environ, "CI": ci}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    ).stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("ci", "outcome", "reason"),
    [
        ("", "1 passed, 1 skipped", "a-package is not installed"),
        ("true", "1 passed, 1 error", "a-package is not installed, and CI must install it"),
    ],
)
def test_missing_package_is(tmp_path: Path, ci: str, outcome: str, reason: str) -> None:
    printed = run_sample(tmp_path, ci=ci)
    assert outcome in printed
    assert reason in printed
