"""What a change does to a node's relation: build it, rebuild its partitions, or start over."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from dbt_orchestration.changes.config import REWRITES_HISTORY
from dbt_orchestration.changes.dates import moment
from dbt_orchestration.changes.materializations import is_updated_in_place
from dbt_orchestration.changes.policy import HistoryPolicy, partition_set

Action = Literal["build", "partitions", "full_refresh"]

# The table's columns are not what the new code writes, and no partition can make them so.
_REBUILD_TABLE = frozenset(
    {"column_removed", "column_retyped", "columns_reordered", "columns", "names"}
)
_ADD_COLUMNS = frozenset({"append_new_columns", "sync_all_columns"})
_HISTORY = frozenset({"rows", "column_added", "column_changed"})
_ASKS = "its history is rebuilt when somebody says so (on_change: ask)"
# The relation has another name, or did not exist.
_ELSEWHERE = frozenset({"new", "renamed", "name"})
# Where a model says nothing.
_OPEN = {"begin": datetime.min, "end": datetime.max}
_REPLACED_RELATIONS = frozenset({"view", "ephemeral"})


@dataclass(frozen=True)
class Change:
    """One thing that is different about a node.

    Attributes:
        kind: new, renamed, rows, column_added, column_removed, column_retyped, column_changed,
            columns_reordered, columns (names are not known), names (upper and lower case of the
            columns'), order (of rows), partitions, config, name.
        what: the column, config key or former name it is about; of partitions ``added`` or
            ``removed``; "" for rows.
    """

    kind: str
    what: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.what}".strip()


PARTITIONS_ADDED = Change("partitions", "added")
PARTITIONS_REMOVED = Change("partitions", "removed")


def partition_changes(
    before: Mapping[str, Any] | None, node: Mapping[str, Any]
) -> tuple[Change, ...]:
    """What becomes of the set of partitions of a node that had some before."""
    old, new = partition_set(before or {}), partition_set(node)
    if not old or not new or old == new:
        return ()
    try:
        begins, ends = ([moment(n.get(k, d)) for n in (old, new)] for k, d in _OPEN.items())
    except ValueError:
        return (PARTITIONS_REMOVED,)  # nothing is known of it
    same_size = old.get("batch_size") == new.get("batch_size")
    grows = same_size and begins[1] <= begins[0] and ends[1] >= ends[0]
    return (PARTITIONS_ADDED if grows else PARTITIONS_REMOVED,)


def action_for(
    before: Mapping[str, Any] | None,
    node: Mapping[str, Any],
    changes: Collection[Change],
    *,
    own: Collection[str] = (),
    alone: str = "",
) -> tuple[Action, str]:
    """The action for a change, and a note: why it is this one, and whether somebody is asked first.

    Args:
        before: the node of the old manifest; None if it is new.
        node: the node of the new manifest.
        changes: what is different.
        own: materializations that are not dbt's own: see ``changes.materializations``.
        alone: why partitions of a microbatch model cannot be rebuilt where they are; "" if they
            can.
    """
    kept = HistoryPolicy.of(node)
    if not is_updated_in_place(node, own) or kept.forward_only:
        return "build", ""
    if not kept.incremental:
        return ("build" if _keeps_its_types(before or {}, node, changes) else "full_refresh"), ""
    kinds = {change.kind for change in changes}
    was = (before or {}).get("config", {}).get("materialized")
    asks = _ASKS if kept.on_change == "ask" else ""
    action: Action
    if was in (None, *_REPLACED_RELATIONS) or _ELSEWHERE & kinds:
        return ("partitions" if kept.partitions else "build"), ""
    if (why := _why_from_nothing(before or {}, node, changes)) is not None:
        action = "full_refresh"
    elif _HISTORY & kinds and kept.partitions and not alone:
        action = "partitions"
    elif _HISTORY & kinds:
        action = "full_refresh"
        why = alone and f"its partitions cannot be rebuilt where they are: {alone}"
    else:
        return "build", ""
    return action, "; ".join(filter(None, (why, asks)))


def _why_from_nothing(
    before: Mapping[str, Any], node: Mapping[str, Any], changes: Collection[Change]
) -> str | None:
    """Why the whole table has to be recreated; None if it need not, "" if that goes without."""
    kinds = {change.kind for change in changes}
    keys = {change.what for change in changes if change.kind == "config"}
    kept = HistoryPolicy.of(node)
    if "column_added" in kinds and kept.partitions and (why := _not_added(node)):
        return why
    if kept.partitions and not HistoryPolicy.of(node).microbatch and _HISTORY & kinds:
        # It is one statement over all partitions anyhow, and that would leave rows whose key does
        # not come again.
        return ""
    if PARTITIONS_REMOVED in changes:
        return "the table has partitions that are not the model's any more"
    times = [(n.get("config") or {}).get("event_time") for n in (before, node)]
    if HistoryPolicy.of(node).microbatch and times[0] != times[1]:
        return "its event_time is another column"
    return "" if _REBUILD_TABLE & kinds or REWRITES_HISTORY & keys else None


def _keeps_its_types(
    before: Mapping[str, Any], node: Mapping[str, Any], changes: Collection[Change]
) -> bool:
    """Whether dbt, which empties a seed's table and fills it again, leaves it as from nothing.

    Types of columns are taken from the values, unless they are stated. Where a node has no table
    yet, the run sees to what else may stand there.
    """
    if _ELSEWHERE & {change.kind for change in changes}:
        return True
    if node["resource_type"] != "seed":
        return False
    was, stated = _column_types(before), _column_types(node)
    return was == stated and all(
        change.kind == "rows" or (change.kind == "column_changed" and change.what.lower() in stated)
        for change in changes
    )


def _column_types(node: Mapping[str, Any]) -> dict[str, str]:
    said = (node.get("config") or {}).get("column_types") or {}
    return {name.lower(): str(kind).lower() for name, kind in said.items()}


def _not_added(node: Mapping[str, Any]) -> str:
    """Why dbt would not add a new column to the model's table; "" if it would."""
    said = node["config"].get("on_schema_change") or "ignore"
    if said in _ADD_COLUMNS:
        return ""
    return (
        f"on_schema_change is {said}, so dbt would not add the column to the table"
        " (append_new_columns would)"
    )
