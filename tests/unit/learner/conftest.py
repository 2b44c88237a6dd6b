"""Lets the tests of this folder import `networks` and `builds`, and builds the learner once."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from builds import build
from networks import NETWORKS


@pytest.fixture(scope="session")
def library(tmp_path_factory):
    """The C learner of this source tree, built as `setup.py` does."""
    return build(tmp_path_factory.mktemp("native"), "-O3")


@pytest.fixture(params=NETWORKS.values(), ids=NETWORKS)
def network(request):
    return request.param
