"""What a change does to a node's history: build it, rebuild its partitions, or start over."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from dbt_orchestration.changes.config import REWRITES_HISTORY

Action = Literal["build", "partitions", "full_refresh"]
OnChange = Literal["rebuild", "ask", "forward_only"]

# The table's columns are not what the new code writes, and no partition can make them so.
_REBUILD_TABLE = frozenset({"column_removed", "column_retyped", "columns_reordered", "columns"})
_ADD_COLUMNS = frozenset({"append_new_columns", "sync_all_columns"})
_HISTORY = frozenset({"rows", "column_added", "column_changed"})
_ASKS = "its history is rebuilt when somebody says so (on_change: ask)"


@dataclass(frozen=True)
class Partitioned:
    """How a node keeps history.

    Attributes:
        incremental: an ordinary run adds to what runs before it left.
        partitions: history can be rebuilt by partition.
        forward_only: the model's owner says that changes are for new partitions only, or that its
            table is never rebuilt (``full_refresh: false``).
        on_change: what the owner says of changes; None if nothing.
    """

    incremental: bool
    partitions: bool
    forward_only: bool
    on_change: OnChange | None = None

    @classmethod
    def of(cls, node: Mapping[str, Any]) -> Partitioned:
        """Read from a node of the manifest."""
        config = node.get("config") or {}
        meta = {**(node.get("meta") or {}), **(config.get("meta") or {})}
        dagster = meta.get("dagster") or {}
        dagster = dagster if isinstance(dagster, Mapping) else {}
        incremental = config.get("materialized") == "incremental"
        microbatch = incremental and config.get("incremental_strategy") == "microbatch"
        return cls(
            incremental,
            microbatch or (incremental and bool(dagster.get("partitions"))),
            dagster.get("on_change") == "forward_only" or config.get("full_refresh") is False,
            dagster.get("on_change"),
        )


def action_for(
    before: Mapping[str, Any] | None,
    node: Mapping[str, Any],
    kinds: Collection[str],
    keys: Collection[str],
) -> tuple[Action, str]:
    """The action for a change, and a note: why it is this one, and whether somebody is asked first.

    Args:
        before: the node of the old manifest; None if it is new.
        node: the node of the new manifest.
        kinds: the kinds of ``plan.Change``.
        keys: config keys that changed.
    """
    kept = Partitioned.of(node)
    if not kept.incremental:
        return "build", ""
    was = (before or {}).get("config", {}).get("materialized")
    if was in (None, "view", "ephemeral") or {"new", "renamed", "name"} & set(kinds):
        return ("partitions" if kept.partitions else "build"), ""
    if kept.forward_only:
        return "build", ""
    asks = _ASKS if kept.on_change == "ask" else ""
    lacks = _not_added(node) if "column_added" in kinds and kept.partitions else ""
    if lacks or _REBUILD_TABLE & set(kinds) or REWRITES_HISTORY & set(keys):
        return "full_refresh", "; ".join(filter(None, (lacks, asks)))
    if _HISTORY & set(kinds):
        return ("partitions" if kept.partitions else "full_refresh"), asks
    return "build", ""


def _not_added(node: Mapping[str, Any]) -> str:
    """Why dbt would not add a new column to the model's table; "" if it would."""
    said = node["config"].get("on_schema_change") or "ignore"
    if said in _ADD_COLUMNS:
        return ""
    return (
        f"on_schema_change is {said}, so dbt would not add the column to the table"
        " (append_new_columns would)"
    )
