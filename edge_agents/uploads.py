"""How what a slot of a round changed becomes the bytes that are sent, and what they left out."""

from __future__ import annotations

from collections import OrderedDict

from tinyfleet.codec.feedback import ErrorFeedback
from tinyfleet.exchange import Exchange, Payload
from tinyfleet.model.spec import Parameters
from tinyfleet.randomness import RandomStream

MAX_RESIDUALS = 4  # our choice: each is as large as the run's model; like the runs in memory


class SlotUpload:
    """What one slot of a round sends, whoever encodes it.

    feedback: what earlier updates left out, where the plan has error feedback; then this host
    encodes. left_out: the same once `encode` has made an update.
    """

    def __init__(
        self,
        exchange: Exchange,
        run_seed: int,
        round: int,
        slot: int,
        feedback: ErrorFeedback | None = None,
    ) -> None:
        self.exchange = exchange
        self.feedback = feedback
        self.left_out: ErrorFeedback | None = None
        self._key = (run_seed, round, slot)

    def encode(self, delta: Parameters) -> Payload:
        """The update of `(parameter_count,) float32`, encoded here; may be a view of it."""
        if self.feedback is None:
            return self.exchange.encode(delta, *self._key)
        data, self.left_out = self.exchange.encode_fed(delta, self.feedback, *self._key)
        return data

    def noise(self) -> RandomStream | None:
        """The slot's own draws from their beginning, for a board that rounds by itself."""
        return self.exchange.noise(*self._key)


class LeftOut:
    """What the updates of one member left out so far, by run; a restart forgets it.

    An update counts as sent once it is on its way, because the next one may be trained before its
    receipt comes. One that is refused, or withdrawn, gives back what it had sent.
    """

    def __init__(self) -> None:
        self._kept: OrderedDict[str, ErrorFeedback] = OrderedDict()

    def feedback(self, run_id: str, exchange: Exchange) -> ErrorFeedback | None:
        """What an update of the run has to make up for; None without error feedback."""
        if not exchange.error_feedback:
            return None
        kept = self._kept.get(run_id)
        fits = kept is not None and len(kept.residual) == exchange.count
        return kept if fits else exchange.no_feedback()

    def sent(self, run_id: str, upload: SlotUpload) -> None:
        """An update of the run is on its way; only the last few runs are remembered."""
        if upload.left_out is None:
            return
        self._kept[run_id] = upload.left_out
        self._kept.move_to_end(run_id)
        while len(self._kept) > MAX_RESIDUALS:
            self._kept.popitem(last=False)

    def refused(self, run_id: str, exchange: Exchange, data: Payload) -> None:
        """That update did not get there: what it had sent is left out again."""
        kept = self._kept.get(run_id)
        if kept is not None and len(kept.residual) == exchange.count:
            self._kept[run_id] = kept.with_refused(exchange.shared(exchange.decode(data)))
