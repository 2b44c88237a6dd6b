"""A file that does not do what its signatures promise is refused, in one line."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from trainable_files import (
    CLASSIFIER,
    SINE,
    edited,
    forget,
    graph,
    leave_out,
    rename,
    signature,
    tensor,
)

from tinyfleet.errors import InvalidInput
from tinyfleet.litert.learner import open_trainable
from tinyfleet.model.trainable import SignatureNames

USUAL = SignatureNames()
INT32 = 2  # TensorType.INT32


def test_what_tensorflow_made_is_taken_as_it_is():
    layout = open_trainable(SINE, USUAL).layout
    assert (layout.batch, layout.inputs, layout.targets) == (1, (1, 1), (1, 1))
    assert [(one.name, one.shape) for one in layout.weights] == [
        ("dense_0_bias", (16,)),
        ("dense_0_kernel", (1, 16)),
        ("dense_1_bias", (16,)),
        ("dense_1_kernel", (16, 16)),
        ("dense_2_bias", (1,)),
        ("dense_2_kernel", (16, 1)),
    ]
    assert layout.parameter_count == 321


def test_a_batch_and_an_image_are_seen():
    layout = open_trainable(CLASSIFIER, USUAL).layout
    assert (layout.batch, layout.inputs, layout.targets) == (4, (4, 2, 3, 1), (4, 3))


def test_every_name_can_be_another():
    file = edited(lambda model: rename(model, "train", "fit"))
    assert open_trainable(file, SignatureNames(train="fit")).layout.parameter_count == 321


def test_weights_are_written_and_read_to_the_bit():
    signatures = open_trainable(SINE, USUAL)
    given = np.linspace(-3, 3, 321, dtype=np.float32)
    signatures.write(given)
    assert signatures.weights().tobytes() == given.tobytes()


def swap_two_biases(model: Any) -> None:
    ends = signature(model, "get_weights").outputs
    first, second = (one for one in ends if one.name in (b"dense_0_bias", b"dense_1_bias"))
    first.name, second.name = second.name, first.name


def keep_a_bias_to_itself(model: Any) -> None:
    setting = graph(model, "set_weights")
    ends = signature(model, "set_weights").inputs
    index = next(one.tensorIndex for one in ends if one.name == b"dense_0_bias")
    setting.operators = [one for one in setting.operators if index not in one.inputs]
    setting.inputs = [one for one in setting.inputs if one != index]
    for name in ("get_weights", "set_weights"):
        forget(model, name, "dense_0_bias")


def assign_nothing(model: Any) -> None:
    assign = 144  # BuiltinOperator.ASSIGN_VARIABLE
    training = graph(model, "train")
    codes = model.operatorCodes
    training.operators = [
        one for one in training.operators if codes[one.opcodeIndex].builtinCode != assign
    ]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            lambda model: leave_out(model, "train"),
            "has no signature 'train', it has: get_weights, infer, set_weights",
        ),
        (
            lambda model: rename(model, "infer", "predict"),
            "has no signature 'infer', it has: get_weights, predict, set_weights, train",
        ),
        (lambda model: forget(model, "train", "rate"), "train must take x, y, rate; it takes x, y"),
        (
            lambda model: setattr(tensor(model, "train", "x"), "type", INT32),
            "train's 'x' must be float32, it is int32",
        ),
        (
            lambda model: setattr(tensor(model, "train", "x"), "shapeSignature", [-1, 1]),
            "train's 'x' has a side without a size",
        ),
        (
            lambda model: setattr(tensor(model, "train", "y"), "shape", [1, 3]),
            "infer's 'logits' must be 1x3, it is 1x1",
        ),
        (
            lambda model: setattr(tensor(model, "train", "rate"), "shape", [2]),
            "train's 'rate' must be a scalar, it is 2",
        ),
        (
            lambda model: setattr(tensor(model, "set_weights", "dense_1_kernel"), "shape", [8, 16]),
            "set_weights's 'dense_1_kernel' must be 16x16, it is 8x16",
        ),
        (
            lambda model: forget(model, "get_weights", "dense_0_bias"),
            "set_weights must take what get_weights gives; in one only: dense_0_bias",
        ),
        (swap_two_biases, "get_weights does not give back"),
        (keep_a_bias_to_itself, "train depends on more than weights and samples"),
        (assign_nothing, "train does not change the weights"),
    ],
)
def test_a_file_that_breaks_its_promise_is_refused(change: Callable[[Any], None], reason: str):
    with pytest.raises(InvalidInput) as refused:
        open_trainable(edited(change), USUAL)
    assert reason in str(refused.value)
    assert str(refused.value).isprintable()


def test_a_task_with_other_samples_is_refused():
    layout = open_trainable(SINE, USUAL).layout
    with pytest.raises(InvalidInput, match="x is 1x1, a batch of samples; the task has samples of"):
        layout.model("sine", (28, 28, 1), "mean_squared_error")


@pytest.mark.parametrize("shape", [(2, 3, 1), (1, 2, 3)])
def test_sides_of_one_do_not_count(shape: tuple[int, int, int]):
    model = open_trainable(CLASSIFIER, USUAL).layout.model("c", shape, "softmax_cross_entropy")
    assert (model.input_shape, model.outputs) == (shape, 3)


def test_an_image_is_not_taken_for_its_transpose():
    layout = open_trainable(CLASSIFIER, USUAL).layout
    with pytest.raises(InvalidInput, match="x is 4x2x3x1"):
        layout.model("c", (3, 2, 1), "softmax_cross_entropy")
