"""Whether there is room for what is written: a disk that is full is no fault of a commit."""

from __future__ import annotations

import shutil

from dbt_orchestration.settings.models import Settings

_LEAST_FREE = 20 * 2**20


def full_disk(settings: Settings) -> str:
    """Which disk of an installation is full, and how much it needs; "" if none is."""
    for folder in (settings.state_dir, settings.duckdb_path.parent):
        if not folder.is_dir():
            continue  # nothing is written there yet
        if (free := shutil.disk_usage(folder).free) < _LEAST_FREE:
            return (
                f"the disk of {folder} is full: it has {free // 2**20} MB left, and a commit needs"
                f" {_LEAST_FREE // 2**20} MB. Make room, and it goes on by itself"
            )
    return ""
