"""A wheel holds the C learner and is named for its platform, or says that it runs on NumPy.

It also holds what `ros2 launch` looks for, and asks for nothing of ROS.
"""

import ctypes
import shutil
import subprocess
import sys
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ("tinyfleet", "services", "edge_agents", "mcu_bridge", "launch", "resource")
FILES = ("pyproject.toml", "setup.py", "setup.cfg", "package.xml", "README.md", "LICENSE")
LIBRARY = "tinyfleet/learner/_native.so"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of what is packaged: a build writes beside its sources."""
    copy = tmp_path / "checkout"
    ignored = shutil.ignore_patterns("__pycache__", "_native.so")
    for name in SOURCES:
        shutil.copytree(ROOT / name, copy / name, ignore=ignored)
    for name in FILES:
        shutil.copy(ROOT / name, copy / name)
    return copy


def build_wheel(checkout: Path, out: Path, monkeypatch: pytest.MonkeyPatch, cc: str) -> str:
    """Build offline with the C compiler `cc`; return what the build printed."""
    monkeypatch.setenv("CC", cc)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--verbose"]
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", str(out)]
    command = [*pip, *options, str(checkout)]
    run = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    assert run.returncode == 0, run.stdout
    return run.stdout


@pytest.mark.needs_package("gcc", command="cc")
def test_wheel_with_a_compiler_holds_the_learner_for_every_python_of_this_platform(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_wheel(checkout, tmp_path, monkeypatch, cc="cc")
    (wheel,) = tmp_path.glob("*.whl")
    assert "-py3-none-linux_" in wheel.name
    with zipfile.ZipFile(wheel) as archive:
        library = archive.extract(LIBRARY, tmp_path)
        names = archive.namelist()
    ctypes.CDLL(library)
    assert "tinyfleet/py.typed" in names
    assert any(name.startswith("mcu_bridge/firmware/learner/") for name in names)


def test_wheel_without_a_compiler_is_pure_and_says_so_in_one_line(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    printed = build_wheel(checkout, tmp_path, monkeypatch, cc="no-such-compiler")
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.name.endswith("-py3-none-any.whl")
    assert LIBRARY not in zipfile.ZipFile(wheel).namelist()
    said = [line.strip() for line in printed.splitlines() if "will run on NumPy" in line]
    assert said == ["tinyfleet: no C compiler found (install gcc): the learner will run on NumPy"]


def test_wheel_has_the_files_of_a_ros_package_and_needs_no_ros(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_wheel(checkout, tmp_path, monkeypatch, cc="no-such-compiler")
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (metadata,) = (name for name in names if name.endswith(".dist-info/METADATA"))
        document = Parser().parsestr(archive.read(metadata).decode())
    shared = {name.partition(".data/data/")[2] for name in names if ".data/data/" in name}
    assert {
        "share/ament_index/resource_index/packages/tinyfleet",
        "share/tinyfleet/LICENSE",
        "share/tinyfleet/package.xml",
        *(f"share/tinyfleet/{path.relative_to(ROOT)}" for path in ROOT.glob("launch/*.launch.py")),
        *(
            f"share/tinyfleet/{path.relative_to(ROOT)}"
            for path in ROOT.glob("launch/config/*.yaml")
        ),
    } == shared
    required = document.get_all("Requires-Dist")
    assert [line for line in required if "ros-" in line and "extra ==" not in line] == []
    assert document["Requires-Python"] == ">=3.11"
