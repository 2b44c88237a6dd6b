"""What computes a run's model on this device: a learner of ours, or the file that the model is."""

from __future__ import annotations

from collections.abc import Mapping

from tinyfleet.learner import make_learner
from tinyfleet.learner.protocol import Learner
from tinyfleet.model.spec import Parameters
from tinyfleet.run import RunSpec

Contents = Mapping[str, bytes]
"""Files that a run needs, by their SHA-256 in hex."""


def learner_of(spec: RunSpec, engine: str, contents: Contents) -> Learner:
    """The learner; raises InvalidInput for a file that is of no use here."""
    if spec.trainable is None:
        return make_learner(spec.model, engine)
    # LiteRT is loaded only where a run needs it: an agent without stays small.
    from tinyfleet.litert.file import TfliteFile
    from tinyfleet.litert.learner import LiteRtLearner

    return LiteRtLearner(spec.model, spec.trainable, TfliteFile(contents[spec.trainable.sha256]))


def own_weights(spec: RunSpec, contents: Contents) -> Parameters | None:
    """The weights that the file which the model is begins with; None for other models."""
    if spec.trainable is None:
        return None
    from tinyfleet.litert.file import TfliteFile
    from tinyfleet.litert.learner import describe_trainable

    file = TfliteFile(contents[spec.trainable.sha256])
    return describe_trainable(file, spec.trainable.names).initial
