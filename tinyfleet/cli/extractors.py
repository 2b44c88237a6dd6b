"""--extractor: a `.tflite` file in front of the model, for every command that learns or tests."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, cast

import click

from tinyfleet.errors import InvalidInput
from tinyfleet.model.extractor import Extractor
from tinyfleet.tasks import Task
from tinyfleet.tasks.base import TaskOutline

if TYPE_CHECKING:  # LiteRT is loaded only where there is an extractor
    from tinyfleet.client import Fleet
    from tinyfleet.litert.file import TfliteFile
    from tinyfleet.litert.graph import Graph

extractor_option = click.option(
    "--extractor",
    type=click.Path(path_type=Path),
    metavar="FILE.tflite",
    help="Frozen network in front of the model, which then learns from its features.",
)


@dataclass(frozen=True)
class ExtractorFile:
    """The file that a command line names; using it raises InvalidInput where it will not do."""

    path: Path

    @cached_property
    def file(self) -> TfliteFile:
        """Its content."""
        from tinyfleet.litert.file import load_tflite

        return load_tflite(self.path)

    @cached_property
    def _graph(self) -> Graph:
        from tinyfleet.litert.graph import Graph

        try:
            return Graph(self.file)
        except InvalidInput as error:
            raise InvalidInput(f"{self.path}: {error}") from None

    def put_into(self, fleet: Fleet) -> None:
        """Store the file where a run's agents fetch it."""
        fleet.put_file(self.file.content)

    def extractor_for(self, task: TaskOutline) -> Extractor:
        """What a run of `task` says of it."""
        from tinyfleet.litert.extractor import extractor_of

        return extractor_of(self.file, self._graph, task.input_shape)

    def in_front_of(self, task: Task) -> Task:
        """The task as the model behind the extractor sees it."""
        from tinyfleet.litert.extractor import FeatureTask

        return cast("Task", FeatureTask(task, self._graph))


def seen_by_the_model(task: Task, extractor: Extractor | None, file: ExtractorFile | None) -> Task:
    """`task` for a model of a run with `extractor`, or without one.

    Raises InvalidInput when the file is missing, another one, or of no use.
    """
    found = in_front_of_the_model(extractor, file)
    return task if found is None else found.in_front_of(task)


def in_front_of_the_model(
    extractor: Extractor | None, file: ExtractorFile | None
) -> ExtractorFile | None:
    """`file`, if it is what a run with `extractor`, or without one, asks for.

    Raises InvalidInput when it is missing, or another one.
    """
    if extractor is None:
        if file is not None:
            raise InvalidInput("this model was learned without an extractor: leave --extractor out")
        return None
    if file is None:
        raise InvalidInput(
            f"this model learned behind an extractor: give its file of {extractor.size:,} bytes, "
            f"SHA-256 {extractor.sha256[:12]}..., with --extractor"
        )
    if file.file.sha256 != extractor.sha256:
        raise InvalidInput(
            f"{file.path} is not the extractor that this model learned behind: it has SHA-256 "
            f"{file.file.sha256[:12]}..., that one has {extractor.sha256[:12]}..."
        )
    return file
