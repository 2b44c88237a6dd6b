"""The memory a model needs is known without a compiler, and is what the C learner takes."""

import ctypes

import numpy as np
import pytest
from builds import needs_gcc
from hypothesis import HealthCheck, given, settings
from networks import networks

from tinyfleet.learner.layer_table import LOSS_CODES, layer_table
from tinyfleet.learner.memory import memory_needed
from tinyfleet.learner.native import ARENA_TOO_SMALL, OK, NativeLearner
from tinyfleet.learner.targets import board_memory_needed
from tinyfleet.model import builtin_model
from tinyfleet.strategies.plan import Phase, TrainingPlan


@needs_gcc
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(networks())
def test_the_arena_is_the_c_learners(library, spec):
    assert memory_needed(spec).arena_bytes == NativeLearner(spec, library).arena_bytes


@needs_gcc
def test_an_arena_of_one_byte_less_is_refused(library, network):
    table = ctypes.create_string_buffer(layer_table(network))
    learner = ctypes.create_string_buffer(library.learner_struct_bytes())
    need = memory_needed(network).arena_bytes
    arena = np.empty(need, np.uint8)
    loss = LOSS_CODES[network.loss]

    def init(room):
        count = len(network.layers)
        return library.learner_init(learner, table, count, loss, arena.ctypes.data, room)

    assert init(need - 1) == ARENA_TOO_SMALL
    assert init(0) == ARENA_TOO_SMALL
    assert init(need) == OK


@pytest.mark.parametrize(
    ("name", "parameters", "arena"),
    [("cnn_s", 33_812, 16_736), ("cnn_m", 114_836, 56_568), ("cnn_l", 191_988, 45_592)],
)
def test_what_the_image_models_take(name, parameters, arena):
    need = memory_needed(builtin_model(name, (28, 28, 1), 5, "softmax_cross_entropy"))
    assert (need.parameters_bytes, need.arena_bytes) == (parameters, arena)
    assert need.sample_bytes == 4 * (28 * 28 + 5)
    assert need.online_bytes < 256 * 1024
    assert need.gradient_bytes == parameters


def test_an_arena_does_not_grow_with_what_only_parameters_need():
    wide = builtin_model("mlp_64", (1, 1, 1000), 1, "mean_squared_error")
    narrow = builtin_model("mlp_64", (1, 1, 1), 1, "mean_squared_error")
    assert memory_needed(wide).arena_bytes == memory_needed(narrow).arena_bytes


def test_a_plan_takes_what_its_phases_take_together():
    spec = builtin_model("mlp_32", (1, 1, 1), 1, "mean_squared_error")
    need = memory_needed(spec)
    online, batch = Phase(50, 0.1), Phase(40, 0.1, batch_size=10)
    again, much = Phase(30, 0.1, passes=2), Phase(20, 0.1, batch_size=20, passes=3)
    sample, gradient = need.sample_bytes, need.gradient_bytes
    assert need.plan_bytes(TrainingPlan((online,))) == need.online_bytes
    assert need.plan_bytes(TrainingPlan((online, batch))) == need.online_bytes + gradient
    assert need.plan_bytes(TrainingPlan((online, again))) == need.online_bytes + 30 * sample
    pulled = TrainingPlan((Phase(50, 0.1, proximal=1.0),))
    assert need.plan_bytes(pulled) == need.online_bytes + need.start_bytes
    assert need.start_bytes == board_memory_needed(spec, keep_start=True) - need.online_bytes
    whole = need.online_bytes + gradient + 30 * sample
    assert need.plan_bytes(TrainingPlan((again, batch, much))) == whole
