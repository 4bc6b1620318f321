"""Configs that are made from the clock: found when a project is parsed, evaluated once a day."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from dbt_orchestration.changes.clock import WORDS, clock_configs
from dbt_orchestration.changes.project import Project

_KINDS = ("models", "seeds", "snapshots")


def clock_nodes(project: Project, folders: Mapping[str, Path]) -> list[str]:
    """The nodes of a project that was parsed whose config is made from the clock, by unique id.

    Args:
        folders: where the project and its packages lie, by name.
    """
    files = {
        str(node["patch_path"])
        for unique_id in project.built
        if (node := project.nodes[unique_id]).get("patch_path")
    }
    said = {(file, name): entry for file in files for name, entry in _entries(file, folders)}
    properties = {
        unique_id: said.get((str(node.get("patch_path")), node["name"]), {})
        for unique_id in project.built
        if (node := project.nodes[unique_id])
    }
    return clock_configs(project, properties)


def _entries(file: str, folders: Mapping[str, Path]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Names of nodes and what a YAML file says of them, if it may speak of the clock."""
    package, _, path = file.partition("://")
    try:
        text = (folders[package] / path).read_text(encoding="utf-8")
        content = yaml.safe_load(text) if any(word in text for word in WORDS) else {}
    except (KeyError, OSError, UnicodeDecodeError, yaml.YAMLError):
        return  # dbt has read it
    for kind in _KINDS if isinstance(content, dict) else ():
        for entry in content.get(kind) or ():
            yield str(entry.get("name")), entry


def today() -> str:
    """The day, by the clock that dbt's ``run_started_at`` goes by."""
    return datetime.now(UTC).date().isoformat()
