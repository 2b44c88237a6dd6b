"""The locks hold every dependency of pyproject.toml, pinned and hashed, and no address."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
LOCKS = {
    name: (ROOT / "requirements" / f"{name}.lock").read_text(encoding="utf-8")
    for name in ("dev", "ros", "colcon")
}
ROS_EXTRAS = {"ros", "services", "mcu", "test"}  # what .venv-ros has; .venv has all but [ros]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def asked_for(lock: str) -> list[Requirement]:
    if lock == "colcon":
        lines = (ROOT / "requirements" / "colcon.in").read_text(encoding="utf-8").splitlines()
        return [Requirement(line) for line in lines if not line.startswith("#")]
    project = PROJECT["project"]
    extras = project["optional-dependencies"]
    wanted = ROS_EXTRAS if lock == "ros" else set(extras) - {"ros"}
    lines = [*project["dependencies"], *PROJECT["build-system"]["requires"]]
    lines += [line for extra in sorted(wanted) for line in extras[extra]]
    return [r for r in map(Requirement, lines) if r.name != project["name"]]


def entries(lock: str) -> list[str]:
    """The lock's requirements: lines that go on with a backslash are one."""
    joined = LOCKS[lock].replace("\\\n", " ")
    return [line for line in joined.splitlines() if line and not line.lstrip().startswith("#")]


def pinned(lock: str) -> dict[str, list[str]]:
    """Every version the lock holds of a name: more than one where Python versions need it."""
    pins: dict[str, list[str]] = {}
    for entry in entries(lock):
        name, version = re.match(r"([A-Za-z0-9._-]+)==([^\s;]+)", entry).groups()
        pins.setdefault(canonicalize_name(name), []).append(version)
    return pins


@pytest.mark.parametrize(
    ("lock", "requirement"),
    [(lock, requirement) for lock in LOCKS for requirement in asked_for(lock)],
    ids=str,
)
def test_lock_holds_a_version_that_pyproject_accepts(lock: str, requirement: Requirement) -> None:
    versions = pinned(lock).get(canonicalize_name(requirement.name))
    assert versions, "run `make lock`"
    refused = [version for version in versions if version not in requirement.specifier]
    assert not refused, "run `make lock`"


def test_both_locks_hold_the_same_versions() -> None:
    dev = pinned("dev")
    assert {name: v for name, v in pinned("ros").items() if name in dev and dev[name] != v} == {}


def test_ros_is_in_its_own_lock_only() -> None:
    assert [name for name in pinned("dev") if name.startswith("ros-")] == []


@pytest.mark.parametrize("lock", LOCKS)
def test_every_locked_package_has_a_hash(lock: str) -> None:
    assert [entry for entry in entries(lock) if "--hash=sha256:" not in entry] == []


@pytest.mark.parametrize("lock", LOCKS)
def test_lock_holds_no_address(lock: str) -> None:
    assert "://" not in LOCKS[lock]
    assert "--index" not in LOCKS[lock]
    assert "--find-links" not in LOCKS[lock]


def lowest(name: str) -> str:
    """The lowest version of a core dependency that pyproject.toml accepts."""
    requirement = next(r for r in asked_for("dev") if r.name == name)
    return next(s.version for s in requirement.specifier if s.operator == ">=")


def test_generated_code_runs_on_every_grpcio_and_protobuf_that_pyproject_accepts() -> None:
    """Generated code refuses to be imported by a library older than its generator."""
    folder = ROOT / "tinyfleet" / "v1"
    stubs = {
        re.search(r"GRPC_GENERATED_VERSION = '(.+)'", path.read_text()).group(1)
        for path in folder.glob("*_pb2_grpc.py")
    }
    messages = {
        re.search(r"Protobuf Python Version: (.+)", path.read_text()).group(1)
        for path in folder.glob("*_pb2.py")
    }
    assert stubs == {lowest("grpcio")}
    assert messages == {lowest("protobuf")}
