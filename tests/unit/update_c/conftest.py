"""Lets the tests of this folder import `update_in_c`, and compiles the encoder."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from update_in_c import build, load


@pytest.fixture(scope="session")
def codec(tmp_path_factory):
    """The encoder of this source tree."""
    return load(build(tmp_path_factory.mktemp("codec")))


@pytest.fixture(scope="session")
def codec_with_given_noise(tmp_path_factory):
    """The same, rounding by the draws that it is given."""
    return load(build(tmp_path_factory.mktemp("codec"), noise="given"))
