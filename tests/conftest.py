"""What every test shares: a seed that a failure prints, and skips that fail in CI.

`TINYFLEET_TEST_SEED=N` repeats a test with the seed N.
"""

import importlib.util
import os
import shutil
import signal
import zlib

import hypothesis
import pytest

IN_CI = os.environ.get("CI") == "true"

# No deadline: the cores are shared. CI tries the same examples every time, a laptop new ones.
hypothesis.settings.register_profile("tinyfleet", deadline=None, derandomize=IN_CI, print_blob=True)
hypothesis.settings.load_profile("tinyfleet")

# What `make test-fast` asks for: a quarter of the examples.
hypothesis.settings.register_profile(
    "fast", hypothesis.settings.get_profile("tinyfleet"), max_examples=25
)

# A shell that runs the tests in the background has them ignore Ctrl-C, and so would every program
# that a test starts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """A seed of 32 bits: the test's own, so that it fails always or never, or the one asked for."""
    own = zlib.crc32(request.node.nodeid.encode())
    chosen = int(os.environ.get("TINYFLEET_TEST_SEED", own))
    request.node.add_report_section("setup", "seed", f"TINYFLEET_TEST_SEED={chosen}")
    return chosen


def is_installed(command: str | None, module: str | None) -> bool:
    """Whether the command is on the path and the module can be imported; None asks for nothing."""
    has_command = command is None or shutil.which(command) is not None
    return has_command and (module is None or importlib.util.find_spec(module) is not None)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Honour `needs_package`: what CI could install, CI must not skip."""
    for mark in item.iter_markers("needs_package"):
        if is_installed(mark.kwargs.get("command"), mark.kwargs.get("module")):
            continue
        reason = f"{mark.args[0]} is not installed"
        if IN_CI:
            pytest.fail(f"{reason}, and CI must install it", pytrace=False)
        pytest.skip(reason)


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The caller's settings do not reach the tests, except those about the tests and the data."""
    for name in [n for n in os.environ if n.startswith("TINYFLEET_")]:
        if name not in {"TINYFLEET_TEST_SEED", "TINYFLEET_DATA"}:
            monkeypatch.delenv(name)
