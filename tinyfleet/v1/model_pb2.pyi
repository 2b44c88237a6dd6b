from google.protobuf import struct_pb2 as _struct_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Loss(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    LOSS_UNSPECIFIED: _ClassVar[Loss]
    LOSS_MEAN_SQUARED_ERROR: _ClassVar[Loss]
    LOSS_SOFTMAX_CROSS_ENTROPY: _ClassVar[Loss]

class Precision(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PRECISION_UNSPECIFIED: _ClassVar[Precision]
    PRECISION_FLOAT32: _ClassVar[Precision]
    PRECISION_FLOAT16: _ClassVar[Precision]
    PRECISION_INT8: _ClassVar[Precision]
LOSS_UNSPECIFIED: Loss
LOSS_MEAN_SQUARED_ERROR: Loss
LOSS_SOFTMAX_CROSS_ENTROPY: Loss
PRECISION_UNSPECIFIED: Precision
PRECISION_FLOAT32: Precision
PRECISION_FLOAT16: Precision
PRECISION_INT8: Precision

class ModelSpec(_message.Message):
    __slots__ = ("name", "input_height", "input_width", "input_channels", "layers", "loss")
    NAME_FIELD_NUMBER: _ClassVar[int]
    INPUT_HEIGHT_FIELD_NUMBER: _ClassVar[int]
    INPUT_WIDTH_FIELD_NUMBER: _ClassVar[int]
    INPUT_CHANNELS_FIELD_NUMBER: _ClassVar[int]
    LAYERS_FIELD_NUMBER: _ClassVar[int]
    LOSS_FIELD_NUMBER: _ClassVar[int]
    name: str
    input_height: int
    input_width: int
    input_channels: int
    layers: _containers.RepeatedCompositeFieldContainer[Layer]
    loss: Loss
    def __init__(self, name: _Optional[str] = ..., input_height: _Optional[int] = ..., input_width: _Optional[int] = ..., input_channels: _Optional[int] = ..., layers: _Optional[_Iterable[_Union[Layer, _Mapping]]] = ..., loss: _Optional[_Union[Loss, str]] = ...) -> None: ...

class Layer(_message.Message):
    __slots__ = ("dense", "conv2d", "depthwise_conv2d", "max_pool2d", "average_pool2d", "global_average_pool2d", "flatten", "relu", "tanh", "extractor", "tensor")
    DENSE_FIELD_NUMBER: _ClassVar[int]
    CONV2D_FIELD_NUMBER: _ClassVar[int]
    DEPTHWISE_CONV2D_FIELD_NUMBER: _ClassVar[int]
    MAX_POOL2D_FIELD_NUMBER: _ClassVar[int]
    AVERAGE_POOL2D_FIELD_NUMBER: _ClassVar[int]
    GLOBAL_AVERAGE_POOL2D_FIELD_NUMBER: _ClassVar[int]
    FLATTEN_FIELD_NUMBER: _ClassVar[int]
    RELU_FIELD_NUMBER: _ClassVar[int]
    TANH_FIELD_NUMBER: _ClassVar[int]
    EXTRACTOR_FIELD_NUMBER: _ClassVar[int]
    TENSOR_FIELD_NUMBER: _ClassVar[int]
    dense: Dense
    conv2d: Conv2D
    depthwise_conv2d: DepthwiseConv2D
    max_pool2d: Pool2D
    average_pool2d: Pool2D
    global_average_pool2d: GlobalAveragePool2D
    flatten: Flatten
    relu: ReLU
    tanh: Tanh
    extractor: Extractor
    tensor: Tensor
    def __init__(self, dense: _Optional[_Union[Dense, _Mapping]] = ..., conv2d: _Optional[_Union[Conv2D, _Mapping]] = ..., depthwise_conv2d: _Optional[_Union[DepthwiseConv2D, _Mapping]] = ..., max_pool2d: _Optional[_Union[Pool2D, _Mapping]] = ..., average_pool2d: _Optional[_Union[Pool2D, _Mapping]] = ..., global_average_pool2d: _Optional[_Union[GlobalAveragePool2D, _Mapping]] = ..., flatten: _Optional[_Union[Flatten, _Mapping]] = ..., relu: _Optional[_Union[ReLU, _Mapping]] = ..., tanh: _Optional[_Union[Tanh, _Mapping]] = ..., extractor: _Optional[_Union[Extractor, _Mapping]] = ..., tensor: _Optional[_Union[Tensor, _Mapping]] = ...) -> None: ...

class Dense(_message.Message):
    __slots__ = ("units",)
    UNITS_FIELD_NUMBER: _ClassVar[int]
    units: int
    def __init__(self, units: _Optional[int] = ...) -> None: ...

class Conv2D(_message.Message):
    __slots__ = ("filters", "kernel", "stride", "padding")
    FILTERS_FIELD_NUMBER: _ClassVar[int]
    KERNEL_FIELD_NUMBER: _ClassVar[int]
    STRIDE_FIELD_NUMBER: _ClassVar[int]
    PADDING_FIELD_NUMBER: _ClassVar[int]
    filters: int
    kernel: int
    stride: int
    padding: int
    def __init__(self, filters: _Optional[int] = ..., kernel: _Optional[int] = ..., stride: _Optional[int] = ..., padding: _Optional[int] = ...) -> None: ...

class DepthwiseConv2D(_message.Message):
    __slots__ = ("kernel", "stride", "padding")
    KERNEL_FIELD_NUMBER: _ClassVar[int]
    STRIDE_FIELD_NUMBER: _ClassVar[int]
    PADDING_FIELD_NUMBER: _ClassVar[int]
    kernel: int
    stride: int
    padding: int
    def __init__(self, kernel: _Optional[int] = ..., stride: _Optional[int] = ..., padding: _Optional[int] = ...) -> None: ...

class Pool2D(_message.Message):
    __slots__ = ("kernel", "stride")
    KERNEL_FIELD_NUMBER: _ClassVar[int]
    STRIDE_FIELD_NUMBER: _ClassVar[int]
    kernel: int
    stride: int
    def __init__(self, kernel: _Optional[int] = ..., stride: _Optional[int] = ...) -> None: ...

class GlobalAveragePool2D(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Flatten(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ReLU(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Tanh(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Extractor(_message.Message):
    __slots__ = ("sha256", "size_bytes", "features")
    SHA256_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    sha256: str
    size_bytes: int
    features: int
    def __init__(self, sha256: _Optional[str] = ..., size_bytes: _Optional[int] = ..., features: _Optional[int] = ...) -> None: ...

class Tensor(_message.Message):
    __slots__ = ("values", "outputs")
    VALUES_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    values: int
    outputs: int
    def __init__(self, values: _Optional[int] = ..., outputs: _Optional[int] = ...) -> None: ...

class TrainingPlan(_message.Message):
    __slots__ = ("phases", "local", "upload", "download", "counted_from")
    PHASES_FIELD_NUMBER: _ClassVar[int]
    LOCAL_FIELD_NUMBER: _ClassVar[int]
    UPLOAD_FIELD_NUMBER: _ClassVar[int]
    DOWNLOAD_FIELD_NUMBER: _ClassVar[int]
    COUNTED_FROM_FIELD_NUMBER: _ClassVar[int]
    phases: _containers.RepeatedCompositeFieldContainer[Phase]
    local: _containers.RepeatedScalarFieldContainer[str]
    upload: Upload
    download: Download
    counted_from: int
    def __init__(self, phases: _Optional[_Iterable[_Union[Phase, _Mapping]]] = ..., local: _Optional[_Iterable[str]] = ..., upload: _Optional[_Union[Upload, _Mapping]] = ..., download: _Optional[_Union[Download, _Mapping]] = ..., counted_from: _Optional[int] = ...) -> None: ...

class Upload(_message.Message):
    __slots__ = ("fraction", "precision", "error_feedback")
    FRACTION_FIELD_NUMBER: _ClassVar[int]
    PRECISION_FIELD_NUMBER: _ClassVar[int]
    ERROR_FEEDBACK_FIELD_NUMBER: _ClassVar[int]
    fraction: float
    precision: Precision
    error_feedback: bool
    def __init__(self, fraction: _Optional[float] = ..., precision: _Optional[_Union[Precision, str]] = ..., error_feedback: _Optional[bool] = ...) -> None: ...

class Download(_message.Message):
    __slots__ = ("precision", "changes")
    PRECISION_FIELD_NUMBER: _ClassVar[int]
    CHANGES_FIELD_NUMBER: _ClassVar[int]
    precision: Precision
    changes: bool
    def __init__(self, precision: _Optional[_Union[Precision, str]] = ..., changes: _Optional[bool] = ...) -> None: ...

class Phase(_message.Message):
    __slots__ = ("samples", "rate", "batch_size", "passes", "trainable", "proximal")
    SAMPLES_FIELD_NUMBER: _ClassVar[int]
    RATE_FIELD_NUMBER: _ClassVar[int]
    BATCH_SIZE_FIELD_NUMBER: _ClassVar[int]
    PASSES_FIELD_NUMBER: _ClassVar[int]
    TRAINABLE_FIELD_NUMBER: _ClassVar[int]
    PROXIMAL_FIELD_NUMBER: _ClassVar[int]
    samples: int
    rate: float
    batch_size: int
    passes: int
    trainable: _containers.RepeatedScalarFieldContainer[str]
    proximal: float
    def __init__(self, samples: _Optional[int] = ..., rate: _Optional[float] = ..., batch_size: _Optional[int] = ..., passes: _Optional[int] = ..., trainable: _Optional[_Iterable[str]] = ..., proximal: _Optional[float] = ...) -> None: ...

class RunSpec(_message.Message):
    __slots__ = ("model", "task", "task_options", "strategy", "strategy_options", "rounds", "seed", "trainable")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    TASK_OPTIONS_FIELD_NUMBER: _ClassVar[int]
    STRATEGY_FIELD_NUMBER: _ClassVar[int]
    STRATEGY_OPTIONS_FIELD_NUMBER: _ClassVar[int]
    ROUNDS_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    TRAINABLE_FIELD_NUMBER: _ClassVar[int]
    model: ModelSpec
    task: str
    task_options: _struct_pb2.Struct
    strategy: str
    strategy_options: _struct_pb2.Struct
    rounds: int
    seed: int
    trainable: TrainableGraph
    def __init__(self, model: _Optional[_Union[ModelSpec, _Mapping]] = ..., task: _Optional[str] = ..., task_options: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ..., strategy: _Optional[str] = ..., strategy_options: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ..., rounds: _Optional[int] = ..., seed: _Optional[int] = ..., trainable: _Optional[_Union[TrainableGraph, _Mapping]] = ...) -> None: ...

class TrainableGraph(_message.Message):
    __slots__ = ("sha256", "size_bytes", "initial_sha256", "weights", "names")
    SHA256_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    INITIAL_SHA256_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    NAMES_FIELD_NUMBER: _ClassVar[int]
    sha256: str
    size_bytes: int
    initial_sha256: str
    weights: _containers.RepeatedScalarFieldContainer[str]
    names: _struct_pb2.Struct
    def __init__(self, sha256: _Optional[str] = ..., size_bytes: _Optional[int] = ..., initial_sha256: _Optional[str] = ..., weights: _Optional[_Iterable[str]] = ..., names: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ...) -> None: ...
