"""Lets the tests of this folder import `link_in_c`, and compiles the link once."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "learner"))  # vector_schema
sys.path.insert(0, str(Path(__file__).parent))

from link_in_c import build, load


@pytest.fixture(scope="session")
def link(tmp_path_factory):
    """The link of this source tree."""
    return load(build(tmp_path_factory.mktemp("link")))
