"""docs/deploy.md, "Without containers", followed to the letter on empty machines.

A machine is a container of Debian 12 with nothing but what its installer gives, in which systemd
boots: so units, users, sandboxes and journals are the real ones. Packages of Python come from a
folder of wheels, by the lock's hashes; apt takes its own from where Debian's are.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BASE = "localhost/tinyfleet/debian-machine:bookworm"
SITE = "10.0.0.2"  # on the page: the machine with the services
CALL_LIMIT_S = 90
INSTALL_LIMIT_S = 400
PIS = ("pi-1", "pi-2")
MONTHLY = "### Once a month"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1500),
    pytest.mark.skipif(os.geteuid() != 0, reason="machines are made as root here"),
    pytest.mark.needs_package("podman", command="podman"),
    pytest.mark.needs_package("mmdebstrap", command="mmdebstrap"),
    pytest.mark.needs_package("runc", command="runc"),
]


def blocks_of(page, heading):
    """The commands under a heading of the page, one text for each indented block."""
    _, found, after = page.partition(f"{heading}\n")
    assert found, f"the page has no '{heading}'"
    section = re.split(r"^##", after, maxsplit=1, flags=re.MULTILINE)[0]
    blocks = re.findall(r"(?:^ {4}.*\n(?:\n(?= {4}))?)+", section, re.MULTILINE)
    return [textwrap.dedent(block) for block in blocks]


def succeed(*command, limit_s=CALL_LIMIT_S):
    """Run a command that may not take longer; its output, or a failure with all it said."""
    environment = os.environ | {"CONTAINERS_CONF": str(Path(__file__).with_name("containers.conf"))}
    done = subprocess.run(
        ["timeout", "--kill-after=10", str(limit_s), *map(str, command)],
        env=environment,
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    said = f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    assert done.returncode == 0, f"{command}: {done.returncode}\n{said}"
    return done.stdout


class Machine:
    """A machine that has just been installed, with a checkout in /srv/tinyfleet."""

    def __init__(self, name, checkout, network):
        self.name = name
        self._id = f"tinyfleet-{name}-{os.getpid()}"
        wheels = ROOT / "build" / "wheels-amd64"
        where = ("--network", network, "--hostname", name)
        init = ("--systemd=always", "--cap-add", "SYS_ADMIN,SYS_PTRACE")  # units have sandboxes
        pip = ("-e", "PIP_NO_INDEX=1", "-e", "PIP_FIND_LINKS=/wheels", "-v", f"{wheels}:/wheels:ro")
        folder = ("-v", f"{checkout}:/srv/tinyfleet", "-w", "/srv/tinyfleet")
        words = ("run", "-d", "--name", self._id, *where, *init, *pip, *folder, BASE, "/sbin/init")
        succeed("podman", *words)
        template = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"
        self.address = succeed("podman", "inspect", "-f", template, self._id).strip()
        # Booting empties /tmp, which whoever is quicker has in use. An answer takes long enough.
        self.run("until [[ $(systemctl is-system-running) =~ running|degraded ]]; do :; done")

    def run(self, commands, limit_s=CALL_LIMIT_S):
        """What they print; they are given to a shell of root as they are."""
        words = ("exec", self._id, "bash", "-euo", "pipefail", "-c", commands)
        return succeed("podman", *words, limit_s=limit_s)

    def remove(self):
        succeed("podman", "rm", "-f", "-t", "2", self._id)


@pytest.fixture(scope="module")
def base():
    """An image of an empty Debian 12 that can boot."""
    succeed("deploy/build", "wheels", limit_s=INSTALL_LIMIT_S)
    if subprocess.run(["podman", "image", "exists", BASE], check=False).returncode:
        archive = ROOT / "build" / "debian-machine.tar"
        make = ("mmdebstrap", "--quiet", "--variant=debootstrap", "bookworm", archive)
        succeed(*make, limit_s=INSTALL_LIMIT_S)
        succeed("podman", "import", archive, BASE)
        archive.unlink()


@pytest.fixture
def machine(base, tmp_path):
    """Makes machines that reach each other; they go with the test."""
    made, network = [], f"tinyfleet-page-{os.getpid()}"
    succeed("podman", "network", "create", network)

    def make(name):
        succeed("git", "clone", "--quiet", ROOT, tmp_path / name)
        made.append(Machine(name, tmp_path / name, network))
        return made[-1]

    yield make
    for one in made:
        one.remove()
    succeed("podman", "network", "rm", network)


def test_the_page_leads_from_empty_machines_to_a_fleet_over_tls(machine):
    page = (ROOT / "docs" / "deploy.md").read_text()
    site = machine("site")
    commands = {
        heading: [block.replace(SITE, site.address) for block in blocks_of(page, heading)]
        for heading in ("### The machine with the services", "### Each Pi", "### Train", MONTHLY)
    }
    *make_site, ask_for_tokens = commands["### The machine with the services"]
    for block in make_site:
        site.run(block, INSTALL_LIMIT_S)
    tokens = site.run(ask_for_tokens).split()
    (join,) = commands["### Each Pi"]
    for name, token in zip(PIS, tokens, strict=True):
        machine(name).run(join.replace("TOKEN", token), INSTALL_LIMIT_S)
    (train,) = commands["### Train"]
    said = site.run(train)
    assert "finished, 200 of 200 rounds" in said

    (renew,) = commands[MONTHLY]
    site.run(renew)
    agents = json.loads(site.run("operator agents --json"))["agents"]
    assert {one["name"] for one in agents if one["attached"]} == set(PIS)
    log = site.run("cat /var/lib/tinyfleet/coordinator/audit.jsonl")
    assert '"who": "operator desk", "method": "CreateRun", "outcome": "ok"' in log
    only_the_coordinator_sees_the_authority(site)


def only_the_coordinator_sees_the_authority(site):
    for service in ("coordinator", "aggregator", "metrics"):
        pid = site.run(f"systemctl show -P MainPID tinyfleet@{service}").strip()
        seen = site.run(f"nsenter --mount --target {pid} ls /etc/tinyfleet/ca").split()
        assert ("ca.key" in seen) == (service == "coordinator"), service
