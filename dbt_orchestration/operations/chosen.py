"""What a person chooses with dbt's selection, or with names."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from collections.abc import Set as AbstractSet
from typing import Any

import dagster as dg

from dbt_orchestration.assets.dbt_assets import DbtAssets, select_nodes, select_resources
from dbt_orchestration.history.partitions import PartitionError
from dbt_orchestration.history.rebuild import find_model
from dbt_orchestration.operations.form import RefusedError
from dbt_orchestration.settings.models import Job

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


def choose(dbt: DbtAssets, select: str, exclude: str = "") -> AbstractSet[str]:
    """The unique ids of the models, seeds and snapshots that are chosen.

    Raises:
        RefusedError: nothing is chosen, or a name is of nothing; offers the nearest.
        SettingsError: dbt does not understand the selection, or a part of it matches nothing.
    """
    _check(dbt, select, exclude)
    chosen = select_nodes("select", dbt.manifest, Job(select=select, exclude=exclude))
    if not (built := dbt.nodes.keys() & chosen):
        raise RefusedError(f"select: {dbt.env.name} builds nothing of {select!r}")
    return built


def choose_tests(dbt: DbtAssets, select: str, exclude: str = "") -> Collection[dg.AssetCheckKey]:
    """The tests that are chosen, or that are on what is chosen.

    Raises:
        RefusedError, SettingsError: as ``choose``.
    """
    _check(dbt, select, exclude)
    where = Job(select=select, exclude=exclude)
    chosen = select_resources("select", dbt.manifest, where)
    if not (tests := sorted(key for key, u in dbt.checks.items() if u in chosen)):
        raise RefusedError(f"select: there is no test on {select!r}")
    return tests


def _check(dbt: DbtAssets, select: str, exclude: str) -> None:
    parts = select.split()
    if not parts:
        raise RefusedError("select: write names of models, or a selection such as tag:finance")
    check_words(dbt.manifest, "select", select)
    check_words(dbt.manifest, "exclude", exclude)
    for part in parts if len(parts) > 1 else ():
        # dbt leaves out, without a word, what matches nothing.
        if not _NAME.fullmatch(part) and not select_resources(
            "select", dbt.manifest, Job(select=part)
        ):
            raise RefusedError(f"select: {part!r} matches nothing")


def check_words(manifest: Mapping[str, Any], field: str, said: str) -> None:
    """Refuse what would be an option of dbt's, and names that nothing has.

    Raises:
        RefusedError: says which word, and the nearest name.
    """
    known: set[str] = set()
    for word in said.replace(",", " ").split():
        if word.startswith("-"):
            raise RefusedError(f"{field}: {word} is an option: leave it out")
        if (named := _NAME.fullmatch(word)) and named["name"] not in (
            known := known or _names(manifest)
        ):
            try:
                find_model(manifest, named["name"])
            except PartitionError as error:
                raise RefusedError(f"{field}: {error}") from None


def _names(manifest: Mapping[str, Any]) -> set[str]:
    """Names of resources, and of the folders and packages that they are in."""
    every = (each for kind in _NAMED for each in (manifest.get(kind) or {}).values())
    return {part for each in every for part in (each["name"], *each.get("fqn", ()))}
