"""--trainable: a model that is a `.tflite` file with training signatures, and its learner."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tinyfleet.errors import InvalidInput
from tinyfleet.learner import Learner, make_learner
from tinyfleet.model import ModelSpec, Parameters
from tinyfleet.model.trainable import SignatureNames, TrainableGraph
from tinyfleet.run import RunSpec
from tinyfleet.tasks import TaskOutline
from tinyfleet.wire import parameters_to_bytes

if TYPE_CHECKING:  # LiteRT is loaded only where there is such a file
    from tinyfleet.client import Fleet
    from tinyfleet.litert.file import TfliteFile
    from tinyfleet.litert.learner import Described

_MAX_MODEL_NAME = 64

trainable_option = click.option(
    "--trainable",
    type=click.Path(path_type=Path),
    metavar="FILE.tflite",
    help="A file that trains itself by its signatures, instead of a model.",
)


def signature_option(callback: Callable[..., Any]) -> Callable[..., Any]:
    """Add --signature: what the file calls things. callback: from texts to pairs."""
    return click.option(
        "--signature",
        "signatures",
        multiple=True,
        callback=callback,
        metavar="NAME=VALUE",
        help="What the file calls a signature or tensor, such as train=fit; may be repeated.",
    )


@dataclass(frozen=True)
class TrainableFile:
    """The file that a command line names; using it raises InvalidInput where it will not do.

    names: what it calls its signatures and tensors, where that is not the usual.
    """

    path: Path
    names: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def file(self) -> TfliteFile:
        """Its content."""
        from tinyfleet.litert.file import load_tflite

        return load_tflite(self.path)

    @cached_property
    def _described(self) -> Described:
        from tinyfleet.litert.learner import describe_trainable

        names = SignatureNames.of(self.names)
        with self._named():
            return describe_trainable(self.file, names)

    def model_for(self, task: TaskOutline) -> tuple[ModelSpec, TrainableGraph]:
        """The model that it is for samples of `task`, and what a run says of it."""
        name = self.path.stem[:_MAX_MODEL_NAME] or "model"
        with self._named():
            model = self._described.layout.model(name, task.input_shape, task.loss)
        return model, self._described.graph

    def check_plan(self, run: RunSpec) -> None:
        """Refuse a run whose plan the file cannot train by; all plans of a run ask the same."""
        with self._named():
            self._described.check_plan(run.make_strategy().plan(0))

    def put_into(self, fleet: Fleet) -> None:
        """Store the file where a run's agents fetch it, and what it begins with, for version 0."""
        fleet.put_file(self.file.content)
        fleet.put_file(parameters_to_bytes(self._described.initial))

    def learner(self, run: RunSpec) -> Learner:
        """What computes the run's model."""
        from tinyfleet.litert.learner import LiteRtLearner

        assert run.trainable is not None  # noqa: S101 - the caller looked
        with self._named():
            return LiteRtLearner(run.model, run.trainable, self.file)

    def filled(self, run: RunSpec, parameters: Parameters) -> TfliteFile:
        """The file of `run` with other weights to begin with."""
        from tinyfleet.litert.learned import with_weights

        if run.trainable is None:
            raise InvalidInput(f"model '{run.model.name}' is no file that could be filled")
        with self._named():
            run.trainable.check_file(self.file.sha256)
            return with_weights(self.file, run.trainable.names, parameters)

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Say which file it is about."""
        try:
            yield
        except InvalidInput as error:
            raise InvalidInput(f"{self.path}: {error}") from None


def learner_of(run: RunSpec, engine: str, given: TrainableFile | None) -> Learner:
    """What computes a run's model: its file, or the learner that `engine` names."""
    if run.trainable is None:
        if given is not None:
            raise InvalidInput(f"model '{run.model.name}' is no file: leave out --trainable")
        return make_learner(run.model, engine)
    if given is None:
        raise InvalidInput(
            f"model '{run.model.name}' is the .tflite file {run.trainable.file}: "
            "give it with --trainable FILE.tflite"
        )
    return given.learner(run)


def version_0(run: RunSpec, learner: Learner) -> Parameters:
    """What a run starts from: of a file, the weights that it begins with."""
    return run.initial_parameters(getattr(learner, "initial", None))
