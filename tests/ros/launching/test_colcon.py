"""`colcon build` makes the package that ROS's tools look for."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
LOOK_UP = """
from ament_index_python.packages import get_package_prefix, get_package_share_directory
from ament_index_python.resources import get_resource
print(get_package_prefix("tinyfleet"))
print(get_package_share_directory("tinyfleet"))
print(repr(get_resource("packages", "tinyfleet")[0]))
import tinyfleet.learner.native as native
print(native.__file__)
"""


def run_in(install: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a command as in a shell that has sourced the install space."""
    (packages,) = install.glob("lib/python*/site-packages")
    environment = {
        **os.environ,
        "AMENT_PREFIX_PATH": f"{install}:{sys.prefix}",
        "PYTHONPATH": str(packages),
    }
    return subprocess.run(
        command,
        cwd=install.parent,
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def test_launch_files_and_parameters_are_where_ros2_launch_looks(colcon_install: Path) -> None:
    share = colcon_install / "share/tinyfleet"
    assert (colcon_install / "share/ament_index/resource_index/packages/tinyfleet").is_file()
    assert (share / "package.xml").is_file()
    for file in [*ROOT.glob("launch/*.launch.py"), *ROOT.glob("launch/config/*.yaml")]:
        assert (share / file.relative_to(ROOT)).read_bytes() == file.read_bytes()


def test_programs_are_where_ros2_run_looks_and_start(colcon_install: Path) -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    folder = colcon_install / "lib/tinyfleet"
    assert {path.name for path in folder.iterdir()} == set(scripts)
    for name in ("tinyfleet", "tinyfleet-agent-node", "tinyfleet-coordinator-node"):
        shown = run_in(colcon_install, sys.executable, str(folder / name), "--help")
        assert shown.returncode == 0, shown.stderr
        assert "usage" in shown.stdout.lower()


def test_ament_index_finds_the_package_and_python_its_modules(colcon_install: Path) -> None:
    found = run_in(colcon_install, sys.executable, "-c", LOOK_UP)
    assert found.returncode == 0, found.stderr
    prefix, share, marker, module = found.stdout.splitlines()
    assert (prefix, share) == (str(colcon_install), str(colcon_install / "share/tinyfleet"))
    assert marker == "''"
    assert module.startswith(str(colcon_install))


def test_build_has_the_c_learner(colcon_install: Path) -> None:
    assert list(colcon_install.glob("lib/python*/site-packages/tinyfleet/learner/_native.so"))
