"""Refuses tracked files that hold the address of a machine or a registry: we build anywhere.

Every web address must be on a host named here, a lock holds no address at all, and no file
holds an absolute path of somebody's machine.
"""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# Hosts that documents, licences and standards may cite. Grow it with care, never with a registry.
CITABLE = {
    "127.0.0.1", "localhost", "[::1]", "example.org", "example.com", "www.apache.org", "www.w3.org",
    "arxiv.org", "doi.org", "json-schema.org", "github.com", "www.rfc-editor.org",
}  # fmt: skip
ADDRESS = re.compile(r"\b(?:https?|ftp|git|ssh)(?:\+\w+)?://([^\s/:'\"`)>]+)")
LOCKS = re.compile(r"(?:^|/)(?:package-lock\.json|[^/]+\.lock)$")
MACHINE_PATH = re.compile(r"(?<![\w.~*}/-])/(?:work|root|home|Users)/\w")


def tracked_files() -> list[str]:
    """Return the paths git tracks, relative to the project."""
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True)
    return [name for name in listing.stdout.decode().split("\0") if name]


def faults(name: str, line: str) -> Iterator[str]:
    """Yield what is wrong with one line of one file."""
    if LOCKS.search(name) and "://" in line:
        yield "a lock holds versions and hashes, no addresses"
    elif foreign := set(ADDRESS.findall(line)) - CITABLE:
        yield f"address on a host that is not citable: {', '.join(sorted(foreign))}"
    if found := MACHINE_PATH.search(line):
        yield f"path of one machine: {found.group().strip()}"


def main() -> int:
    """Print every fault as path:line and return 1 when there is any."""
    count = 0
    for name in tracked_files():
        path = ROOT / name
        if not path.is_file() or b"\0" in (content := path.read_bytes()):
            continue
        for number, line in enumerate(content.decode("utf-8", "replace").splitlines(), 1):
            for fault in faults(name, line):
                print(f"{name}:{number}: {fault}")
                count += 1
    return 1 if count else 0


if __name__ == "__main__":
    sys.exit(main())
