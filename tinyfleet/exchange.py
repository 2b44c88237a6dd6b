"""What of a model travels between the server and a device, and how a change of it is written.

Layers that a plan names as local never leave the device: only the shared entries go down, rounded
as the plan's `Download` says, and a change of them comes back, selected and rounded as its `Upload`
says. Simulator, agent, coordinator and aggregator use the same `Exchange`, so all four mean the
same bytes.
"""

from __future__ import annotations

import numpy as np

from tinyfleet.codec.dense import decode_dense
from tinyfleet.codec.feedback import ErrorFeedback
from tinyfleet.codec.selected import decode_update, encode_selected, largest_bytes
from tinyfleet.codec.selection import entries_of
from tinyfleet.codec.start import Start, StartFormat
from tinyfleet.errors import InvalidInput
from tinyfleet.model.spec import ModelSpec, Parameters
from tinyfleet.randomness import Purpose, RandomStream
from tinyfleet.run import RunSpec
from tinyfleet.strategies.base import MAX_DELTA_NORM, delta_norm
from tinyfleet.strategies.plan import TrainingPlan

Payload = bytes | bytearray | memoryview

_LITTLE = np.dtype("<f4")


class Exchange:
    """The traffic of a plan for one model. Raises InvalidInput when nothing of it is shared.

    The shared entries are the parameter vector without the local layers, in its order. count: how
    many. is_whole: whether that is all of them. shared_mask: bit i says that layer i is shared.
    most_entries: of an update, 1 to count. starts: how what a device starts from is written.
    keeps_starts: whether a device keeps its last start and is sent what changed.
    """

    def __init__(self, model: ModelSpec, plan: TrainingPlan) -> None:
        self.model = model
        self._parts = _shared_parts(model, plan.local)
        self._upload = plan.upload
        self.keeps_starts = plan.download.changes
        self.starts = StartFormat(plan.download.precision, _shared_sizes(model, plan.local))
        self.count: int = sum(part.stop - part.start for part in self._parts)
        self.is_whole = self.count == model.parameter_count
        self.shared_mask: int = _shared_mask(model, plan.local)
        if not self.count:
            raise InvalidInput("the plan keeps every layer on the device: one at least is shared")
        self.most_entries: int = entries_of(plan.upload.fraction, self.count)
        self._largest_bytes = largest_bytes(self.count, plan.upload.fraction, self.precision)

    @property
    def is_dense(self) -> bool:
        """Whether a change is sent entry by entry as float32, without anything else."""
        return self._upload.dense

    @property
    def start_is_plain(self) -> bool:
        """Whether every device is sent the shared entries as float32, without anything else."""
        return self.starts.is_exact and not self.keeps_starts

    @property
    def start_is_model(self) -> bool:
        """Whether what a device starts from is the model as it is, all of it."""
        return self.is_whole and self.starts.is_exact

    @property
    def precision(self) -> str:
        """Of the values of an update, one of PRECISIONS."""
        return self._upload.precision

    def shared(self, parameters: Parameters) -> Parameters:
        """`(count,)`, the shared ones of `(parameter_count,)`; the same array if that is all."""
        if self.is_whole:
            return parameters
        return np.concatenate([parameters[part] for part in self._parts])

    def shared_bytes(self, data: bytes) -> bytes:
        """The same for parameters as 4 bytes each; nothing for nothing."""
        if self.is_whole:
            return data
        return b"".join(data[4 * part.start : 4 * part.stop] for part in self._parts)

    def start(self, parameters: Parameters) -> Start:
        """What a device starts from, of `(parameter_count,)`; raises InvalidInput if not finite."""
        return self.starts.rounded(self.shared(parameters))

    def started(self, start: Start, initial: Parameters) -> Parameters:
        """The model a device trains: a start with the local layers of `initial`."""
        shared = self.starts.parameters(start)
        return shared if self.is_whole else self.whole(shared, initial)

    def check_start_size(self, size: int) -> None:
        """Raise InvalidInput when a device of this plan cannot have been sent that many bytes."""
        most = self.starts.whole_bytes
        least = min(self.starts.least_bytes, most) if self.keeps_starts else most
        if not least <= size <= most:
            sizes = f"{least} to {most}" if least < most else str(most)
            raise InvalidInput(f"a start of this run has {sizes} bytes, not {size}")

    def whole(self, shared: Parameters, initial: Parameters) -> Parameters:
        """A model from its shared entries, with the local layers of `initial`; a new array."""
        parameters = initial.copy()
        self._put(shared, parameters)
        return parameters

    def encode(self, delta: Parameters, seed: int, round: int, slot: int) -> Payload:
        """What a device sends of `(parameter_count,) float32`; may be a view of it.

        seed, round, slot: of the run and the assignment; they determine the rounding.
        """
        if not self.is_dense:
            return self._encode_selected(self.shared(delta), seed, round, slot)
        return np.ascontiguousarray(self.shared(delta), _LITTLE).data.cast("B")

    @property
    def error_feedback(self) -> bool:
        """Whether a device adds what its earlier updates left out."""
        return self._upload.error_feedback

    def encode_fed(
        self, delta: Parameters, feedback: ErrorFeedback, seed: int, round: int, slot: int
    ) -> tuple[bytes, ErrorFeedback]:
        """As `encode`, with what was left out so far added; and what is left out afterwards.

        What grew longer than any change may be (MAX_DELTA_NORM) is forgotten: it would make an
        update that no server takes.
        """
        wanted = feedback.wanted(self.shared(delta))
        data = self._encode_selected(wanted, seed, round, slot)
        after = feedback.after(wanted, self._decode_selected(data))
        return data, after if self._may_be_kept(after) else self.no_feedback()

    def no_feedback(self) -> ErrorFeedback:
        """Nothing was left out yet, of the shared entries."""
        return ErrorFeedback.empty(self.count)

    def noise(self, seed: int, round: int, slot: int) -> RandomStream | None:
        """What rounds the update of that slot; None where nothing is rounded at random."""
        if self.precision != "int8":
            return None
        return RandomStream(seed, Purpose.UPLOAD, round, slot)

    def decode(self, data: Payload) -> Parameters:
        """The `(parameter_count,) float32` change in `data`, read-only: zero where none was sent.

        Raises InvalidInput unless it is what a device of this plan can send.
        """
        change = decode_dense(data, self.count) if self.is_dense else self._decode_selected(data)
        if self.is_whole:
            return change
        delta = np.zeros(self.model.parameter_count, np.float32)
        self._put(change, delta)
        delta.flags.writeable = False
        return delta

    def check_size(self, size: int) -> None:
        """Raise InvalidInput when a change of this plan cannot have that many bytes."""
        if self.is_dense:
            if size != 4 * self.count:
                raise InvalidInput(f"an update of this run has {4 * self.count} bytes, not {size}")
        elif size > self._largest_bytes:
            raise InvalidInput(
                f"an update of this run has at most {self._largest_bytes} bytes, not {size}"
            )

    def _encode_selected(self, change: Parameters, seed: int, round: int, slot: int) -> bytes:
        noise = self.noise(seed, round, slot)
        return encode_selected(change, self._upload.fraction, self.precision, noise)

    def _may_be_kept(self, feedback: ErrorFeedback) -> bool:
        return delta_norm(feedback.residual) <= MAX_DELTA_NORM

    def _decode_selected(self, data: Payload) -> Parameters:
        self.check_size(memoryview(data).nbytes)
        change = decode_update(data, self.count)
        entries = int(np.count_nonzero(change))
        if entries > self.most_entries:
            raise InvalidInput(
                f"an update of this run has at most {self.most_entries} entries, not {entries}"
            )
        return change

    def _put(self, shared: Parameters, parameters: Parameters) -> None:
        start = 0
        for part in self._parts:
            stop = start + part.stop - part.start
            parameters[part] = shared[start:stop]
            start = stop


def exchange_of(run: RunSpec) -> Exchange:
    """The traffic of a run, which is the same in all of its rounds."""
    return Exchange(run.model, run.make_strategy().plan(0))


def _shared_sizes(model: ModelSpec, local: tuple[str, ...]) -> list[int]:
    """How many entries each shared layer has that has some."""
    return [
        layer.stop - layer.start
        for layer in model.placed
        if layer.trainable and layer.name not in local
    ]


def _shared_mask(model: ModelSpec, local: tuple[str, ...]) -> int:
    """Bit i says that layer i is shared; no names are no layers here."""
    everything = model.layer_mask(())
    return everything & ~model.layer_mask(local) if local else everything


def _shared_parts(model: ModelSpec, local: tuple[str, ...]) -> list[slice]:
    """The ranges of the parameter vector that are shared, neighbours joined."""
    mask = _shared_mask(model, local)
    parts: list[slice] = []
    for index, placed in enumerate(model.placed):
        if not mask >> index & 1 or placed.start == placed.stop:
            continue
        if parts and parts[-1].stop == placed.start:
            parts[-1] = slice(parts[-1].start, placed.stop)
        else:
            parts.append(slice(placed.start, placed.stop))
    return parts
