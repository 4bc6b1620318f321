"""Files and folders that are made whole before they are renamed into their place."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import orjson
from filelock import FileLock, Timeout

PREPARING, DOWNLOADING = ".preparing-", ".downloading-"
# Whoever prepares a folder in another one, or forgets folders there, holds this lock in it.
LOCK = "prepare.lock"


def write_whole(path: Path, content: object) -> None:
    """Write ``content`` as JSON: whoever reads the file sees the old content, or all of the new."""
    scratch = path.with_suffix(".new")
    scratch.write_bytes(orjson.dumps(content))
    scratch.replace(path)


@contextmanager
def scratch_in(home: Path, prefix: str) -> Iterator[Path]:
    """A new folder under ``home``, removed at the end unless it was renamed.

    So are those that killed processes have left: who calls holds the lock of all that make folders
    with this prefix there.
    """
    for left in home.glob(f"{prefix}*"):
        shutil.rmtree(left, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(dir=home, prefix=prefix))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def whole_folders(home: Path) -> list[Path]:
    """The folders in ``home`` that were renamed into their place, the one used last first."""
    found = [path for path in home.glob("*") if path.is_dir() and not path.name.startswith(".")]
    return sorted(found, key=lambda path: -path.stat().st_mtime)


def forget_folders(
    home: Path,
    keep: int = 10,
    in_use: Collection[str] = (),
    before: Callable[[str], object] = lambda _: None,
) -> None:
    """Remove all folders in ``home`` but the last ``keep`` and those ``in_use``, by their names.

    While somebody prepares one there, it does nothing.

    Args:
        before: told the name of each before it goes.
    """
    if not home.is_dir():
        return
    with suppress(Timeout), FileLock(home / LOCK, timeout=0):
        for folder in whole_folders(home)[keep:]:
            if folder.name not in in_use:
                before(folder.name)
                # Renamed first: half a folder must not look like a whole one.
                half = folder.with_name(f"{PREPARING}{folder.name}")
                folder.rename(half)
                shutil.rmtree(half, ignore_errors=True)
