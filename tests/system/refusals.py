"""What the tests of refusals share: the one line, processes that are to refuse, and their runs."""

from __future__ import annotations

import contextlib
import resource
import subprocess
import sys
import time

from tinyfleet.learner import make_learner
from tinyfleet.model import parameters_sha256
from tinyfleet.run import make_run
from tinyfleet.simulation import simulate
from tinyfleet.tasks import make_task

INVALID, NOT_REACHABLE, FAILED, INTERRUPTED = 2, 3, 4, 5
NOBODY = "127.0.0.1:1"
ROUNDS = 40
SECONDS = 30


def refused(done, code, *words):
    """The one line of a command that was refused: its code, and what the line says.

    Warnings about a run that trained before it was refused may stand above.
    """
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    lines = done.stderr.strip().splitlines()
    lines = [line for line in lines if not line.startswith("warning: ")]
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("tinyfleet")
    for word in words:
        assert word in lines[0]
    return lines[0]


def until(condition, what, seconds=SECONDS):
    """The first truthy value of `condition()`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.05)
    raise AssertionError(f"{what}: not within {seconds} s")


def a_run(rounds=ROUNDS):
    task = make_task("sine", {})
    return task, make_run(task, "tiny_reptile", rounds, seed=5, model="mlp_32")


def simulated_sha(rounds=ROUNDS):
    task, run = a_run(rounds)
    return parameters_sha256(simulate(run, task, make_learner(run.model)).parameters)


def limit_files(size):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def module(name):
    return "edge_agents" if name == "agent" else f"services.{name}"


def service(name, *words, timeout_s=20, **options):
    """Runs a service or agent that is expected to refuse."""
    command = [sys.executable, "-m", module(name), *map(str, words)]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=timeout_s, check=False, **options
    )


@contextlib.contextmanager
def started(name, log, *words, **options):
    """A service or agent that runs while the test does; its log goes to the file `log`."""
    command = [sys.executable, "-m", module(name), *map(str, words)]
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, **options)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(20)
        finally:
            process.kill()


def address_of(folder, name):
    """The address that a service started with `--port-file folder/name` has announced."""
    return until(lambda: (folder / name).exists() and (folder / name).read_text().strip(), name)


def attached(fleet):
    """Names of the agents that attend; None while nobody answers."""
    with contextlib.suppress(Exception):
        return [agent.name for agent in fleet.list_agents(attached_only=True)]


def with_message(fleet, run_id, word):
    """The state of the run, once its message has that word."""
    state = fleet.get_run(run_id)
    return state if word in state.message else None
