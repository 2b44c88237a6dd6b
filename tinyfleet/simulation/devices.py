"""Who serves which slot of a simulated fleet, and what a device is therefore sent.

It matters to the bytes that go down: a device that has served before may hold an earlier start, and
is then sent what changed. And, with error feedback, to what goes up: a device adds what its
earlier updates left out. To nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from tinyfleet.codec.feedback import ErrorFeedback
from tinyfleet.codec.start import Start
from tinyfleet.errors import InvalidInput
from tinyfleet.exchange import Exchange, Payload
from tinyfleet.model.spec import Parameters
from tinyfleet.start_history import StartHistory

MAX_FED_DEVICES = 1024  # our choice, as many as a round has slots: each as large as the model
MAX_DEVICES = 1_000_000  # our choice; beyond some hundreds each is as good as new


Encode = Callable[[Parameters, int, int, int], Payload]
"""encode(delta, run seed, round, slot) gives an update."""


class ServedDevices:
    """`devices` devices that take turns: slot k of round r is for number (r * slots + k) % devices.

    None: each slot of each round is for a device that is new.
    """

    def __init__(self, exchange: Exchange, slots: int, devices: int | None) -> None:
        """slots: of a round. Raises InvalidInput unless devices is 1 to 1,000,000, or None."""
        if devices is not None and not 1 <= devices <= MAX_DEVICES:
            raise InvalidInput(f"devices must be 1 to {MAX_DEVICES}, got {devices}")
        if devices is not None and exchange.error_feedback and devices > MAX_FED_DEVICES:
            raise InvalidInput(
                f"devices must be 1 to {MAX_FED_DEVICES} with error_feedback, got {devices}: "
                "each remembers what it left out"
            )
        self._slots = slots
        self._devices = devices
        self._whole_bytes = exchange.starts.whole_bytes
        self._history: StartHistory | None = None
        if devices is not None and exchange.keeps_starts:
            # The oldest start that anybody still holds is so many rounds old.
            self._history = StartHistory(exchange.starts, -(-devices // slots) + 1)

    def serve(self, round: int, start: Start) -> int:
        """How many bytes the devices of a round are sent; rounds come one after the other."""
        if self._history is None:
            return self._slots * self._whole_bytes
        self._history.add(round, start)
        slots = range(round * self._slots, (round + 1) * self._slots)
        return sum(len(self._history.sent_to(self._held(slot)).data) for slot in slots)

    def number(self, round: int, slot: int) -> int:
        """Of the device that serves a slot of a round; of devices that are new, the slot's."""
        if self._devices is None:
            return slot
        return (round * self._slots + slot) % self._devices

    def to_bytes(self) -> bytes:
        """What the devices hold; nothing where they keep nothing."""
        return b"" if self._history is None else self._history.to_bytes()

    def restore(self, data: bytes, round: int) -> None:
        """Take in what `to_bytes` gave after `round`; raises InvalidInput for anything else."""
        if self._history is not None:
            self._history.restore(data, round)
        elif data:
            raise InvalidInput("these devices keep nothing")

    def _held(self, slot: int) -> int | None:
        """Of which round the slot's device holds the start. slot: counts over all rounds."""
        assert self._devices is not None  # noqa: S101 - there is a history
        before = slot - self._devices
        return None if before < 0 else before // self._slots


class DevicesLeftOut:
    """What the updates of each device left out so far; nothing where there is no error feedback."""

    def __init__(self, exchange: Exchange, devices: ServedDevices) -> None:
        self._exchange = exchange
        self._devices = devices
        self._kept: dict[int, ErrorFeedback] = {}

    def encoder(self, round: int, slot: int) -> Encode:
        """What encodes for the device that serves that slot."""
        return self.encoder_of(self._devices.number(round, slot))

    def encoder_of(self, device: int) -> Encode:
        """What encodes for a device; with error feedback, it remembers what it leaves out."""
        return (
            partial(self._encode, device)
            if self._exchange.error_feedback
            else self._exchange.encode
        )

    def _encode(self, device: int, delta: Parameters, seed: int, round: int, slot: int) -> Payload:
        before = self._kept.get(device) or self._exchange.no_feedback()
        data, self._kept[device] = self._exchange.encode_fed(delta, before, seed, round, slot)
        return data
