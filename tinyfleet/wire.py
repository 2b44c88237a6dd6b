"""Between protobuf messages and the core's own types: the edge where input is checked.

Everything that turns a message into a core type raises InvalidInput with one clear line when the
message is not valid; nothing behind this file sees a protobuf message.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
from google.protobuf import json_format, struct_pb2

from tinyfleet.errors import InvalidInput
from tinyfleet.model.extractor import Extractor
from tinyfleet.model.layers import Layer
from tinyfleet.model.spec import ModelSpec, Parameters, make_layer
from tinyfleet.model.trainable import SignatureNames, TrainableGraph
from tinyfleet.run import RunSpec
from tinyfleet.strategies.plan import AS_IT_IS, EVERYTHING, Download, Phase, TrainingPlan, Upload
from tinyfleet.v1 import model_pb2

MAX_NAME_BYTES = 256
MAX_OPTIONS_BYTES = 64 * 1024

_LOSSES = {
    "mean_squared_error": model_pb2.LOSS_MEAN_SQUARED_ERROR,
    "softmax_cross_entropy": model_pb2.LOSS_SOFTMAX_CROSS_ENTROPY,
}
_LOSS_NAMES = {number: name for name, number in _LOSSES.items()}
_PRECISIONS = {
    "float32": model_pb2.PRECISION_FLOAT32,
    "float16": model_pb2.PRECISION_FLOAT16,
    "int8": model_pb2.PRECISION_INT8,
}
_PRECISION_NAMES = {number: name for name, number in _PRECISIONS.items()}


def run_to_message(run: RunSpec) -> model_pb2.RunSpec:
    """The message for a run."""
    return model_pb2.RunSpec(
        model=_run_model_to_message(run),
        task=run.task,
        task_options=_struct(run.task_options),
        strategy=run.strategy,
        strategy_options=_struct(run.strategy_options),
        rounds=run.rounds,
        seed=run.seed,
        trainable=_trainable_to_message(run.trainable) if run.trainable else None,
    )


def run_from_message(message: model_pb2.RunSpec) -> RunSpec:
    """The run a message describes."""
    extractor, model = _run_model_from_message(message.model)
    return RunSpec(
        model=model,
        task=checked_name("task", message.task),
        strategy=checked_name("strategy", message.strategy),
        rounds=message.rounds,
        seed=message.seed,
        task_options=_options("task_options", message.task_options),
        strategy_options=_options("strategy_options", message.strategy_options),
        extractor=extractor,
        trainable=_trainable_from_message(message),
    )


def model_to_message(spec: ModelSpec) -> model_pb2.ModelSpec:
    """The message for a model."""
    height, width, channels = spec.input_shape
    return model_pb2.ModelSpec(
        name=spec.name,
        input_height=height,
        input_width=width,
        input_channels=channels,
        layers=[_layer_to_message(layer) for layer in spec.layers],
        loss=_LOSSES[spec.loss],
    )


def loss_to_message(loss: str) -> model_pb2.Loss:
    """The message's word for a loss."""
    return _LOSSES[loss]


def model_from_message(message: model_pb2.ModelSpec) -> ModelSpec:
    """The model a message describes."""
    if message.loss not in _LOSS_NAMES:
        raise InvalidInput("model.loss is not set to a known loss")
    return ModelSpec(
        name=message.name,
        input_shape=(message.input_height, message.input_width, message.input_channels),
        layers=tuple(_layer_from_message(layer) for layer in message.layers),
        loss=_LOSS_NAMES[message.loss],
    )


def plan_to_message(plan: TrainingPlan) -> model_pb2.TrainingPlan:
    """The message for a plan; defaults are left out."""
    phases = [
        model_pb2.Phase(
            samples=phase.samples,
            rate=phase.rate,
            batch_size=phase.batch_size if phase.batch_size > 1 else 0,
            passes=phase.passes if phase.passes > 1 else 0,
            trainable=phase.trainable,
            proximal=phase.proximal,
        )
        for phase in plan.phases
    ]
    upload = None if plan.upload == EVERYTHING else _upload_to_message(plan.upload)
    download = None if plan.download == AS_IT_IS else _download_to_message(plan.download)
    return model_pb2.TrainingPlan(
        phases=phases,
        local=plan.local,
        upload=upload,
        download=download,
        counted_from=plan.counted_from,
    )


def plan_from_message(message: model_pb2.TrainingPlan) -> TrainingPlan:
    """The plan a message describes."""
    return TrainingPlan(
        tuple(
            Phase(
                samples=phase.samples,
                rate=phase.rate,
                batch_size=phase.batch_size or 1,
                passes=phase.passes or 1,
                trainable=tuple(phase.trainable),
                proximal=phase.proximal,
            )
            for phase in message.phases
        ),
        tuple(message.local),
        _upload_from_message(message.upload) if message.HasField("upload") else EVERYTHING,
        _download_from_message(message.download) if message.HasField("download") else AS_IT_IS,
        counted_from=message.counted_from,
    )


def parameters_to_bytes(parameters: Parameters) -> bytes:
    """Little-endian float32, 4 bytes each."""
    return parameters.astype("<f4", copy=False).tobytes()


def parameters_from_bytes(data: bytes, count: int) -> Parameters:
    """`(count,) float32`, a copy that may be changed; raises InvalidInput on a wrong size."""
    if len(data) != 4 * count:
        raise InvalidInput(f"{count} parameters are {4 * count} bytes, got {len(data)}")
    return np.frombuffer(data, "<f4").astype(np.float32)


def checked_name(what: str, name: str) -> str:
    """`name` if it has 1 to 256 bytes and no control characters; raises InvalidInput if not."""
    if not name or len(name.encode()) > MAX_NAME_BYTES or not name.isprintable():
        raise InvalidInput(f"{what} must be 1 to {MAX_NAME_BYTES} printable bytes")
    return name


def _upload_to_message(upload: Upload) -> model_pb2.Upload:
    return model_pb2.Upload(
        fraction=upload.fraction,
        precision=_PRECISIONS[upload.precision],
        error_feedback=upload.error_feedback,
    )


def _upload_from_message(message: model_pb2.Upload) -> Upload:
    precision = _precision_named("upload", message.precision)
    return Upload(message.fraction, precision, message.error_feedback)


def _download_to_message(download: Download) -> model_pb2.Download:
    return model_pb2.Download(precision=_PRECISIONS[download.precision], changes=download.changes)


def _download_from_message(message: model_pb2.Download) -> Download:
    return Download(_precision_named("download", message.precision), message.changes)


def _precision_named(what: str, number: model_pb2.Precision) -> str:
    if number not in _PRECISION_NAMES:
        raise InvalidInput(f"{what}.precision is not set to a known precision")
    return _PRECISION_NAMES[number]


def _run_model_to_message(run: RunSpec) -> model_pb2.ModelSpec:
    """The model as the run has it: an extractor is its first layer, of a kind of its own.

    So a program that knows no extractors refuses the model, instead of training it on raw samples.
    """
    message, extractor = model_to_message(run.model), run.extractor
    if extractor is None:
        return message
    message.input_height, message.input_width, message.input_channels = extractor.input_shape
    first = model_pb2.Extractor(
        sha256=extractor.sha256, size_bytes=extractor.size, features=extractor.features
    )
    message.layers.insert(0, model_pb2.Layer(extractor=first))
    return message


def _run_model_from_message(message: model_pb2.ModelSpec) -> tuple[Extractor | None, ModelSpec]:
    if not message.layers or message.layers[0].WhichOneof("kind") != "extractor":
        return None, model_from_message(message)
    first = message.layers[0].extractor
    shape = (message.input_height, message.input_width, message.input_channels)
    extractor = Extractor(first.sha256, first.size_bytes, shape, first.features)
    behind = model_pb2.ModelSpec()
    behind.CopyFrom(message)
    behind.input_height, behind.input_width, behind.input_channels = extractor.output_shape
    del behind.layers[0]
    return extractor, model_from_message(behind)


def _layer_to_message(layer: Layer) -> model_pb2.Layer:
    message = model_pb2.Layer()
    options = getattr(message, layer.kind)
    options.SetInParent()
    for name, value in asdict(layer).items():
        setattr(options, name, value)
    return message


def _layer_from_message(message: model_pb2.Layer) -> Layer:
    kind = message.WhichOneof("kind")
    if kind is None:
        raise InvalidInput("a layer has no kind")
    options = getattr(message, kind)
    return make_layer(
        kind, {field.name: getattr(options, field.name) for field in options.DESCRIPTOR.fields}
    )


def _trainable_to_message(graph: TrainableGraph) -> model_pb2.TrainableGraph:
    return model_pb2.TrainableGraph(
        sha256=graph.sha256,
        size_bytes=graph.size,
        initial_sha256=graph.initial_sha256,
        weights=graph.weights,
        names=_struct(graph.names.to_document()),
    )


def _trainable_from_message(run: model_pb2.RunSpec) -> TrainableGraph | None:
    if not run.HasField("trainable"):
        return None
    graph = run.trainable
    return TrainableGraph(
        sha256=graph.sha256,
        size=graph.size_bytes,
        initial_sha256=graph.initial_sha256,
        weights=tuple(graph.weights),
        names=SignatureNames.of(_options("trainable.names", graph.names)),
    )


def _struct(options: Mapping[str, Any]) -> struct_pb2.Struct:
    message = struct_pb2.Struct()
    message.update(dict(options))
    return message


def _options(what: str, message: struct_pb2.Struct) -> dict[str, Any]:
    if message.ByteSize() > MAX_OPTIONS_BYTES:
        raise InvalidInput(f"{what} has more than {MAX_OPTIONS_BYTES} bytes")
    try:
        options = json_format.MessageToDict(message)
    except (json_format.SerializeToJsonError, ValueError) as error:
        raise InvalidInput(f"{what} holds what is no JSON value: {error}") from None
    return {name: _number(value) for name, value in options.items()}


def _number(value: Any) -> Any:
    """A Struct knows floats only: a whole number is an int again."""
    return int(value) if isinstance(value, float) and value.is_integer() else value
