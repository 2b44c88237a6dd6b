"""One `.tflite` of an extractor and the head that was learned behind it.

The head's operators follow the extractor's in the same graph, so that a product needs one file and
one call. What the extractor takes stays as it is.
"""

from __future__ import annotations

from tinyfleet.errors import InvalidInput
from tinyfleet.export.layers import FloatValues, Values
from tinyfleet.export.quantize import Int8Values, Ranges, ranges_of
from tinyfleet.export.tflite import check_exportable, write_model
from tinyfleet.export.writer import GraphWriter, Tensor, values_of
from tinyfleet.learner.protocol import Floats
from tinyfleet.litert.file import TfliteFile
from tinyfleet.model.spec import ModelSpec, Parameters


def append_head(
    extractor: TfliteFile, spec: ModelSpec, parameters: Parameters, probabilities: bool = False
) -> TfliteFile:
    """The extractor with a float32 head; int8 features are converted in between.

    extractor: one that `tinyfleet.litert.graph.Graph` takes. spec: of the head, whose inputs are
    the extractor's features. Raises InvalidInput when they are not, when the file does not follow
    its schema, and like `float_tflite`.
    """
    check_exportable(spec, parameters, probabilities)
    writer, features = _opened(extractor, spec)
    output = write_model(writer, spec, parameters, features, FloatValues(), probabilities)
    return writer.finish([output])


def append_int8_head(
    extractor: TfliteFile,
    spec: ModelSpec,
    parameters: Parameters,
    calibration: Floats,
    probabilities: bool = False,
) -> TfliteFile:
    """The extractor with an int8 head, whose output is of the type of the extractor's input.

    calibration: `(count, values) float32`, what the extractor sees. Raises InvalidInput as above.
    """
    check_exportable(spec, parameters, probabilities)
    values: Values = Int8Values(_ranges(extractor, spec, parameters, calibration))
    writer, features = _opened(extractor, spec)
    output = write_model(writer, spec, parameters, features, values, probabilities)
    if writer.takes_floats():
        output = FloatValues().enter(writer, output)
    return writer.finish([output])


def _opened(extractor: TfliteFile, spec: ModelSpec) -> tuple[GraphWriter, Tensor]:
    writer = GraphWriter(extractor)
    features = writer.only_output()
    if values_of(features) != spec.inputs:
        raise InvalidInput(
            f"the extractor has {values_of(features)} features, model '{spec.name}' takes "
            f"{spec.inputs}"
        )
    return writer, features


def _ranges(
    extractor: TfliteFile, spec: ModelSpec, parameters: Parameters, calibration: Floats
) -> Ranges:
    """Of the features, unless they have a scale already, and of what the head makes of them."""
    writer, features = _opened(extractor, spec)
    write_model(writer, spec, parameters, features, FloatValues(), probabilities=False)
    floats = [] if features.quantization else [features]
    outputs = [*floats, *writer.written]
    return ranges_of(writer.finish(outputs), outputs, calibration)
