"""The prepared revisions that are on this machine, and what was recorded of each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import orjson

from dbt_orchestration.dbt.facts import versions
from dbt_orchestration.dbt.invocation import DbtTarget
from dbt_orchestration.dbt.parse import Commit, Revision, is_parsed_as_now
from dbt_orchestration.dbt.scratch import whole_folders
from dbt_orchestration.settings.models import Settings

FILES = "files"
# It has this name since only commits had one.
_ABOUT = "commit.json"


def revisions_home(settings: Settings, environment: str) -> Path:
    """The folder of an environment's prepared commits."""
    return settings.state_dir / "revisions" / environment


def working_tree_home(settings: Settings, environment: str) -> Path:
    """The folder of what was prepared of the project as it lay in its folder."""
    return settings.state_dir / "working_tree" / environment


def checkout_of(revision: Revision) -> Path:
    """The folder of a commit's files, which is the root of the repository."""
    return revision.directory / FILES


def revisions_in(home: Path) -> list[Revision]:
    """The revisions in ``home``, the one used last first."""
    return [revision for folder in whole_folders(home) if (revision := read_revision(folder))]


def find(home: Path, files: str, target_of: Callable[[Path], DbtTarget]) -> Revision | None:
    """The revision of certain files, if it is in ``home`` as it would be prepared now.

    Args:
        files: which they are, as the source of a revision says: see ``prepare``.
        target_of: what dbt is told of a project in a folder.
    """
    for folder in whole_folders(home):
        revision = read_revision(folder) if folder.name.startswith(f"{files}-") else None
        if revision and is_parsed_as_now(revision, target_of(revision.project_dir)):
            return revision
    return None


def read_revision(folder: Path) -> Revision | None:
    """The revision in ``folder``; None if it is not whole, as after a power cut."""
    try:
        about = orjson.loads((folder / _ABOUT).read_bytes())
        sizes: Mapping[str, int] = about.get("sizes", {})
        if any((folder / name).stat().st_size != size for name, size in sizes.items()):
            return None
    except (OSError, orjson.JSONDecodeError):
        return None
    project = folder / FILES / about["project_path"]
    return Revision(folder.name, folder, project, about["commit"] and Commit(**about["commit"]))


def write_record(folder: Path, project_path: str, commit: Commit | None, packages: str) -> None:
    """Write of a revision what is not in its other files, all of which are there.

    Args:
        project_path: where the project lies in the revision's own files; absolute, if it has none.
        packages: what ``packages.copy_packages`` says is stated.
    """
    about = {
        "commit": commit and commit.as_json(),
        "project_path": project_path,
        "packages": packages,
        "made_by": versions(),
        "sizes": {path.name: path.stat().st_size for path in folder.iterdir() if path.is_file()},
    }
    (folder / _ABOUT).write_bytes(orjson.dumps(about))


def record_of(revision: Revision) -> Mapping[str, Any]:
    """What ``write_record`` has written."""
    about: Mapping[str, Any] = orjson.loads((revision.directory / _ABOUT).read_bytes())
    return about
