"""An `.npz` holds each layer's arrays, the vector and the spec, and is checked before it counts."""

import io
import json

import numpy as np
import pytest

from tinyfleet.export.check import Disagrees
from tinyfleet.export.npz import check_archive, npz_archive
from tinyfleet.model import model_from_document, parameters_sha256


def test_layers_vector_and_spec_come_back(trained):
    spec, parameters = trained
    content = npz_archive(spec, parameters)
    check_archive(content, spec, parameters)
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        np.testing.assert_array_equal(arrays["parameters"], parameters)
        document = json.loads(str(arrays["model"]))
        assert document.pop("parameters_sha256") == parameters_sha256(parameters)
        assert model_from_document(document) == spec
        for placed in spec.placed:
            if placed.trainable:
                shape = placed.layer.weight_shape(placed.input_shape)
                assert arrays[f"{placed.name}/weights"].shape == shape
                assert arrays[f"{placed.name}/biases"].shape == (placed.biases,)


def test_the_bytes_are_always_the_same(trained):
    assert npz_archive(*trained) == npz_archive(*trained)


def test_an_archive_of_another_model_is_not_kept(trained):
    spec, parameters = trained
    with pytest.raises(Disagrees, match="nothing was written"):
        check_archive(npz_archive(spec, parameters), spec, parameters + np.float32(1))
