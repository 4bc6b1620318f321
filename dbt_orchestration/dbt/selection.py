"""What dbt's selection means in a project, and what of it means nothing.

dbt leaves out, without a word, what matches nothing: a slip of the pen in a list of models.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self

from dbt_orchestration.dbt.internals.selection import select
from dbt_orchestration.dbt.parse import Revision
from dbt_orchestration.history.partitions import PartitionError
from dbt_orchestration.history.rebuild import find_model
from dbt_orchestration.settings.models import EnvironmentOptions, Job, SettingsError

_ASSET_TYPES = ("model", "seed", "snapshot")
# A name with what dbt's selection may have around it: `@orders`, `2+orders+1`.
_NAME = re.compile(r"(?:@|\d*\+)?(?P<name>\w+)(?:\+\d*)?")
# Resources of a manifest that a selection may name.
_NAMED = (
    "nodes",
    "sources",
    "exposures",
    "metrics",
    "semantic_models",
    "saved_queries",
    "unit_tests",
)


class Parsed(NamedTuple):
    """A project as dbt has parsed it."""

    manifest: Mapping[str, Any]
    project_dir: Path

    @classmethod
    def of(cls, revision: Revision) -> Self:
        """That of a revision."""
        return cls(revision.manifest, revision.project_dir)


def is_asset(node: Mapping[str, Any]) -> bool:
    """Whether dbt builds something in the warehouse that is a node of the manifest."""
    return node["resource_type"] in _ASSET_TYPES and node["config"]["materialized"] != "ephemeral"


def nodes_of_environment(name: str, project: Parsed, said: EnvironmentOptions) -> Collection[str]:
    """The unique ids of what an environment consists of, or of more: ``is_asset`` is of the caller.

    Raises:
        SettingsError: as ``select_nodes``.
    """
    if (said.select, said.exclude, said.selector) == ("fqn:*", "", ""):
        return set(project.manifest["nodes"])
    return select_nodes(f"environments.{name}", project, said)


def select_nodes(where: str, project: Parsed, chosen: EnvironmentOptions | Job) -> Collection[str]:
    """The unique ids of the models, seeds and snapshots that a part of the settings selects.

    Args:
        where: the part's key.

    Raises:
        SettingsError: the selection is wrong, or matches nothing.
    """
    nodes = project.manifest["nodes"]
    found = {
        u for u in select_resources(where, project, chosen) if u in nodes and is_asset(nodes[u])
    }
    if not found:
        said = _selector(chosen) or chosen.select
        raise SettingsError(f"{where}.select: {said!r} matches no model, seed or snapshot")
    return found


def select_resources(
    where: str, project: Parsed, chosen: EnvironmentOptions | Job
) -> Collection[str]:
    """The unique ids of all that a part of the settings selects: tests and sources as well.

    Raises:
        SettingsError: the selection is wrong.
    """
    selector = _selector(chosen)
    try:
        return select(*project, chosen.select, chosen.exclude, selector)
    except Exception as error:
        without = f" without {chosen.exclude!r}" if chosen.exclude and not selector else ""
        said = f"{selector or chosen.select!r}{without}"
        raise SettingsError(f"{where}: dbt does not understand {said}: {error}") from None


def _selector(chosen: EnvironmentOptions | Job) -> str:
    return chosen.selector if isinstance(chosen, EnvironmentOptions) else ""


def refuse_idle_parts(where: str, project: Parsed, chosen: Job) -> None:
    """Refuse a selection of which a part is of nothing, whatever else it selects.

    Args:
        where: what stands before the key in a message, with a dot; "" for a form.

    Raises:
        SettingsError: dbt does not understand a part, or it matches nothing; offers the nearest
            name.
    """
    check_words(project.manifest, f"{where}select", chosen.select)
    check_words(project.manifest, f"{where}exclude", chosen.exclude)
    parts = chosen.select.split()
    for part in parts if len(parts) > 1 else ():
        if not _NAME.fullmatch(part) and not select_resources(
            f"{where}select", project, Job(select=part)
        ):
            raise SettingsError(f"{where}select: {part!r} matches nothing")


def check_words(manifest: Mapping[str, Any], field: str, said: str) -> None:
    """Refuse what would be an option of dbt's, and names that nothing has.

    Raises:
        SettingsError: says which word of the ``field``, and the nearest name.
    """
    known: set[str] = set()
    for word in said.replace(",", " ").split():
        if word.startswith("-"):
            raise SettingsError(f"{field}: {word} is an option: leave it out")
        if (named := _NAME.fullmatch(word)) and named["name"] not in (
            known := known or _names(manifest)
        ):
            try:
                find_model(manifest, named["name"])
            except PartitionError as error:
                raise SettingsError(f"{field}: {error}") from None


def _names(manifest: Mapping[str, Any]) -> set[str]:
    """Names of resources, and of the folders and packages that they are in."""
    every = (each for kind in _NAMED for each in (manifest.get(kind) or {}).values())
    return {part for each in every for part in (each["name"], *each.get("fqn", ()))}
