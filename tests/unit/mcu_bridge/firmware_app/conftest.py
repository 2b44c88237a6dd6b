"""Lets the tests of this folder import `board` and `networks`, and builds the app once."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[2] / "learner"))

from board import Board, build, load
from networks import NETWORKS


@pytest.fixture(scope="session")
def app(tmp_path_factory):
    """The application's C, built for this machine, as a library."""
    return load(build(tmp_path_factory.mktemp("app") / "app.so", "-O1", "-fPIC", "-shared"))


@pytest.fixture
def board(app):
    """A board with 64 KiB that was identified."""
    with Board(app, 65536) as board:
        yield board


@pytest.fixture(params=NETWORKS.values(), ids=NETWORKS)
def network(request):
    return request.param
