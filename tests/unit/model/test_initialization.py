"""Version 0 of a model is the same on every machine."""

import numpy as np
import pytest

from tinyfleet.model import builtin_model, initial_parameters, parameters_sha256

MSE, CE = "mean_squared_error", "softmax_cross_entropy"

# Computed once; only exactly rounded operations are involved, so no machine may differ.
GOLDEN = {
    ("mlp_32", 0): "dfc18e93012aaff69e644ff0bebb5dbbc82afa9c708d06504bb1df444c3f4511",
    ("mlp_32", 1): "fb65943782b8aae99d3e487c552334884e565444e390aae21d55fd4f4735b9b4",
    ("mlp_64", 0): "ed0aa08ab242a9a4739f3d4c79b1164a7b1fd3cf85d9f7de11a22299f955f5ff",
    ("mlp_64", 1): "bba1b0f6242ff7434f7d9a0b38187313e0138b4844fd2a492a57488e00243aef",
    ("cnn_s", 0): "54432a62c7d707dd0961c98e2fb7d842c3059bd71e4306103471897bc5b02ade",
    ("cnn_s", 1): "dc7d847fe2ca950a9cd5354ef5a0342110d2591c5f80c435254a4d41ca58e38a",
    ("cnn_m", 0): "1f8213923e667b53300e386aba9712ba243dcf7f9b7b1a466dbd5c66e47888d4",
    ("cnn_m", 1): "7f6e7533a78ece4a4f9e79dbb781f1d74d538b7f1aa9ac529cacfb49ae4f73e7",
}


@pytest.mark.parametrize(("name", "seed"), sorted(GOLDEN))
def test_initial_parameters_never_change(name, seed):
    assert parameters_sha256(initial_parameters(_model(name), seed)) == GOLDEN[name, seed]


def test_biases_are_zero_and_weights_within_their_bound():
    model = _model("cnn_s")
    parameters = initial_parameters(model, 3)
    trainable = [placed for placed in model.placed if placed.trainable]
    for placed in trainable:
        weights = parameters[placed.start : placed.start + placed.weights]
        biases = parameters[placed.start + placed.weights : placed.stop]
        bound = np.sqrt(6.0 / placed.layer.fan_in(placed.input_shape))
        bound *= 0.1 if placed is trainable[-1] else 1.0
        assert not biases.any()
        assert np.abs(weights).max() <= np.float32(bound)
        assert np.abs(weights).max() > 0.8 * bound
        assert abs(float(weights.mean())) < 0.2 * bound


def test_seeds_differ():
    model = _model("mlp_32")
    assert not np.array_equal(initial_parameters(model, 1), initial_parameters(model, 2))


def _model(name):
    if name.startswith("mlp"):
        return builtin_model(name, (1, 1, 1), 1, MSE)
    return builtin_model(name, (28, 28, 1), 5, CE)
