"""Refuses private keys, tokens and passwords: in the tracked files, or in images.

    python dev/check_secrets.py                    what git tracks
    python dev/check_secrets.py image.tar ...      every file of every layer, from `podman save`

It knows keys in PEM, join tokens, tokens of well-known services, and files that hold credentials
by their name.
"""

import re
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO

ROOT = Path(__file__).resolve().parent.parent
_WORD = rb"[^\s/:@'\"{}<>$]"
CONTENT = {
    "a private key": re.compile(
        rb"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY-----\s+[A-Za-z0-9+/=]{40}"
    ),
    "a join token": re.compile(rb"\btf1\.[A-Za-z0-9_-]{100,}"),
    "a cloud key": re.compile(rb"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"),
    "a repository token": re.compile(rb"\b(?:gh[pousr]_[A-Za-z0-9]{36}|glpat-[A-Za-z0-9_-]{20})\b"),
}
# In the repository only: what others wrote has such addresses as examples.
PASSWORD = re.compile(rb"\b[a-z][a-z+]{2,9}://" + _WORD + rb"{1,64}:" + _WORD + rb"{4,64}@[a-z0-9]")
HARMLESS = re.compile(r"/libgnutls\.so[.0-9]*$")  # the keys that it tests itself with
NAMES = re.compile(
    r"^(?:key\.pem|.*_rsa|.*_ed25519|\.netrc|\.pypirc|pip\.conf|\.git-credentials|\.env|.*\.p12"
    r"|.*\.keytab)$"
)
MAX_BYTES = 64 * 1024 * 1024  # longer files are programs, of which the beginning is read


def faults(name: str, content: bytes) -> Iterator[str]:
    """Yield what is secret about one file."""
    if NAMES.match(PurePosixPath(name).name):
        yield "a file that holds credentials"
    if HARMLESS.search(name):
        return
    for what, pattern in CONTENT.items():
        if pattern.search(content):
            yield what


def tracked() -> Iterator[tuple[str, bytes]]:
    """Yield name and content of what git tracks."""
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True)
    for name in listing.stdout.decode().split("\0"):
        if name and (ROOT / name).is_file():
            yield name, (ROOT / name).read_bytes()


def archived(name: str, file: IO[bytes]) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of all files in an archive, and in the archives within: layers."""
    with tarfile.open(fileobj=file) as archive:
        for member in archive:
            content = archive.extractfile(member) if member.isfile() else None
            if content is None:
                continue
            inner = f"{name}:{member.name}"
            if member.name.endswith(".tar") and ":" not in name:
                yield from archived(inner, content)
            else:
                yield inner, content.read(MAX_BYTES)


def main() -> int:
    """Print every fault and return 1 when there is any."""
    archives = sys.argv[1:]
    count = looked_at = 0
    for name, content in of_archives(archives) if archives else tracked():
        looked_at += 1
        found = list(faults(name, content))
        if not archives and PASSWORD.search(content):
            found.append("a password in an address")
        for fault in found:
            print(f"{name}: {fault}")
            count += 1
    if not looked_at:
        print("no files to look at")
    return 0 if looked_at and not count else 1


def of_archives(paths: list[str]) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of all files in the archives."""
    for path in paths:
        with Path(path).open("rb") as file:
            yield from archived(Path(path).name, file)


if __name__ == "__main__":
    sys.exit(main())
