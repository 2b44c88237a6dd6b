"""The C learner, loaded with ctypes: one call per phase, during which Python's lock is released."""

from __future__ import annotations

import ctypes
from ctypes import POINTER, byref, c_double, c_float, c_uint32, c_uint64, c_void_p
from functools import cache
from pathlib import Path

import numpy as np

from tinyfleet.errors import DoesNotFit, InvalidInput
from tinyfleet.learner.layer_table import LOSS_CODES, layer_table
from tinyfleet.learner.protocol import (
    Floats,
    Samples,
    Trained,
    check_inputs,
    check_phase,
    check_samples,
)
from tinyfleet.model.spec import ModelSpec, Parameters
from tinyfleet.strategies.plan import Phase

LIBRARY = Path(__file__).with_name("_native.so")
ABI_VERSION = 2  # MUST match LEARNER_ABI_VERSION in learner.h
OK, BAD_LAYER, TOO_LARGE, ARENA_TOO_SMALL, BAD_ARGUMENT, DIVERGED = range(6)
_ALIGNMENT = 64  # bytes: a cache line, so that vectors of the first output do not straddle two


class Size(ctypes.Structure):
    """`learner_size_t`: what a network needs; counts are of floats."""

    _fields_ = (
        ("inputs", c_uint32),
        ("outputs", c_uint32),
        ("parameters", c_uint32),
        ("arena_bytes", c_uint32),
    )


class PhaseRecord(ctypes.Structure):
    """`learner_phase_t`."""

    _fields_ = (
        ("trainable", c_uint64),
        ("samples", c_uint32),
        ("batch_size", c_uint32),
        ("passes", c_uint32),
        ("rate", c_float),
        ("proximal", c_float),
    )


class Outcome(ctypes.Structure):
    """`learner_outcome_t`."""

    _fields_ = (("loss_sum", c_double), ("losses", c_uint64), ("updates", c_uint64))


_SIGNATURES: dict[str, tuple[object, ...]] = {
    "learner_measure": (c_void_p, c_uint32, POINTER(Size)),
    "learner_init": (c_void_p, c_void_p, c_uint32, c_uint32, c_void_p, ctypes.c_size_t),
    "learner_train_phase": (
        *(c_void_p, c_void_p, c_void_p, c_void_p),
        *(POINTER(PhaseRecord), c_void_p, c_void_p, POINTER(Outcome)),
    ),
    "learner_predict_all": (c_void_p, c_void_p, c_void_p, c_uint32, c_void_p),
    "learner_losses_all": (c_void_p, c_void_p, c_void_p, c_void_p, c_uint32, c_void_p),
}


@cache
def load_library(path: Path = LIBRARY) -> ctypes.CDLL:
    """The C learner at `path`; raises DoesNotFit when it is missing, broken or stale."""
    if not path.is_file():
        raise DoesNotFit("no C learner in this installation: install gcc and run `make setup`")
    try:
        library = ctypes.CDLL(str(path))
        version = int(library.learner_abi_version())
    except (OSError, AttributeError) as error:
        raise DoesNotFit(f"cannot load the C learner ({error}): run `make setup`") from None
    if version != ABI_VERSION:
        raise DoesNotFit(
            f"the C learner has version {version}, this code needs {ABI_VERSION}: run `make setup`"
        )
    for name, arguments in _SIGNATURES.items():
        getattr(library, name).argtypes = arguments
    library.learner_predict_all.restype = library.learner_losses_all.restype = None
    library.learner_struct_bytes.restype = c_uint32
    return library


class NativeLearner:
    """The Learner that runs in production: strict float32, the same bits as a Cortex-M4."""

    def __init__(self, spec: ModelSpec, library: ctypes.CDLL | None = None) -> None:
        """Raises DoesNotFit without a C learner, InvalidInput for a model beyond its bounds."""
        self._spec = spec
        self._library = library or load_library()
        self._table = ctypes.create_string_buffer(layer_table(spec), 20 * len(spec.layers))
        arena_bytes = self._measure().arena_bytes
        self._arena = np.empty(arena_bytes + _ALIGNMENT, np.uint8)
        self._memory = ctypes.create_string_buffer(self._library.learner_struct_bytes())
        self._learner = ctypes.addressof(self._memory)
        self._init(_aligned(self._arena, 12 * len(spec.layers)), arena_bytes)
        self._gradient: Parameters | None = None
        self._outcome = Outcome()
        self._phase: Phase | None = None
        self._phase_record = PhaseRecord()

    @property
    def spec(self) -> ModelSpec:
        return self._spec

    @property
    def arena_bytes(self) -> int:
        """Bytes of the arena the C learner asked for."""
        return int(self._measure().arena_bytes)

    def predict(self, parameters: Parameters, inputs: Floats) -> Floats:
        rows = np.ascontiguousarray(check_inputs(self._spec, inputs))
        outputs = np.empty((len(rows), self._spec.outputs), np.float32)
        self._library.learner_predict_all(
            self._learner, self._readable(parameters), _address(rows), len(rows), _address(outputs)
        )
        return outputs

    def losses(self, parameters: Parameters, samples: Samples) -> Floats:
        check_samples(self._spec, samples)
        xs, ts = np.ascontiguousarray(samples.inputs), np.ascontiguousarray(samples.targets)
        losses = np.empty(len(xs), np.float32)
        self._library.learner_losses_all(
            *(self._learner, self._readable(parameters), _address(xs), _address(ts)),
            *(len(xs), _address(losses)),
        )
        return losses

    def train(
        self,
        parameters: Parameters,
        samples: Samples,
        phase: Phase,
        start: Parameters | None = None,
    ) -> Trained:
        check_phase(self._spec, parameters, samples, phase, start)
        xs, ts = np.ascontiguousarray(samples.inputs), np.ascontiguousarray(samples.targets)
        outcome = self._outcome
        status = self._library.learner_train_phase(
            *(self._learner, _address(parameters), _address(xs), _address(ts)),
            *(
                self._record(phase),
                _address(start) if phase.proximal and start is not None else None,
            ),
            *(self._scratch(phase), outcome),
        )
        finite = status == OK
        loss = outcome.loss_sum / outcome.losses if finite else float("nan")
        return Trained(loss, outcome.updates, finite)

    def _measure(self) -> Size:
        size = Size()
        status = self._library.learner_measure(self._table, len(self._spec.layers), byref(size))
        if status != OK:
            raise InvalidInput(f"model '{self._spec.name}' is beyond the C learner's bounds")
        return size

    def _init(self, arena: int, arena_bytes: int) -> None:
        loss = LOSS_CODES[self._spec.loss]
        status = self._library.learner_init(
            self._learner, self._table, len(self._spec.layers), loss, arena, arena_bytes
        )
        if status != OK:
            raise InvalidInput(f"the C learner refuses model '{self._spec.name}' (status {status})")

    def _readable(self, parameters: Parameters) -> int:
        self._spec.check_parameters(parameters)
        if not parameters.flags.c_contiguous:
            raise InvalidInput("parameters must be contiguous: pass a copy")
        return _address(parameters)

    def _record(self, phase: Phase) -> PhaseRecord:
        """`phase` for C; kept, because a device runs the same phases round after round."""
        if phase is not self._phase:
            mask = self._spec.layer_mask(phase.trainable)
            self._phase_record = PhaseRecord(
                mask, phase.samples, phase.batch_size, phase.passes, phase.rate, phase.proximal
            )
            self._phase = phase
        return self._phase_record

    def _scratch(self, phase: Phase) -> int | None:
        if phase.batch_size == 1:
            return None
        if self._gradient is None:
            self._gradient = np.empty(self._spec.parameter_count, np.float32)
        return _address(self._gradient)


def _address(array: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> int:
    address: int = array.__array_interface__["data"][0]  # half the time of array.ctypes.data
    return address


def _aligned(arena: np.ndarray[tuple[int, ...], np.dtype[np.generic]], before: int) -> int:
    """The first address of `arena` such that `before` bytes later lies an aligned one."""
    start = _address(arena) + before
    return start + -start % _ALIGNMENT - before
