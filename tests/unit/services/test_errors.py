"""Every error of ours has a status; whatever else happens is hidden from callers and logged."""

import importlib
import pkgutil

import grpc
import pytest

import services
import tinyfleet
from services.hosting.errors import STATUS_OF, NotFound, status_of
from tinyfleet.errors import InvalidInput, TinyFleetError

# Errors of the command and of libraries that need a display or a device: no service raises them.
OF_PROGRAMS = ("tinyfleet.cli", "tinyfleet.export", "tinyfleet.learner")
NOT_LOADED = ("tinyfleet.cli", "tinyfleet.ros.", "services.hosting.ros")  # ROS is not in .venv


def all_errors():
    """Every subclass of TinyFleetError that the services can see."""
    for package in (tinyfleet, services):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            is_run = module.name.endswith("__main__") or ".migrations." in module.name
            is_native = module.name.rpartition(".")[2] == "_native"  # a library for ctypes
            if not (is_run or is_native or module.name.startswith(NOT_LOADED)):
                importlib.import_module(module.name)
    found, waiting = set(), [TinyFleetError]
    while waiting:
        for kind in waiting.pop().__subclasses__():
            if kind not in found:
                found.add(kind)
                waiting.append(kind)
    return {
        kind
        for kind in found
        if kind.__module__.startswith(("tinyfleet.", "services."))
        and not kind.__module__.startswith(OF_PROGRAMS)
    }


def test_the_table_is_total():
    errors = all_errors()
    assert InvalidInput in errors
    assert NotFound in errors
    missing = [kind.__name__ for kind in errors if not set(kind.__mro__) & set(STATUS_OF)]
    assert missing == []


def test_the_table_has_no_entry_for_success():
    assert grpc.StatusCode.OK not in STATUS_OF.values()


@pytest.mark.parametrize("kind", STATUS_OF)
def test_a_caller_reads_our_own_words(kind, caplog):
    assert status_of(kind("do this instead")) == (STATUS_OF[kind], "do this instead")
    assert caplog.records == []


def test_a_subclass_has_its_parents_status():
    class Narrow(NotFound):
        pass

    assert status_of(Narrow("x"))[0] is grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize(
    "error", [RuntimeError("secret"), KeyError("secret"), ValueError("secret")]
)
def test_an_unexpected_error_is_hidden_and_logged(error, caplog):
    status, text = status_of(error)
    assert status is grpc.StatusCode.INTERNAL
    assert "secret" not in text
    assert "secret" in caplog.text
