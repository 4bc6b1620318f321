"""dbt's structured events as Dagster's: what succeeded, what was checked, and how it went."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import dagster as dg

from dbt_orchestration.assets.translator import PARTITIONS_CHECK
from dbt_orchestration.changes.materializations import is_updated_in_place, own_materializations
from dbt_orchestration.history.partitions import PartitionConfig
from dbt_orchestration.history.request import Partitions
from dbt_orchestration.ledger.provenance import (
    FINGERPRINT,
    MISSING,
    RELATION,
    UNIQUE_ID,
    Record,
)
from dbt_orchestration.runs.figures import node_figures, partition_figures

Event = Mapping[str, Any]
Facts = Mapping[str, Any]
Result = dg.MaterializeResult[Any] | dg.AssetMaterialization | dg.AssetCheckResult

QUERY_ID = "query id"
_NAMED = 5
_SUCCEEDED = frozenset({"success", "no-op", "reused", "warn"})


def check_result(
    event: Event, key: dg.AssetCheckKey, fingerprint: str | None, facts: Facts
) -> Iterator[Result]:
    """The result of a data or unit test, unless dbt skipped it."""
    data = event["data"]
    found = status(data)
    if found != "skipped":
        warned = found == "warn"
        yield dg.AssetCheckResult(
            asset_key=key.asset_key,
            check_name=key.name,
            passed=found == "pass",
            severity=dg.AssetCheckSeverity.WARN if warned else dg.AssetCheckSeverity.ERROR,
            metadata={
                "status": found,
                "failed_rows": int(data.get("num_failures") or 0),
                FINGERPRINT: fingerprint or "",
                **facts,
            },
        )


def node_result(event: Event, key: dg.AssetKey, record: Record, facts: Facts) -> Iterator[Result]:
    """The materialization of a node without partitions, if it succeeded.

    ``facts`` is metadata that is known without running anything.
    """
    if status(event["data"]) in _SUCCEEDED:
        yield dg.MaterializeResult(
            asset_key=key,
            metadata={
                **_names(event["data"]),
                **node_figures(event["data"]),
                **record.metadata,
                **facts,
            },
            tags=record.tags,
        )


def partition_results(
    event: Event,
    key: dg.AssetKey,
    model: PartitionConfig,
    partitions: Partitions,
    succeeded_now: set[str],
    *,
    record: Record,
    facts: Facts,
) -> Iterator[Result]:
    """What an event says about a partitioned model: a batch that succeeded, or the model's end.

    Partitions are recorded one by one, as they land: the output of a multi-asset would record the
    whole range of the run, or nothing. They are added to ``succeeded_now``.
    """
    data = event["data"]
    succeeded = status(data) in _SUCCEEDED
    if "batch_index" in data:
        keys = partitions.batches[int(data["batch_index"]) - 1]
    else:
        keys = [] if model.is_microbatch else partitions.keys
        succeeded_now.update(keys if succeeded else ())
        missing = [key for key in partitions.keys if key not in succeeded_now]
        if status(data) != "skipped":
            yield dg.AssetCheckResult(
                asset_key=key,
                check_name=PARTITIONS_CHECK,
                passed=not missing,
                metadata={
                    "requested": len(partitions.keys),
                    "result": data["status"],
                    MISSING: dg.MetadataValue.json(missing),
                },
            )
    tags = record.partition_tags
    succeeded_now.update(keys if succeeded else ())
    for partition in keys if succeeded else []:
        metadata: dict[str, Any] = {
            **_names(data),
            RELATION: record.relation,
            **partition_figures(data, len(keys), newest=partition == keys[-1]),
        }
        if partition == keys[-1] and keys in (partitions.batches[0], partitions.batches[-1]):
            # The UI shows an asset's latest: not every one has to carry all that is known.
            metadata |= {**record.metadata, **facts}
        yield dg.AssetMaterialization(key, partition=partition, metadata=metadata, tags=tags)


def failed_by(event: Event, manifest: Mapping[str, Any]) -> Collection[str]:
    """What must not be built on after this event: a node that did not land wholly, or whose test
    failed; by unique id.
    """
    data = event["data"]
    unique_id = data["node_info"]["unique_id"]
    if "batch_index" in data:
        return ()
    if event["info"]["name"] != "LogTestResult":
        return () if status(data) in _SUCCEEDED else {unique_id}
    if status(data) in ("pass", "warn", "skipped"):
        return ()
    test = manifest["nodes"].get(unique_id) or manifest["unit_tests"].get(unique_id) or {}
    return set((test.get("depends_on") or {}).get("nodes") or ())


def was_skipped(event: Event) -> bool:
    """Whether dbt says that it did not begin a node or a test, because of what it depends on."""
    return "batch_index" not in event["data"] and status(event["data"]) == "skipped"


def broken_by(event: Event, manifest: Mapping[str, Any]) -> set[str]:
    """The node at which dbt failed, if something of what it was to make may be in its relation.

    What is made under another name, or in one statement, and has no hook after it, is not.
    """
    data = event["data"]
    node = manifest["nodes"].get(data["node_info"]["unique_id"])
    is_result = "batch_index" not in data and event["info"]["name"] != "LogTestResult"
    if node is None or not is_result or status(data) != "error":
        return set()
    own = own_materializations(manifest)
    hooks = (node.get("config") or {}).get("post-hook")
    return {node["unique_id"]} if hooks or is_updated_in_place(node, own) else set()


def left_out(nodes: Sequence[Mapping[str, Any]]) -> str:
    """One line that names what dbt was to do and did not, although nothing in its way failed."""
    named = [
        f"{node['resource_type'].replace('_', ' ')} {node['name']} ({node['original_file_path']})"
        for node in nodes[:_NAMED]
    ]
    more = f" and {len(nodes) - _NAMED} more" if len(nodes) > _NAMED else ""
    return f"dbt left out, wholly or in part, and without an error: {', '.join(named)}{more}."


def status(data: Mapping[str, Any]) -> str:
    """dbt's status of a node, test or batch, in lower case.

    A batch says what the warehouse answered instead of "success", and carries its model's status.
    """
    status = str(data.get("status", "")).lower()
    if "batch_index" in data:
        return status if status in ("error", "skipped") else "success"
    node_status = str(data["node_info"].get("node_status") or "none").lower()
    return status if node_status == "none" else node_status


def _names(data: Mapping[str, Any]) -> dict[str, str]:
    """The unique id of the node, and the id of the query that built it, if it has one."""
    query_id = data["outcome"]["adapter_response"].get("query_id")
    named = {UNIQUE_ID: str(data["node_info"]["unique_id"])}
    return named | ({QUERY_ID: query_id} if query_id else {})
