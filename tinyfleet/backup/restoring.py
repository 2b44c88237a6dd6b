"""Puts the databases of a backup where services look for them, once all of them are found whole."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from tinyfleet.backup.archive import Archive, Contents, Part, open_archive
from tinyfleet.errors import InvalidInput, unknown_name
from tinyfleet.files import sync_folder
from tinyfleet.state_lock import lock_state

JOURNAL_FIRST = ("aggregator", "coordinator", "metrics")
# What is left of another database of that name: SQLite would take its log for the restored one's.
_COMPANIONS = ("", "-wal", "-shm", "-journal")


def check_archive(path: Path) -> Contents:
    """What a backup holds, once all of it is read and found whole; raises InvalidInput."""
    with open_archive(path) as archive:
        _extract(archive, {})
        return archive.contents


def restore(path: Path, state: Path, only: Collection[str] = ()) -> list[tuple[Part, Path]]:
    """Put a backup's databases under `state`, as they lay under theirs; gives where each is.

    only: the services whose databases are wanted; none means all. Nothing that is there is
    overwritten. Run by root, it gives what it makes to the owner of `state`. Raises InvalidInput
    when the backup is damaged or has no such database, when there is a database already or no
    room; Refused when a service uses the folder.
    """
    with open_archive(path) as archive, contextlib.ExitStack() as stack:
        wanted = _chosen(archive.contents, only)
        targets = {part: part.path_in(state) for part in wanted}
        for target in targets.values():
            stack.callback(os.close, lock_state(target.parent, target.stem))
            _check_vacant(target)
        _check_room(state, sum(part.bytes for part in wanted))
        with _removed_on_failure([_partial(target) for target in targets.values()]):
            _extract(archive, targets)
            _put_in_place(state, list(targets.values()))
        return list(targets.items())


def _chosen(contents: Contents, only: Collection[str]) -> list[Part]:
    names = [part.name for part in contents.parts]
    for name in only:
        if name not in names:
            raise unknown_name("database", name, names)
    return [part for part in contents.parts if not only or part.name in only]


def _check_vacant(target: Path) -> None:
    for companion in _COMPANIONS:
        there = target.with_name(target.name + companion)
        if there.exists():
            raise InvalidInput(f"{there} is there already: restore to another folder, or move it")


def _check_room(state: Path, needed: int) -> None:
    free = shutil.disk_usage(state).free
    if free < needed:
        raise InvalidInput(f"no room in {state}: {needed} bytes are needed, {free} are free")


def _extract(archive: Archive, targets: dict[Part, Path]) -> None:
    """Read everything; write what is wanted beside its place."""
    for part in archive.contents.parts:
        if part in targets:
            with _partial(targets[part]).open("wb") as file:
                file.writelines(archive.read(part))
                file.flush()
                os.fsync(file.fileno())
        else:
            for _ in archive.read(part):
                pass
    archive.check_end()


def _put_in_place(state: Path, targets: Sequence[Path]) -> None:
    """The journal first: a coordinator that starts without it would begin its runs anew."""
    with _removed_on_failure(targets):
        for target in sorted(targets, key=lambda target: JOURNAL_FIRST.index(target.stem)):
            _hand_over(state, target)
            _partial(target).replace(target)
            sync_folder(target.parent)


def _hand_over(state: Path, target: Path) -> None:
    """Let the owner of the state folder have what root has made there."""
    if os.geteuid() != 0:
        return
    owner = state.stat()
    for made in {target.parent, target.with_suffix(".lock"), _partial(target)}:
        os.chown(made, owner.st_uid, owner.st_gid)


def _partial(target: Path) -> Path:
    return target.with_name(f".{target.name}.partial")


@contextlib.contextmanager
def _removed_on_failure(paths: Sequence[Path]) -> Iterator[None]:
    try:
        yield
    except BaseException:
        for path in paths:
            path.unlink(missing_ok=True)
        raise
