"""Read a parsed project into what the change engine is given."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dbt_orchestration.changes.project import Project
from dbt_orchestration.dbt.internals.sessions import seen_by_jinja
from dbt_orchestration.dbt.invocation import DbtTarget
from dbt_orchestration.dbt.parse import PrepareError, Revision


def read_project(revision: Revision, target: DbtTarget) -> Project:
    """The state of the project at ``revision``, without compiled SQL.

    Raises:
        PrepareError: a seed cannot be read, or nodes depend on each other.
    """
    facts, every = revision.facts, {**seen_by_jinja(os.environ), **target.variables}
    known = {*facts["variables"], *target.variables}
    project = Project(
        revision.manifest,
        settings=facts["settings"],
        environment={n: v for n, v in every.items() if n in known},
        seeds=_seeds(revision.manifest, revision.folders),
        database=facts["database"],
        schema=facts["schema"],
        profile=facts["profile"],
        target=facts["target"],
    )
    if cycle := project.cycle():
        raise PrepareError(f"these nodes depend on each other: {' → '.join(cycle)}")
    return project


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
