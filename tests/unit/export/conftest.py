"""Lets the tests of this folder import the networks that the learners are tested with."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "learner"))

from networks import NETWORKS, draw_parameters


@pytest.fixture(params=NETWORKS.values(), ids=NETWORKS)
def network(request):
    return request.param


@pytest.fixture
def trained(network, seed):
    """The network with parameters of about the size that training gives."""
    return network, draw_parameters(network, seed)
