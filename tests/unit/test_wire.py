"""What a message describes is what was put into it; what cannot be is refused in one line."""

import contextlib
import math
from dataclasses import replace

import numpy as np
import pytest
from google.protobuf.message import DecodeError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tinyfleet.errors import InvalidInput
from tinyfleet.model import layers
from tinyfleet.model.builtin import builtin_model
from tinyfleet.model.spec import ModelSpec
from tinyfleet.run import make_run
from tinyfleet.strategies import STRATEGIES
from tinyfleet.strategies.plan import Download, Phase, TrainingPlan, Upload
from tinyfleet.tasks import make_task
from tinyfleet.v1 import model_pb2
from tinyfleet.wire import (
    MAX_NAME_BYTES,
    checked_name,
    model_from_message,
    model_to_message,
    parameters_from_bytes,
    parameters_to_bytes,
    plan_from_message,
    plan_to_message,
    run_from_message,
    run_to_message,
)

RUN = make_run(make_task("sine", {}), "tiny_reptile", rounds=7, seed=2**62 + 1)


def sent(message):
    """The message after it has been bytes."""
    return type(message).FromString(message.SerializeToString())


def test_run_comes_back_from_its_message_with_whole_numbers_as_such() -> None:
    run = replace(RUN, task_options={"ways": 5, "rotations": True, "noise": 0.25})
    back = run_from_message(sent(run_to_message(run)))
    assert back == run
    assert [type(value) for value in back.task_options.values()].count(int) == 1


@pytest.mark.parametrize("strategy", sorted(STRATEGIES))
@pytest.mark.parametrize("seed", [0, 2**63 - 1])
def test_every_strategy_travels(strategy, seed):
    run = make_run(make_task("sine", {}), strategy, 10**8, seed, "mlp_64")
    assert run_from_message(sent(run_to_message(run))) == run


small = st.integers(1, 3)
KINDS = st.one_of(
    st.builds(layers.Conv2D, filters=small, kernel=small, stride=small, padding=st.just(0)),
    st.builds(layers.DepthwiseConv2D, kernel=small, stride=small, padding=st.just(0)),
    st.builds(layers.MaxPool2D, kernel=small, stride=small),
    st.builds(layers.AveragePool2D, kernel=small, stride=small),
    st.just(layers.ReLU()),
    st.just(layers.Tanh()),
)


@settings(max_examples=100, deadline=None)
@given(body=st.lists(KINDS, max_size=5), pooled=st.booleans(), loss=st.booleans())
def test_every_layer_travels(body, pooled, loss):
    reduce = layers.GlobalAveragePool2D() if pooled else layers.Flatten()
    stack = (*body, reduce, layers.Dense(units=3))
    name = "softmax_cross_entropy" if loss else "mean_squared_error"
    try:
        spec = ModelSpec("any", (20, 18, 2), stack, name)
    except InvalidInput:  # the windows outgrew the image
        return
    assert model_from_message(sent(model_to_message(spec))) == spec


@pytest.mark.parametrize("name", ["cnn_s", "cnn_m"])
def test_built_in_models_travel(name):
    spec = builtin_model(name, (28, 28, 1), 5, "softmax_cross_entropy")
    assert model_from_message(sent(model_to_message(spec))) == spec


@st.composite
def phases(draw):
    samples = draw(st.integers(1, 1_000_000))
    rate = draw(st.floats(1e-9, 10))
    return Phase(
        samples,
        rate,
        draw(st.integers(1, samples)),
        draw(st.integers(1, 10_000)),
        tuple(draw(st.lists(st.sampled_from(["dense_1", "conv2d_2"]), max_size=2))),
        draw(st.floats(0, min(1000, 0.99 / rate))),
    )


@st.composite
def plans(draw):
    stretches = tuple(draw(st.lists(phases(), min_size=1, max_size=8)))
    plan = st.builds(
        TrainingPlan,
        st.just(stretches),
        st.lists(st.text(min_size=1, max_size=9), max_size=3).map(tuple),
        st.builds(
            Upload,
            st.floats(0, 1, exclude_min=True),
            st.sampled_from(("float32", "float16", "int8")),
        ),
        counted_from=st.integers(0, len(stretches) - 1),
    )
    return draw(plan)


@given(plan=plans())
def test_every_plan_travels(plan):
    assert plan_from_message(sent(plan_to_message(plan))) == plan


def test_a_plan_leaves_defaults_out():
    plan = TrainingPlan((Phase(samples=50, rate=0.5),))
    assert len(plan_to_message(plan).SerializeToString()) == 13


@given(values=st.lists(st.floats(width=32), max_size=50))
def test_parameters_travel_bit_for_bit(values):
    parameters = np.array(values, np.float32)
    back = parameters_from_bytes(parameters_to_bytes(parameters), len(values))
    assert back.tobytes() == parameters.tobytes()
    back += 1  # a copy of its own


@pytest.mark.parametrize("data", [b"", b"\0" * 7, b"\0" * 12])
def test_parameters_of_another_size_are_refused(data):
    with pytest.raises(InvalidInput, match="2 parameters are 8 bytes"):
        parameters_from_bytes(data, 2)


@pytest.mark.parametrize("name", ["a", "x" * MAX_NAME_BYTES, "é" * (MAX_NAME_BYTES // 2)])
def test_a_name_of_256_bytes_is_taken(name):
    assert checked_name("name", name) == name


@pytest.mark.parametrize("name", ["", "x" * 257, "é" * 129, "a\nb", "a\0", "\x1b[31m", "\u202e"])
def test_a_name_that_is_none_is_refused(name):
    with pytest.raises(InvalidInput, match="name must be 1 to 256 printable bytes"):
        checked_name("name", name)


def changed(change):
    message = run_to_message(RUN)
    change(message)
    return sent(message)


def nested(message):
    value = message.task_options.fields["deep"]
    for _ in range(40):
        value = value.list_value.values.add()


def set_option(name, value):
    return lambda message: message.strategy_options.update({name: value})


HOSTILE = {
    "rounds": lambda m: setattr(m, "rounds", 0),
    "too many rounds": lambda m: setattr(m, "rounds", 100_000_001),
    "seed": lambda m: setattr(m, "seed", 2**63),
    "no strategy": lambda m: m.ClearField("strategy"),
    "unknown strategy": lambda m: setattr(m, "strategy", "tiny_reptlie"),
    "no task": lambda m: m.ClearField("task"),
    "forged task": lambda m: setattr(m, "task", "a\nb"),
    "unknown option": set_option("inner_rat", 1),
    "text as number": set_option("inner_rate", "fast"),
    "null as number": set_option("inner_rate", None),
    "list as number": set_option("inner_rate", [1]),
    "nan": set_option("inner_rate", math.nan),
    "infinity": set_option("inner_rate", math.inf),
    "huge": set_option("samples", 1e308),
    "fraction": set_option("samples", 1.5),
    "out of range": set_option("inner_rate", 11),
    "infinite task option": lambda m: m.task_options.update({"x": math.inf}),
    "large options": lambda m: m.task_options.update({"x": "y" * 70_000}),
    "no model": lambda m: m.ClearField("model"),
    "no loss": lambda m: m.model.ClearField("loss"),
    "unknown loss": lambda m: setattr(m.model, "loss", 99),
    "no layers": lambda m: m.model.ClearField("layers"),
    "many layers": lambda m: [m.model.layers.add(relu=model_pb2.ReLU()) for _ in range(65)],
    "a layer of no kind": lambda m: m.model.layers.insert(0, model_pb2.Layer()),
    "no units": lambda m: setattr(m.model.layers[0].dense, "units", 0),
    "huge units": lambda m: setattr(m.model.layers[0].dense, "units", 2**32 - 1),
    "huge input": lambda m: setattr(m.model, "input_channels", 2**32 - 1),
    "no name": lambda m: m.model.ClearField("name"),
    "long name": lambda m: setattr(m.model, "name", "x" * 1000),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_run_is_refused_in_one_line(what):
    with pytest.raises(InvalidInput) as caught:
        run_from_message(changed(HOSTILE[what]))
    message = str(caught.value)
    assert message
    assert len(message.splitlines()) == 1
    assert len(message) < 500


def test_deep_options_are_taken_or_refused():
    with contextlib.suppress(InvalidInput):
        run_from_message(changed(nested))


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.binary(max_size=120), at=st.integers(0, 10_000))
def test_any_bytes_are_a_run_or_refused(data, at):
    whole = run_to_message(RUN).SerializeToString(deterministic=True)
    cut = at % len(whole)
    try:
        message = model_pb2.RunSpec.FromString(whole[:cut] + data + whole[cut + len(data) :])
    except DecodeError:  # gRPC answers that
        return
    refused = None
    try:
        run = run_from_message(message)
    except InvalidInput as error:
        refused = str(error)
    if refused is None:
        assert run_from_message(sent(run_to_message(run))) == run
    else:
        assert len(refused.splitlines()) == 1


@pytest.mark.parametrize(
    ("fraction", "precision", "message"),
    [
        (0.0, 1, "fraction must be above 0"),
        (float("nan"), 1, "fraction must be above 0"),
        (1.5, 1, "fraction must be above 0 and at most 1, got 1.5"),
        (0.5, 0, "upload.precision is not set"),
        (0.5, 9, "upload.precision is not set"),
    ],
)
def test_an_upload_that_no_device_could_make_is_refused(fraction, precision, message):
    upload = model_pb2.Upload(fraction=fraction, precision=precision)
    plan = model_pb2.TrainingPlan(phases=[model_pb2.Phase(samples=1, rate=0.5)], upload=upload)
    with pytest.raises(InvalidInput, match=message):
        plan_from_message(plan)


@pytest.mark.parametrize(
    "download", [Download(), Download("float16"), Download("int8", changes=True)]
)
def test_what_goes_down_is_part_of_the_plan(download):
    plan = TrainingPlan((Phase(1, 0.5),), download=download)
    message = plan_to_message(plan)
    assert plan_from_message(message) == plan
    assert message.HasField("download") is (download != Download())


@pytest.mark.parametrize("precision", [0, 9])
def test_a_download_of_no_known_precision_is_refused(precision):
    download = model_pb2.Download(precision=precision, changes=True)
    plan = model_pb2.TrainingPlan(phases=[model_pb2.Phase(samples=1, rate=0.5)], download=download)
    with pytest.raises(InvalidInput, match=r"download\.precision is not set"):
        plan_from_message(plan)


def test_a_change_counted_from_no_phase_is_refused():
    phase = model_pb2.Phase(samples=1, rate=0.5)
    for counted_from in (1, 2**32 - 1):
        message = model_pb2.TrainingPlan(phases=[phase], counted_from=counted_from)
        with pytest.raises(InvalidInput, match="counted_from of a plan must be 0 to 0, got"):
            plan_from_message(message)


@pytest.mark.parametrize("error_feedback", [True, False])
def test_a_plan_says_whether_what_was_left_out_is_sent_later(error_feedback):
    plan = TrainingPlan((Phase(1, 0.5),), upload=Upload(0.5, "int8", error_feedback))
    assert plan_from_message(sent(plan_to_message(plan))) == plan


def test_error_feedback_of_a_dense_upload_is_refused():
    upload = model_pb2.Upload(fraction=1.0, precision=1, error_feedback=True)
    plan = model_pb2.TrainingPlan(phases=[model_pb2.Phase(samples=1, rate=0.5)], upload=upload)
    with pytest.raises(InvalidInput, match="choose a fraction below 1"):
        plan_from_message(plan)


def test_a_plan_without_phases_is_refused():
    with pytest.raises(InvalidInput, match="phases of a plan"):
        plan_from_message(model_pb2.TrainingPlan())


@pytest.mark.parametrize(
    "phase",
    [
        {"samples": 0, "rate": 0.1},
        {"samples": 1, "rate": 0.0},
        {"samples": 1, "rate": math.nan},
        {"samples": 1, "rate": 0.1, "batch_size": 2},
        {"samples": 1, "rate": 0.1, "passes": 10_001},
        {"samples": 1_000_001, "rate": 0.1},
        {"samples": 1, "rate": 0.1, "proximal": -1.0},
        {"samples": 1, "rate": 0.1, "proximal": math.nan},
        {"samples": 1, "rate": 1.0, "proximal": 2.0},
    ],
)
def test_a_hostile_phase_is_refused(phase):
    message = model_pb2.TrainingPlan(phases=[model_pb2.Phase(**phase)])
    with pytest.raises(InvalidInput):
        plan_from_message(message)
