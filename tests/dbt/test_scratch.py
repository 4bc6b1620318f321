"""Old folders are forgotten, but for those that somebody needs."""

from __future__ import annotations

import os
from pathlib import Path

from filelock import FileLock

from dbt_orchestration.dbt.scratch import LOCK, forget_folders


def test_old_folders_go_once_nobody_prepares_one(tmp_path: Path) -> None:
    for age, name in enumerate(("newest", "newer", "old", "older", "oldest")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").touch()
        os.utime(tmp_path / name, (1_000 - age, 1_000 - age))
    told: list[str] = []
    with FileLock(tmp_path / LOCK):
        forget_folders(tmp_path, 2, {"older"}, told.append)
    assert told == []
    forget_folders(tmp_path, 2, {"older"}, told.append)
    assert told == ["old", "oldest"]
    assert {path.name for path in tmp_path.iterdir() if path.is_dir()} == {
        *("newest", "newer", "older")
    }
    forget_folders(tmp_path / "nowhere", 2)
