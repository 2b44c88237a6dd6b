"""The container engine, as the tests call it: each call bounded, a failure with all it said."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUILD_LIMIT_S = 1200
CALL_LIMIT_S = 90


def bounded(command, limit_s=CALL_LIMIT_S, **options):
    """Run a command that may not take longer; its output, or a failure with all it said."""
    environment = os.environ | {"CONTAINERS_CONF": str(Path(__file__).with_name("containers.conf"))}
    return subprocess.run(
        ["timeout", "--kill-after=10", str(limit_s), *map(str, command)],
        env=environment | options.pop("env", {}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        **options,
    )


def succeed(command, limit_s=CALL_LIMIT_S, **options):
    done = bounded(command, limit_s, **options)
    said = f"{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    assert done.returncode == 0, f"{command}: {done.returncode}\n{said}"
    return done.stdout


def podman(*words, limit_s=CALL_LIMIT_S):
    return succeed(["podman", *words], limit_s)


def about(image):
    (document,) = json.loads(podman("image", "inspect", image))
    return document


def in_image(image, *command, limit_s=CALL_LIMIT_S):
    words = ("run", "--rm", "--network", "none", "--read-only", "--entrypoint", command[0])
    return podman(*words, image, *command[1:], limit_s=limit_s)
