from tinyfleet.v1 import model_pb2 as _model_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class UpdateEncoding(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    UPDATE_ENCODING_UNSPECIFIED: _ClassVar[UpdateEncoding]
    UPDATE_ENCODING_DENSE_FLOAT32: _ClassVar[UpdateEncoding]
    UPDATE_ENCODING_SELECTED: _ClassVar[UpdateEncoding]

class ReceiptStatus(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    RECEIPT_STATUS_UNSPECIFIED: _ClassVar[ReceiptStatus]
    RECEIPT_STATUS_ACCEPTED: _ClassVar[ReceiptStatus]
    RECEIPT_STATUS_LATE: _ClassVar[ReceiptStatus]
    RECEIPT_STATUS_INVALID: _ClassVar[ReceiptStatus]
    RECEIPT_STATUS_RETRY: _ClassVar[ReceiptStatus]
UPDATE_ENCODING_UNSPECIFIED: UpdateEncoding
UPDATE_ENCODING_DENSE_FLOAT32: UpdateEncoding
UPDATE_ENCODING_SELECTED: UpdateEncoding
RECEIPT_STATUS_UNSPECIFIED: ReceiptStatus
RECEIPT_STATUS_ACCEPTED: ReceiptStatus
RECEIPT_STATUS_LATE: ReceiptStatus
RECEIPT_STATUS_INVALID: ReceiptStatus
RECEIPT_STATUS_RETRY: ReceiptStatus

class OpenRunRequest(_message.Message):
    __slots__ = ("run_id", "spec", "grant_key")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    SPEC_FIELD_NUMBER: _ClassVar[int]
    GRANT_KEY_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    spec: _model_pb2.RunSpec
    grant_key: bytes
    def __init__(self, run_id: _Optional[str] = ..., spec: _Optional[_Union[_model_pb2.RunSpec, _Mapping]] = ..., grant_key: _Optional[bytes] = ...) -> None: ...

class OpenRunResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class CloseRoundRequest(_message.Message):
    __slots__ = ("run_id", "round")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    round: int
    def __init__(self, run_id: _Optional[str] = ..., round: _Optional[int] = ...) -> None: ...

class CloseRoundResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class EndRunRequest(_message.Message):
    __slots__ = ("run_id",)
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    def __init__(self, run_id: _Optional[str] = ...) -> None: ...

class EndRunResponse(_message.Message):
    __slots__ = ("version", "parameters_sha256")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_SHA256_FIELD_NUMBER: _ClassVar[int]
    version: int
    parameters_sha256: str
    def __init__(self, version: _Optional[int] = ..., parameters_sha256: _Optional[str] = ...) -> None: ...

class WatchModelRequest(_message.Message):
    __slots__ = ("run_id",)
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    def __init__(self, run_id: _Optional[str] = ...) -> None: ...

class WatchModelResponse(_message.Message):
    __slots__ = ("version", "parameters", "received_slots", "refused", "closed", "ended", "totals", "problem", "open_slots")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    RECEIVED_SLOTS_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    CLOSED_FIELD_NUMBER: _ClassVar[int]
    ENDED_FIELD_NUMBER: _ClassVar[int]
    TOTALS_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    OPEN_SLOTS_FIELD_NUMBER: _ClassVar[int]
    version: int
    parameters: bytes
    received_slots: _containers.RepeatedScalarFieldContainer[int]
    refused: _containers.RepeatedCompositeFieldContainer[RefusedUpdate]
    closed: _containers.RepeatedCompositeFieldContainer[ClosedRound]
    ended: bool
    totals: RunTotals
    problem: str
    open_slots: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, version: _Optional[int] = ..., parameters: _Optional[bytes] = ..., received_slots: _Optional[_Iterable[int]] = ..., refused: _Optional[_Iterable[_Union[RefusedUpdate, _Mapping]]] = ..., closed: _Optional[_Iterable[_Union[ClosedRound, _Mapping]]] = ..., ended: _Optional[bool] = ..., totals: _Optional[_Union[RunTotals, _Mapping]] = ..., problem: _Optional[str] = ..., open_slots: _Optional[_Iterable[int]] = ...) -> None: ...

class RunTotals(_message.Message):
    __slots__ = ("updates", "samples", "bytes_up", "diverged", "bytes_down")
    UPDATES_FIELD_NUMBER: _ClassVar[int]
    SAMPLES_FIELD_NUMBER: _ClassVar[int]
    BYTES_UP_FIELD_NUMBER: _ClassVar[int]
    DIVERGED_FIELD_NUMBER: _ClassVar[int]
    BYTES_DOWN_FIELD_NUMBER: _ClassVar[int]
    updates: int
    samples: int
    bytes_up: int
    diverged: int
    bytes_down: int
    def __init__(self, updates: _Optional[int] = ..., samples: _Optional[int] = ..., bytes_up: _Optional[int] = ..., diverged: _Optional[int] = ..., bytes_down: _Optional[int] = ...) -> None: ...

class RefusedUpdate(_message.Message):
    __slots__ = ("assignment_id", "reason", "stale")
    ASSIGNMENT_ID_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    STALE_FIELD_NUMBER: _ClassVar[int]
    assignment_id: str
    reason: str
    stale: bool
    def __init__(self, assignment_id: _Optional[str] = ..., reason: _Optional[str] = ..., stale: _Optional[bool] = ...) -> None: ...

class ClosedRound(_message.Message):
    __slots__ = ("round", "updates", "loss", "samples", "bytes_up", "slowest_training_us", "diverged", "bytes_down", "staleness")
    ROUND_FIELD_NUMBER: _ClassVar[int]
    UPDATES_FIELD_NUMBER: _ClassVar[int]
    LOSS_FIELD_NUMBER: _ClassVar[int]
    SAMPLES_FIELD_NUMBER: _ClassVar[int]
    BYTES_UP_FIELD_NUMBER: _ClassVar[int]
    SLOWEST_TRAINING_US_FIELD_NUMBER: _ClassVar[int]
    DIVERGED_FIELD_NUMBER: _ClassVar[int]
    BYTES_DOWN_FIELD_NUMBER: _ClassVar[int]
    STALENESS_FIELD_NUMBER: _ClassVar[int]
    round: int
    updates: int
    loss: float
    samples: int
    bytes_up: int
    slowest_training_us: int
    diverged: int
    bytes_down: int
    staleness: float
    def __init__(self, round: _Optional[int] = ..., updates: _Optional[int] = ..., loss: _Optional[float] = ..., samples: _Optional[int] = ..., bytes_up: _Optional[int] = ..., slowest_training_us: _Optional[int] = ..., diverged: _Optional[int] = ..., bytes_down: _Optional[int] = ..., staleness: _Optional[float] = ...) -> None: ...

class FetchModelRequest(_message.Message):
    __slots__ = ("run_id", "version", "shared_only")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    SHARED_ONLY_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    version: int
    shared_only: bool
    def __init__(self, run_id: _Optional[str] = ..., version: _Optional[int] = ..., shared_only: _Optional[bool] = ...) -> None: ...

class FetchModelResponse(_message.Message):
    __slots__ = ("version", "total_bytes", "data", "spec")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    TOTAL_BYTES_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    SPEC_FIELD_NUMBER: _ClassVar[int]
    version: int
    total_bytes: int
    data: bytes
    spec: _model_pb2.RunSpec
    def __init__(self, version: _Optional[int] = ..., total_bytes: _Optional[int] = ..., data: _Optional[bytes] = ..., spec: _Optional[_Union[_model_pb2.RunSpec, _Mapping]] = ...) -> None: ...

class PutFileRequest(_message.Message):
    __slots__ = ("sha256", "size_bytes", "data")
    SHA256_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    sha256: str
    size_bytes: int
    data: bytes
    def __init__(self, sha256: _Optional[str] = ..., size_bytes: _Optional[int] = ..., data: _Optional[bytes] = ...) -> None: ...

class PutFileResponse(_message.Message):
    __slots__ = ("was_there",)
    WAS_THERE_FIELD_NUMBER: _ClassVar[int]
    was_there: bool
    def __init__(self, was_there: _Optional[bool] = ...) -> None: ...

class FetchFileRequest(_message.Message):
    __slots__ = ("sha256",)
    SHA256_FIELD_NUMBER: _ClassVar[int]
    sha256: str
    def __init__(self, sha256: _Optional[str] = ...) -> None: ...

class FetchFileResponse(_message.Message):
    __slots__ = ("size_bytes", "data")
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    size_bytes: int
    data: bytes
    def __init__(self, size_bytes: _Optional[int] = ..., data: _Optional[bytes] = ...) -> None: ...

class SubmitUpdatesRequest(_message.Message):
    __slots__ = ("header", "data")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    header: UpdateHeader
    data: bytes
    def __init__(self, header: _Optional[_Union[UpdateHeader, _Mapping]] = ..., data: _Optional[bytes] = ...) -> None: ...

class UpdateHeader(_message.Message):
    __slots__ = ("assignment_id", "run_id", "round", "slot", "base_version", "total_bytes", "encoding", "samples", "loss", "training_us", "diverged", "start_bytes", "agent", "grant")
    ASSIGNMENT_ID_FIELD_NUMBER: _ClassVar[int]
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    SLOT_FIELD_NUMBER: _ClassVar[int]
    BASE_VERSION_FIELD_NUMBER: _ClassVar[int]
    TOTAL_BYTES_FIELD_NUMBER: _ClassVar[int]
    ENCODING_FIELD_NUMBER: _ClassVar[int]
    SAMPLES_FIELD_NUMBER: _ClassVar[int]
    LOSS_FIELD_NUMBER: _ClassVar[int]
    TRAINING_US_FIELD_NUMBER: _ClassVar[int]
    DIVERGED_FIELD_NUMBER: _ClassVar[int]
    START_BYTES_FIELD_NUMBER: _ClassVar[int]
    AGENT_FIELD_NUMBER: _ClassVar[int]
    GRANT_FIELD_NUMBER: _ClassVar[int]
    assignment_id: str
    run_id: str
    round: int
    slot: int
    base_version: int
    total_bytes: int
    encoding: UpdateEncoding
    samples: int
    loss: float
    training_us: int
    diverged: bool
    start_bytes: int
    agent: str
    grant: bytes
    def __init__(self, assignment_id: _Optional[str] = ..., run_id: _Optional[str] = ..., round: _Optional[int] = ..., slot: _Optional[int] = ..., base_version: _Optional[int] = ..., total_bytes: _Optional[int] = ..., encoding: _Optional[_Union[UpdateEncoding, str]] = ..., samples: _Optional[int] = ..., loss: _Optional[float] = ..., training_us: _Optional[int] = ..., diverged: _Optional[bool] = ..., start_bytes: _Optional[int] = ..., agent: _Optional[str] = ..., grant: _Optional[bytes] = ...) -> None: ...

class SubmitUpdatesResponse(_message.Message):
    __slots__ = ("assignment_id", "status", "message")
    ASSIGNMENT_ID_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    assignment_id: str
    status: ReceiptStatus
    message: str
    def __init__(self, assignment_id: _Optional[str] = ..., status: _Optional[_Union[ReceiptStatus, str]] = ..., message: _Optional[str] = ...) -> None: ...
