"""What ``dbt build`` leaves of the relation that is already there, by materialization.

Read from the macros of dbt-core 1.11, dbt-adapters 1.24, dbt-duckdb 1.11 and dbt-snowflake 1.12.
What an ordinary run updates in place must be recreated when its code changes: ``--full-refresh``
does that, for each of these through ``should_full_refresh()``. **A materialization that is in no
table counts as updated in place**: the safe side.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from dbt_orchestration.changes.project import internal_packages

# Nothing of the old relation is left.
REPLACED: Mapping[str, str] = {
    "ephemeral": "has no relation",
    "external": "its files are written again, and a new view is put over them",
    "function": "created or replaced",
    "table": "created or replaced, or made under another name and renamed",
    "table_function": "created or replaced",
    "test": "what store_failures keeps is a new table each time",
    "unit": "has no relation",
    "view": "created or replaced, or made under another name and renamed",
}

# What is left of the old relation.
UPDATED_IN_PLACE: Mapping[str, str] = {
    "dynamic_table": "its query; only the lag, the warehouse and the like are altered",
    "incremental": "the table, with its columns and the rows that the strategy does not replace",
    "interactive_table": "its query, and its rows if it has no lag",
    "materialized_view": "its query; it is only refreshed",
    "seed": "the table, with the order and the types of its columns",
    "snapshot": "the table, with its history, which nobody can compute again",
}

_PREFIX = "materialization_"


def own_materializations(manifest: Mapping[str, Any]) -> frozenset[str]:
    """Materializations that the project or a package defines, also under the name of dbt's own."""
    internal = internal_packages(manifest["metadata"].get("adapter_type") or "")
    return frozenset(
        # materialization_<name>_<adapter>
        macro["name"].removeprefix(_PREFIX).rpartition("_")[0]
        for macro in manifest["macros"].values()
        if macro["name"].startswith(_PREFIX) and macro["package_name"] not in internal
    )


def is_updated_in_place(node: Mapping[str, Any], own: Collection[str] = ()) -> bool:
    """Whether an ordinary build keeps something of a node's relation that its code decides.

    A snapshot does, but what it keeps is what it is for.

    Args:
        node: a model, seed, snapshot or function of the manifest.
        own: as ``own_materializations``.
    """
    if node["resource_type"] in ("snapshot", "function"):
        return False
    if node["resource_type"] == "seed":
        return True
    materialized = (node.get("config") or {}).get("materialized") or "view"
    return materialized in own or materialized not in REPLACED
