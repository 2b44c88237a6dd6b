"""Writes the newest run's model as a checkpoint file, when an operator asks for it."""

from __future__ import annotations

import asyncio
from pathlib import Path

from services.aggregator.keeper import Keeper
from tinyfleet.checkpoint import Checkpoint, save_checkpoint
from tinyfleet.errors import InvalidInput


async def write_newest(keeper: Keeper, folder: Path) -> Path:
    """The file `folder/RUN-ROUND.tinyfleet`, whole on disk; the folder is made if it is missing.

    The run is the newest that goes on, or else the newest that has ended. Raises NotFound when
    there is none, InvalidInput when the file cannot be written.
    """
    run_id = await keeper.newest_run()
    model = await keeper.model(run_id, None)
    checkpoint = Checkpoint(model.run, run_id, model.version, model.parameters)
    path = folder / f"{run_id}-{model.version}.tinyfleet"
    await asyncio.to_thread(_write, path, checkpoint)
    return path


def _write(path: Path, checkpoint: Checkpoint) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidInput(f"cannot make folder {path.parent}: {error.strerror}") from None
    save_checkpoint(path, checkpoint)
