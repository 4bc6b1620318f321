"""Files and folders that are made whole before they are renamed into their place."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import orjson

PREPARING, DOWNLOADING = ".preparing-", ".downloading-"


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
