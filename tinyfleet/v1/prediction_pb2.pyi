import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from tinyfleet.v1 import model_pb2 as _model_pb2
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ModelVersion(_message.Message):
    __slots__ = ("run_id", "round", "number", "parameters_sha256", "model")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_SHA256_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    round: int
    number: int
    parameters_sha256: str
    model: str
    def __init__(self, run_id: _Optional[str] = ..., round: _Optional[int] = ..., number: _Optional[int] = ..., parameters_sha256: _Optional[str] = ..., model: _Optional[str] = ...) -> None: ...

class PredictRequest(_message.Message):
    __slots__ = ("inputs", "count")
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    inputs: bytes
    count: int
    def __init__(self, inputs: _Optional[bytes] = ..., count: _Optional[int] = ...) -> None: ...

class PredictResponse(_message.Message):
    __slots__ = ("outputs", "version")
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    outputs: bytes
    version: ModelVersion
    def __init__(self, outputs: _Optional[bytes] = ..., version: _Optional[_Union[ModelVersion, _Mapping]] = ...) -> None: ...

class PredictStreamRequest(_message.Message):
    __slots__ = ("inputs", "count")
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    inputs: bytes
    count: int
    def __init__(self, inputs: _Optional[bytes] = ..., count: _Optional[int] = ...) -> None: ...

class PredictStreamResponse(_message.Message):
    __slots__ = ("outputs", "version")
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    outputs: bytes
    version: ModelVersion
    def __init__(self, outputs: _Optional[bytes] = ..., version: _Optional[_Union[ModelVersion, _Mapping]] = ...) -> None: ...

class GetModelRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetModelResponse(_message.Message):
    __slots__ = ("version", "agent", "input_height", "input_width", "input_channels", "outputs", "loss", "training_loss", "trained_time", "task")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    AGENT_FIELD_NUMBER: _ClassVar[int]
    INPUT_HEIGHT_FIELD_NUMBER: _ClassVar[int]
    INPUT_WIDTH_FIELD_NUMBER: _ClassVar[int]
    INPUT_CHANNELS_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    LOSS_FIELD_NUMBER: _ClassVar[int]
    TRAINING_LOSS_FIELD_NUMBER: _ClassVar[int]
    TRAINED_TIME_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    version: ModelVersion
    agent: str
    input_height: int
    input_width: int
    input_channels: int
    outputs: int
    loss: _model_pb2.Loss
    training_loss: float
    trained_time: _timestamp_pb2.Timestamp
    task: str
    def __init__(self, version: _Optional[_Union[ModelVersion, _Mapping]] = ..., agent: _Optional[str] = ..., input_height: _Optional[int] = ..., input_width: _Optional[int] = ..., input_channels: _Optional[int] = ..., outputs: _Optional[int] = ..., loss: _Optional[_Union[_model_pb2.Loss, str]] = ..., training_loss: _Optional[float] = ..., trained_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., task: _Optional[str] = ...) -> None: ...
