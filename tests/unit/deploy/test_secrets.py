"""The scan finds what must be in no repository and in no image, also two archives deep."""

import io
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

SCAN = Path(__file__).resolve().parents[3] / "dev" / "check_secrets.py"
LETTERS = b"A" * 160
SECRETS = {
    "opt/a.txt": b"-----BEGIN " + b"PRIVATE KEY-----\n" + LETTERS,
    "opt/b.txt": b"join with tf1" + b"." + LETTERS,
    "opt/key.pem": b"",
}


def archive_of(files: dict[str, bytes]) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        for name, content in files.items():
            about = tarfile.TarInfo(name)
            about.size = len(content)
            archive.addfile(about, io.BytesIO(content))
    return made.getvalue()


def scan(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCAN), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_in_a_layer_is_found(tmp_path: Path, name: str) -> None:
    image = tmp_path / "image.tar"
    harmless = {"etc/hosts": b"-----BEGIN CERTIFICATE-----"}
    image.write_bytes(archive_of({"layer.tar": archive_of({**harmless, name: SECRETS[name]})}))
    done = scan(image)
    assert done.returncode == 1
    assert f"image.tar:layer.tar:{name}: " in done.stdout
    assert done.stdout.count("\n") == 1


def test_an_image_without_secrets_passes_and_an_empty_one_does_not(tmp_path: Path) -> None:
    image = tmp_path / "image.tar"
    image.write_bytes(archive_of({"layer.tar": archive_of({"etc/hosts": b"127.0.0.1 localhost"})}))
    assert scan(image).returncode == 0
    image.write_bytes(archive_of({}))
    assert scan(image).returncode == 1


def test_no_secret_is_in_the_repository() -> None:
    done = scan()
    assert done.returncode == 0, done.stdout
