"""`tinyfleet backup` and `tinyfleet restore`: a site's databases as one file, and back."""

from __future__ import annotations

import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import click

from tinyfleet import __version__
from tinyfleet.backup.archive import NAMES, Contents, Part, check_free, write_archive
from tinyfleet.backup.copying import bytes_of, copy_databases, find_databases
from tinyfleet.backup.restoring import check_archive, restore
from tinyfleet.cli.console import examples, json_option, print_json, print_table, si_bytes, warn
from tinyfleet.errors import InvalidInput

_Paths = click.Path(path_type=Path)


@click.command(
    "backup",
    epilog=examples(
        "tinyfleet backup /var/lib/tinyfleet -o site.tfbackup",
        "tinyfleet backup coordinator aggregator metrics -o site.tfbackup",
    ),
)
@click.argument("states", metavar="STATE...", nargs=-1, required=True, type=_Paths)
@click.option("--output", "-o", required=True, type=_Paths, help="File to write; must be new.")
@json_option
def backup(states: tuple[Path, ...], output: Path, as_json: bool) -> None:
    """Back up a site while it works: the databases in its services' state folders.

    STATE is a state folder, or one with the folders of several services. What was acknowledged
    before the command began is in the file. No keys or certificates are.
    """
    databases = find_databases(states)
    check_free(output)
    folder = output.absolute().parent
    _check_room(folder, bytes_of(databases))
    if len(databases) < len(NAMES):
        warn("no metrics.sqlite among them: this backup has no metrics")
    created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    with tempfile.TemporaryDirectory(prefix=".tinyfleet-backup-", dir=folder) as temporary:
        copies = copy_databases(databases, Path(temporary))
        contents = Contents(created, __version__, tuple(part for part, _ in copies))
        write_archive(output, contents, [path for _, path in copies])
    _show(output, contents, as_json)


@click.command(
    "restore",
    epilog=examples(
        "tinyfleet restore site.tfbackup --check",
        "tinyfleet restore site.tfbackup /var/lib/tinyfleet",
        "tinyfleet restore site.tfbackup /mnt/aggregator --only aggregator",
    ),
)
@click.argument("file", metavar="FILE", type=_Paths)
@click.argument("state", metavar="[STATE]", required=False, type=_Paths)
@click.option(
    "--only", multiple=True, type=click.Choice(NAMES), help="Restore this one; may be repeated."
)
@click.option("--check", is_flag=True, help="Read and check the file, restore nothing.")
@json_option
def restore_command(
    file: Path, state: Path | None, only: tuple[str, ...], check: bool, as_json: bool
) -> None:
    """Put the databases of a backup into STATE, where its services then find them.

    Stop the services first. Nothing is overwritten. A site goes on only from one backup as a
    whole: --only is for services that keep their state on different disks.
    """
    if check:
        contents = check_archive(file)
        return _show(file, contents, as_json)
    if state is None:
        raise InvalidInput("where to? give the STATE folder, or --check to read the file only")
    restored = restore(file, state, only)
    if as_json:
        print_json({"restored": [_part(part) | {"file": str(at)} for part, at in restored]})
    else:
        rows = [[str(at), si_bytes(part.bytes), part.schema] for part, at in restored]
        print_table(("restored", "size", "schema"), rows)
    return None


def _show(path: Path, contents: Contents, as_json: bool) -> None:
    if as_json:
        about = {"file": str(path), "created": contents.created, "version": contents.version}
        print_json(about | {"databases": [_part(part) for part in contents.parts]})
        return
    print(f"{path}: as of {contents.created}, by TinyFleet {contents.version}")
    rows = [[part.name, si_bytes(part.bytes), part.schema] for part in contents.parts]
    print_table(("database", "size", "schema"), rows)


def _part(part: Part) -> dict[str, Any]:
    return {
        "name": part.name,
        "bytes": part.bytes,
        "schema": part.schema,
        "sha256": part.sha256,
    }


def _check_room(folder: Path, size: int) -> None:
    """Copies and file lie beside each other for a while."""
    try:
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise InvalidInput(f"cannot write to {folder}: {error.strerror}") from None
    if free < 2 * size:
        raise InvalidInput(f"no room in {folder}: {2 * size} bytes are needed, {free} are free")
