"""Which keys of a node's config decide what is built.

The keys are those of dbt-core 1.11 and 1.12 (``NodeConfig``, ``ModelConfig``, ``SeedConfig``,
``SnapshotConfig``, ``TestConfig``, ``FunctionConfig``) and those that the duckdb and snowflake
adapters and their macros read. **A key that is in no table counts as content**: the safe side.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Says nothing about the rows and columns a build from nothing would make.
IGNORED: Mapping[str, str] = {
    "access": "who may reference the model",
    "alias": "part of the relation's name, which is compared itself",
    "concurrent_batches": "how batches are run",
    "contract": "compared with the columns it is about",
    "copy_grants": "access",
    "copy_tags": "governance",
    "database": "part of the relation's name",
    "docs": "documentation",
    "enabled": "a disabled node is in no manifest",
    "full_refresh": "how a run builds, not what",
    "group": "who owns the model",
    "latest_version_pointer": "compared where it is on",
    "lookback": "how far an ordinary run goes back; a build from nothing does not",
    "meta": "free text, unless a macro reads it; then it counts",
    "on_configuration_change": "how a run builds",
    "on_error": "what a run does after a failure",
    "on_schema_change": "how an ordinary run meets a changed schema; the plan decides that itself",
    "persist_docs": "documentation in the warehouse; the next build writes it",
    "freshness": "when something is late",
    "query_tag": "labels queries",
    "quoting": "part of the relation's name",
    "refresh_warehouse": "which compute runs it",
    "schema": "part of the relation's name",
    "scheduler": "which compute runs it",
    "snowflake_initialization_warehouse": "which compute runs it",
    "snowflake_warehouse": "which compute runs it",
    "static_analysis": "for another engine than dbt-core",
    "tags": "for selecting nodes",
    "target_database": "part of the relation's name",
    "target_schema": "part of the relation's name",
    "tmp_relation_type": "how an ordinary run works",
}

# The node must be built again, but what its children read is the same.
OWN: Mapping[str, str] = {
    "automatic_clustering": "storage",
    "base_location_root": "where the data lies",
    "base_location_subpath": "where the data lies",
    "cluster_by": "storage",
    "external_volume": "where the data lies",
    "format": "file format",
    "grants": "access to the relation",
    "iceberg_version": "file format",
    "immutable_where": "which rows a dynamic table may refresh",
    "incremental_predicates": "which rows an ordinary run replaces",
    "incremental_strategy": "how an ordinary run changes the table",
    "indexes": "storage",
    "materialized": "table, view or something else, with the same rows",
    "merge_exclude_columns": "which columns an ordinary run changes",
    "merge_update_columns": "which columns an ordinary run changes",
    "options": "how the file is written",
    "partition_by": "storage",
    "partitioned_by": "storage",
    "predicates": "which rows an ordinary run replaces",
    "row_access_policy": "access to rows",
    "secure": "a kind of view",
    "sort_by": "storage",
    "sorted_by": "storage",
    "table_format": "file format",
    "table_tag": "governance",
    "target_lag": "when a dynamic table refreshes",
    "transient": "storage",
    "unique_key": "which rows an ordinary run replaces",
}

# What an incremental table holds depends on the runs before: these make that history another one.
REWRITES_HISTORY = frozenset(
    {
        "incremental_predicates",
        "incremental_strategy",
        "materialized",
        "merge_exclude_columns",
        "merge_update_columns",
        "partition_by",
        "predicates",
        "unique_key",
    }
)

# Matter for microbatch models, and for what microbatch models read of their parents.
MICROBATCH = frozenset({"batch_size", "begin", "event_time"})

_INCREMENTAL = REWRITES_HISTORY - {"materialized", "partition_by"}
# What they make of a seed's file is compared column by column.
SEED_ONLY = frozenset({"column_types", "delimiter", "quote_columns"})
_TEST = frozenset(
    {
        "error_if",
        "fail_calc",
        "limit",
        "severity",
        "sql_header",
        "store_failures",
        "store_failures_as",
        "warn_if",
        "where",
    }
)


def own_keys(node: Mapping[str, Any]) -> dict[str, Any]:
    """The config that matters for the node only: key to value, defaults left out."""
    return {k: v for k, v in _relevant(node).items() if _is_own(node, k)}


def content_keys(node: Mapping[str, Any]) -> dict[str, Any]:
    """The config that decides rows and columns."""
    return {k: v for k, v in _relevant(node).items() if not _is_own(node, k)}


def test_keys(node: Mapping[str, Any]) -> dict[str, Any]:
    """The config that decides what a test says."""
    config = node.get("config") or {}
    return {k: v for k, v in config.items() if k in _TEST and v is not None}


def _is_own(node: Mapping[str, Any], key: str) -> bool:
    # A snapshot's dbt_scd_id is made of its unique key.
    return key in OWN and not (key == "unique_key" and node["resource_type"] == "snapshot")


def _relevant(node: Mapping[str, Any]) -> dict[str, Any]:
    config: Mapping[str, Any] = node.get("config") or {}
    kind = node["resource_type"]
    skipped = set(IGNORED) | {"pre-hook", "post-hook", "pre_hook", "post_hook"}
    skipped |= SEED_ONLY
    if kind == "seed":
        skipped |= MICROBATCH | _INCREMENTAL
    elif config.get("materialized") != "incremental":
        skipped |= MICROBATCH
        if kind != "snapshot":
            skipped |= _INCREMENTAL
    elif config.get("incremental_strategy") != "microbatch":
        skipped |= MICROBATCH
    return {k: v for k, v in config.items() if k not in skipped and v not in (None, [], {}, "")}
