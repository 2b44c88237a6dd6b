"""The checked-in code of the contract is what the .proto files give today, byte for byte."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = Path("tinyfleet/v1")


def contents(folder: Path) -> dict[str, bytes]:
    files = [*folder.glob("*.py"), *folder.glob("*.pyi")]
    return {path.name: path.read_bytes() for path in files}


@pytest.mark.needs_package("grpcio-tools", module="grpc_tools")
def test_generated_code_is_what_the_contract_gives(tmp_path: Path) -> None:
    script = ROOT / "dev" / "generate_proto.py"
    run = subprocess.run(
        [sys.executable, script, "--out", tmp_path], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    fresh, checked_in = contents(tmp_path / PACKAGE), contents(ROOT / PACKAGE)
    assert sorted(checked_in) == sorted(fresh), "run `make proto` and commit the result"
    stale = [name for name in fresh if fresh[name] != checked_in[name]]
    assert not stale, "run `make proto` and commit the result"
