"""Read a parsed project into what the change engine is given."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from dbt_orchestration import upstream
from dbt_orchestration.changes.project import Project
from dbt_orchestration.invocation import DbtTarget
from dbt_orchestration.revisions.parse import PrepareError, Revision


def read_project(revision: Revision, target: DbtTarget) -> Project:
    """The state of the project at ``revision``, without compiled SQL.

    Raises:
        PrepareError: the profile or a file of the project cannot be read.
    """
    database, schema = _own_names(target)
    folders = dict(packages_of(target.project_dir))
    project = Project(
        revision.manifest,
        settings={name: _read(folder / "dbt_project.yml") for name, folder in folders.items()},
        environment={**os.environ, **target.variables},
        seeds=_seeds(revision.manifest, folders),
        database=database,
        schema=schema,
    )
    if cycle := project.cycle():
        raise PrepareError(f"these nodes depend on each other: {' → '.join(cycle)}")
    return project


def _own_names(target: DbtTarget) -> tuple[str, str]:
    from dbt_common.exceptions import DbtBaseException

    os.environ.update(target.variables)
    try:
        credentials = upstream.load_credentials(
            target.project_dir, target.profiles_dir, target.profile, target.target
        )
    except DbtBaseException as error:
        raise PrepareError(f"profiles.yml: {error}") from None
    return str(credentials.database or ""), str(credentials.schema or "")


def packages_of(project_dir: Path) -> Iterator[tuple[str, Path]]:
    """The project itself and its installed packages: name and folder."""
    own = _read(project_dir / "dbt_project.yml")
    yield str(own.get("name")), project_dir
    packages = project_dir / str(own.get("packages-install-path") or "dbt_packages")
    for path in sorted(packages.glob("*/dbt_project.yml")):
        yield str(_read(path).get("name")), path.parent


def _read(path: Path) -> Mapping[str, Any]:
    try:
        content = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise PrepareError(f"{path}: {error}") from None
    return content if isinstance(content, dict) else {}


def _seeds(manifest: Mapping[str, Any], folders: Mapping[str, Path]) -> dict[str, str]:
    """The text of each seed. dbt's ``root_path`` may name the folder of an earlier parse."""
    seeds: dict[str, str] = {}
    for unique_id, node in manifest["nodes"].items():
        if node["resource_type"] == "seed":
            path = folders[node["package_name"]] / node["original_file_path"]
            try:
                seeds[unique_id] = path.read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as error:
                raise PrepareError(f"{path}: {error}") from None
    return seeds
