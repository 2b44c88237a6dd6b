"""Every build of the C learner trains to the same parameters, and none leaves its memory."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from builds import build, build_file, needs_gcc, runs_on_this_processor
from networks import NETWORKS, draw_parameters, draw_samples

from tinyfleet.learner.native import NativeLearner
from tinyfleet.learner.reference import ReferenceLearner
from tinyfleet.model import parameters_sha256
from tinyfleet.strategies.plan import Phase

pytestmark = pytest.mark.slow
SEED = 5
PHASES = (Phase(30, 0.02), Phase(30, 0.05, batch_size=7, passes=2))
ONE_VERSION = "-DLEARNER_NO_CLONES"
ONE_BY_ONE = "-DLEARNER_ONE_BY_ONE"  # as on a microcontroller, which skips zeros and padding


def trained_sha256(make):
    """The hash of all networks' parameters, trained one phase after the other."""
    trained = []
    for spec in NETWORKS.values():
        parameters = draw_parameters(spec, SEED)
        for phase in PHASES:
            assert make(spec).train(parameters, draw_samples(spec, 30, SEED), phase).finite
        trained.append(parameters)
    return parameters_sha256(np.concatenate(trained))


@pytest.fixture(scope="module")
def expected():
    return trained_sha256(ReferenceLearner)


@pytest.fixture(scope="module")
def one_by_one(tmp_path_factory):
    return build(tmp_path_factory.mktemp("one_by_one"), "-O2", ONE_BY_ONE)


@needs_gcc
@pytest.mark.parametrize("level", ["-O0", "-O1", "-O2"])
def test_every_optimisation_level_gives_the_same_parameters(tmp_path, expected, level):
    library = build(tmp_path, level, ONE_VERSION)
    assert trained_sha256(lambda spec: NativeLearner(spec, library)) == expected


@needs_gcc
def test_the_installed_build_gives_the_same_parameters(library, expected):
    assert trained_sha256(lambda spec: NativeLearner(spec, library)) == expected


@needs_gcc
@pytest.mark.parametrize("flag", ["-march=native", "-mavx2"])
def test_every_vector_width_gives_the_same_parameters(tmp_path, expected, flag):
    if flag == "-mavx2" and not runs_on_this_processor(flag):
        pytest.skip("this processor has no AVX2")
    library = build(tmp_path, "-O3", flag, ONE_VERSION)
    assert trained_sha256(lambda spec: NativeLearner(spec, library)) == expected


@needs_gcc
def test_zeros_and_padding_can_be_skipped(one_by_one, expected):
    assert trained_sha256(lambda spec: NativeLearner(spec, one_by_one)) == expected


@needs_gcc
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_weight_that_is_not_finite_is_reported_though_skipped(one_by_one, network, bad):
    """A zero times it is NaN where it is not left out, and nothing where it is."""
    parameters, samples = draw_parameters(network, SEED), draw_samples(network, 3, SEED)
    samples.inputs[:] = 0.0
    for placed in (layer for layer in network.placed if layer.weights):
        given = parameters.copy()
        given[placed.start] = bad
        for learner in (NativeLearner(network, one_by_one), ReferenceLearner(network)):
            assert not learner.train(given.copy(), samples, Phase(3, 0.1)).finite


@needs_gcc
@pytest.mark.parametrize("way", [(), (ONE_BY_ONE,)], ids=["together", "one by one"])
def test_no_build_leaves_its_memory_or_the_language(tmp_path, expected, way):
    """AddressSanitizer and UndefinedBehaviorSanitizer watch a training in exact arenas."""
    runtime = subprocess.run(
        ["gcc", "-print-file-name=libasan.so"], capture_output=True, text=True, check=True
    ).stdout.strip()
    if not Path(runtime).is_file():
        pytest.skip("gcc has no libasan.so here")
    checks = "-fsanitize=address,undefined"
    flags = ("-O1", "-g", checks, "-fno-sanitize-recover=all", *way)
    library = build_file(tmp_path, *flags)
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("exact_memory.py")), str(library)],
        env=os.environ
        | {"LD_PRELOAD": runtime, "ASAN_OPTIONS": "detect_leaks=0", "PYTHONMALLOC": "malloc"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.strip() == expected
