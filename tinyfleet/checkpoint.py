"""Checkpoints: one file that says by itself what it holds and whether it is whole.

The layout is specified in docs/formats/checkpoint.md. `encode` and `decode` are the format,
`save_checkpoint` and `load_checkpoint` put it on disk and read it back.
"""

from __future__ import annotations

import hashlib
import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tinyfleet.errors import InvalidInput
from tinyfleet.files import write_whole
from tinyfleet.model.document import model_from_document, model_to_document
from tinyfleet.model.extractor import extractor_from_document, extractor_to_document
from tinyfleet.model.spec import MAX_PARAMETERS, Parameters, parameters_sha256
from tinyfleet.model.trainable import trainable_from_document, trainable_to_document
from tinyfleet.run import RunSpec
from tinyfleet.strategies.base import MAX_MEMORY_VECTORS, Memory

MAGIC = b"TINYFLET"
FORMAT_VERSION = 1
FORMAT_WITH_MEMORY = 2
_PREFIX = struct.Struct("<8sIII")  # magic, format version, bytes of header, parameters
_VECTORS = struct.Struct("<I")  # of memory; behind the prefix of a file that has some
_DIGEST_BYTES = 32
MAX_HEADER_BYTES = 256 * 1024
MAX_FILE_BYTES = (
    _PREFIX.size
    + _VECTORS.size
    + MAX_HEADER_BYTES
    + 4 * MAX_PARAMETERS * (1 + MAX_MEMORY_VECTORS)
    + _DIGEST_BYTES
)

_HEADER_KEYS = {"run", "run_id", "version", "parameter_count", "parameters_sha256"}
_RUN_KEYS = {"model", "task", "task_options", "strategy", "strategy_options", "rounds", "seed"}


@dataclass(frozen=True)
class Checkpoint:
    """A model of a run.

    version: how many rounds it has been through, 0 to `run.rounds`. memory: what the server's rule
    remembers with it, vectors like the parameters; a file that a fleet made has none.
    """

    run: RunSpec
    run_id: str
    version: int
    parameters: Parameters
    memory: Memory = ()

    def __post_init__(self) -> None:
        if len(self.memory) > MAX_MEMORY_VECTORS:
            raise InvalidInput(f"a checkpoint has at most {MAX_MEMORY_VECTORS} memory vectors")
        for vector in (self.parameters, *self.memory):
            self.run.model.check_parameters(vector)
        if not 0 <= self.version <= self.run.rounds:
            raise InvalidInput(f"a run of {self.run.rounds} rounds has no version {self.version}")
        if len(self.run_id) > 128 or not self.run_id.isprintable():
            raise InvalidInput("a run id has at most 128 printable characters")


def encode(checkpoint: Checkpoint) -> bytes:
    """The checkpoint file's bytes."""
    header = _canonical_json(
        {
            "run": run_to_document(checkpoint.run),
            "run_id": checkpoint.run_id,
            "version": checkpoint.version,
            "parameter_count": len(checkpoint.parameters),
            "parameters_sha256": parameters_sha256(checkpoint.parameters),
        }
    )
    if len(header) > MAX_HEADER_BYTES:
        raise InvalidInput(f"a checkpoint's header has at most {MAX_HEADER_BYTES} bytes")
    vectors = (checkpoint.parameters, *checkpoint.memory)
    body = _prefix(checkpoint, len(header)) + header
    body += b"".join(vector.astype("<f4", copy=False).tobytes() for vector in vectors)
    return body + hashlib.sha256(body).digest()


def _prefix(checkpoint: Checkpoint, header_bytes: int) -> bytes:
    version = FORMAT_WITH_MEMORY if checkpoint.memory else FORMAT_VERSION
    prefix = _PREFIX.pack(MAGIC, version, header_bytes, len(checkpoint.parameters))
    return prefix + (_VECTORS.pack(len(checkpoint.memory)) if checkpoint.memory else b"")


def decode(data: bytes) -> Checkpoint:
    """The checkpoint in `data`; raises InvalidInput unless every byte is as it was written."""
    frame = _check_frame(data)
    count, header = frame.count, _parse(data[frame.start : frame.start + frame.header_bytes])
    offset = frame.start + frame.header_bytes
    values = np.frombuffer(data, "<f4", count * (1 + frame.vectors), offset).astype(np.float32)
    parameters, *memory = values.reshape(-1, count)
    if header["parameter_count"] != count:
        raise InvalidInput("checkpoint disagrees with itself about its parameter count")
    if header["parameters_sha256"] != parameters_sha256(parameters):
        raise InvalidInput("checkpoint disagrees with itself about its parameters' hash")
    run = run_from_document(header["run"])
    version = _whole("version", header["version"])
    return Checkpoint(run, str(header["run_id"]), version, parameters, tuple(memory))


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write the file so that a crash leaves the old one or the new one, never a part."""
    data = encode(checkpoint)
    try:
        write_whole(path, data)
    except OSError as error:
        raise InvalidInput(f"cannot write checkpoint {path}: {error.strerror}") from None


def load_checkpoint(path: Path) -> Checkpoint:
    """The checkpoint in a file; raises InvalidInput with the file and what is wrong with it."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise InvalidInput(f"cannot read checkpoint {path}: {error.strerror}") from None
    try:
        return decode(data)
    except InvalidInput as error:
        raise InvalidInput(f"{path}: {error}") from None


def run_to_document(run: RunSpec) -> dict[str, Any]:
    """The run as plain JSON values; `run_from_document` reads it back to an equal run."""
    document = {
        "model": model_to_document(run.model),
        "task": run.task,
        "task_options": dict(run.task_options),
        "strategy": run.strategy,
        "strategy_options": dict(run.strategy_options),
        "rounds": run.rounds,
        "seed": run.seed,
    }
    if run.extractor is not None:
        document["extractor"] = extractor_to_document(run.extractor)
    if run.trainable is not None:
        document["trainable"] = trainable_to_document(run.trainable)
    return document


def run_from_document(document: Any) -> RunSpec:
    """The run a document describes; unknown or missing keys are refused."""
    own = {"extractor", "trainable"} & document.keys() if isinstance(document, dict) else set()
    _check_keys("run", document, _RUN_KEYS | own)
    for key in ("model", "task_options", "strategy_options"):
        if not isinstance(document[key], dict):
            raise InvalidInput(f"a run's {key} must be an object")
    return RunSpec(
        model=model_from_document(document["model"]),
        task=str(document["task"]),
        strategy=str(document["strategy"]),
        rounds=_whole("rounds", document["rounds"]),
        seed=_whole("seed", document["seed"]),
        task_options=document["task_options"],
        strategy_options=document["strategy_options"],
        extractor=extractor_from_document(document["extractor"]) if "extractor" in own else None,
        trainable=trainable_from_document(document["trainable"]) if "trainable" in own else None,
    )


@dataclass(frozen=True)
class _Frame:
    """start: of the header. count: parameters. vectors: of memory, each of that length."""

    start: int
    header_bytes: int
    count: int
    vectors: int


def _check_frame(data: bytes) -> _Frame:
    """The sizes in a file whose length and digest are right."""
    if data[: len(MAGIC)] != MAGIC[: len(data)] or not data:
        raise InvalidInput("not a TinyFleet checkpoint")
    if len(data) < _PREFIX.size:
        raise InvalidInput(f"checkpoint is cut short: it has {len(data)} bytes")
    _, version, header_bytes, count = _PREFIX.unpack_from(data)
    if version not in (FORMAT_VERSION, FORMAT_WITH_MEMORY):
        raise InvalidInput(
            f"checkpoint has format version {version}, "
            f"this program reads {FORMAT_VERSION} and {FORMAT_WITH_MEMORY}"
        )
    start, vectors = _PREFIX.size, 0
    if version == FORMAT_WITH_MEMORY:
        start, vectors = start + _VECTORS.size, _vectors(data)
    if header_bytes > MAX_HEADER_BYTES or not 1 <= count <= MAX_PARAMETERS:
        raise InvalidInput("checkpoint is damaged: its sizes are out of range")
    _check_length(len(data), start + header_bytes + 4 * count * (1 + vectors) + _DIGEST_BYTES)
    if hashlib.sha256(data[:-_DIGEST_BYTES]).digest() != data[-_DIGEST_BYTES:]:
        raise InvalidInput("checkpoint is damaged: its SHA-256 does not match")
    return _Frame(start, header_bytes, count, vectors)


def _vectors(data: bytes) -> int:
    """How many vectors of memory a file of format 2 has."""
    if len(data) < _PREFIX.size + _VECTORS.size:
        raise InvalidInput(f"checkpoint is cut short: it has {len(data)} bytes")
    (vectors,) = _VECTORS.unpack_from(data, _PREFIX.size)
    if not 1 <= vectors <= MAX_MEMORY_VECTORS:
        raise InvalidInput("checkpoint is damaged: its sizes are out of range")
    return int(vectors)


def _check_length(length: int, expected: int) -> None:
    if length < expected:
        raise InvalidInput(f"checkpoint is cut short: {length} of {expected} bytes")
    if length > expected:
        raise InvalidInput(f"checkpoint has bytes after its end: it should have {expected}")


def _parse(header: bytes) -> dict[str, Any]:
    try:
        document = json.loads(header.decode("utf-8"))
    except (ValueError, RecursionError):
        raise InvalidInput("checkpoint's header is not JSON") from None
    _check_keys("checkpoint's header", document, _HEADER_KEYS)
    return document  # type: ignore[no-any-return]


def _check_keys(what: str, document: Any, keys: set[str]) -> None:
    if not isinstance(document, dict) or document.keys() != keys:
        raise InvalidInput(f"a {what} has exactly the keys {', '.join(sorted(keys))}")


def _whole(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidInput(f"{name} must be a whole number, got {value!r}")
    return value


def _canonical_json(document: dict[str, Any]) -> bytes:
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return text.encode("ascii")
