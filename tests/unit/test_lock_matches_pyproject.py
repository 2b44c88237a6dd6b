"""The lock holds every dependency of pyproject.toml, pinned and hashed, and no address."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
LOCK = (ROOT / "requirements" / "dev.lock").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def asked_for() -> list[Requirement]:
    project = PROJECT["project"]
    lines = [*project["dependencies"], *PROJECT["build-system"]["requires"]]
    lines += [line for extra in project["optional-dependencies"].values() for line in extra]
    return [r for r in map(Requirement, lines) if r.name != project["name"]]


def entries() -> list[str]:
    """The lock's requirements: lines that go on with a backslash are one."""
    joined = LOCK.replace("\\\n", " ")
    return [line for line in joined.splitlines() if line and not line.lstrip().startswith("#")]


def pinned() -> dict[str, list[str]]:
    """Every version the lock holds of a name: more than one where Python versions need it."""
    pins: dict[str, list[str]] = {}
    for entry in entries():
        name, version = re.match(r"([A-Za-z0-9._-]+)==([^\s;]+)", entry).groups()
        pins.setdefault(canonicalize_name(name), []).append(version)
    return pins


@pytest.mark.parametrize("requirement", asked_for(), ids=str)
def test_lock_holds_a_version_that_pyproject_accepts(requirement: Requirement) -> None:
    versions = pinned().get(canonicalize_name(requirement.name))
    assert versions, "run `make lock`"
    refused = [version for version in versions if version not in requirement.specifier]
    assert not refused, "run `make lock`"


def test_every_locked_package_has_a_hash() -> None:
    assert [entry for entry in entries() if "--hash=sha256:" not in entry] == []


def test_lock_holds_no_address() -> None:
    assert "://" not in LOCK
    assert "--index" not in LOCK
    assert "--find-links" not in LOCK


def lowest(name: str) -> str:
    """The lowest version of a core dependency that pyproject.toml accepts."""
    requirement = next(r for r in asked_for() if r.name == name)
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
