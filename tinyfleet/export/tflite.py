"""A model as a float32 `.tflite` file, written without TensorFlow.

The input is named `input`, `(1, n)` or `(1, height, width, channels)`, and the output `output`,
`(1, outputs)`: what the learner's `predict` says, logits for a classifier, or their softmax where
probabilities are asked for.
"""

from __future__ import annotations

import json

import numpy as np

from tinyfleet.errors import InvalidInput
from tinyfleet.export.layers import (
    FloatValues,
    Values,
    input_tensor_shape,
    write_layers,
    write_softmax,
)
from tinyfleet.export.writer import GraphWriter, Tensor
from tinyfleet.litert.file import TfliteFile
from tinyfleet.model.spec import ModelSpec, Parameters, parameters_sha256


def float_tflite(
    spec: ModelSpec, parameters: Parameters, probabilities: bool = False
) -> TfliteFile:
    """The file; the same spec and parameters give the same bytes.

    Raises InvalidInput without LiteRT's schema, for parameters that do not fit or are not finite,
    and for probabilities of a model that is no classifier.
    """
    check_exportable(spec, parameters, probabilities)
    writer = GraphWriter()
    x = writer.input("input", input_tensor_shape(spec))
    output = write_model(writer, spec, parameters, x, FloatValues(), probabilities)
    return writer.finish([output])


def write_model(
    writer: GraphWriter,
    spec: ModelSpec,
    parameters: Parameters,
    x: Tensor,
    values: Values,
    probabilities: bool,
) -> Tensor:
    """Layers, the softmax that was asked for, and what the file says of itself."""
    output = write_layers(writer, spec, parameters, x, values)
    sha256 = parameters_sha256(parameters)
    facts = {"model": spec.name, "parameters_sha256": sha256, "probabilities": probabilities}
    writer.describe(
        f"{spec.name}, parameters {sha256}",
        json.dumps(facts, sort_keys=True, separators=(",", ":")).encode(),
    )
    return write_softmax(writer, output, values) if probabilities else output


def check_exportable(spec: ModelSpec, parameters: Parameters, probabilities: bool) -> None:
    """Raise InvalidInput unless the parameters fit and are finite, and probabilities make sense."""
    if not np.isfinite(spec.check_parameters(parameters)).all():
        raise InvalidInput("the parameters are not all finite: this training diverged")
    if probabilities and spec.loss != "softmax_cross_entropy":
        raise InvalidInput(f"model '{spec.name}' is no classifier: it has no probabilities")
