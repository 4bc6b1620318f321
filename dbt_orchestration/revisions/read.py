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
    project = Project(
        revision.manifest,
        settings=dict(_settings(target.project_dir)),
        environment={**os.environ, **target.variables},
        seeds=_seeds(revision.manifest),
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


def _settings(project_dir: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    own = _read(project_dir / "dbt_project.yml")
    yield str(own.get("name")), own
    packages = project_dir / str(own.get("packages-install-path") or "dbt_packages")
    for path in sorted(packages.glob("*/dbt_project.yml")):
        settings = _read(path)
        yield str(settings.get("name")), settings


def _read(path: Path) -> Mapping[str, Any]:
    try:
        content = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise PrepareError(f"{path}: {error}") from None
    return content if isinstance(content, dict) else {}


def _seeds(manifest: Mapping[str, Any]) -> dict[str, str]:
    seeds: dict[str, str] = {}
    for unique_id, node in manifest["nodes"].items():
        if node["resource_type"] == "seed":
            path = Path(node["root_path"] or ".") / node["original_file_path"]
            try:
                seeds[unique_id] = path.read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as error:
                raise PrepareError(f"{path}: {error}") from None
    return seeds
