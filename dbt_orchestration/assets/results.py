"""dbt's structured events as Dagster's: what landed, what was checked, and how it went."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from typing import Any

import dagster as dg

from dbt_orchestration.assets.partitions import PartitionConfig
from dbt_orchestration.assets.provenance import Record
from dbt_orchestration.assets.request import Partitions
from dbt_orchestration.assets.translator import PARTITIONS_CHECK

Event = Mapping[str, Any]
Facts = Mapping[str, dg.MetadataValue[Any]]
Result = dg.MaterializeResult[Any] | dg.AssetMaterialization | dg.AssetCheckResult

DURATION = "Execution Duration"
FINGERPRINT = "dbt/fingerprint"
_DATA_VERSION_TAG = "dagster/data_version"
_LANDED = frozenset({"success", "no-op", "reused", "warn"})


def check_result(event: Event, key: dg.AssetCheckKey, fingerprint: str | None) -> Iterator[Result]:
    """The result of a data or unit test, unless dbt skipped it."""
    data = event["data"]
    status = _status(data)
    if status != "skipped":
        warned = status == "warn"
        yield dg.AssetCheckResult(
            asset_key=key.asset_key,
            check_name=key.name,
            passed=status == "pass",
            severity=dg.AssetCheckSeverity.WARN if warned else dg.AssetCheckSeverity.ERROR,
            metadata={
                "status": status,
                "failed_rows": int(data.get("num_failures") or 0),
                FINGERPRINT: fingerprint or "",
            },
        )


def node_result(event: Event, key: dg.AssetKey, record: Record, facts: Facts) -> Iterator[Result]:
    """The materialization of a node without partitions, if it landed.

    ``facts`` is metadata that is known without running anything.
    """
    if _status(event["data"]) in _LANDED:
        yield dg.MaterializeResult(
            asset_key=key,
            metadata={**_metadata(event["data"]), **record.metadata, **facts},
            tags=record.tags,
        )


def partition_results(
    event: Event,
    key: dg.AssetKey,
    model: PartitionConfig,
    partitions: Partitions,
    *,
    record: Record,
    facts: Facts,
) -> Iterator[Result]:
    """What an event says about a partitioned model: a batch that landed, or the model's end.

    Partitions are recorded one by one, as they land: the output of a multi-asset would record the
    whole range of the run, or nothing.
    """
    data = event["data"]
    landed = _status(data) in _LANDED
    if "batch_index" in data:
        keys = [partitions.keys[int(data["batch_index"]) - 1]]
    else:
        keys = [] if model.is_microbatch else list(partitions.keys)
        if _status(data) != "skipped":
            yield dg.AssetCheckResult(
                asset_key=key,
                check_name=PARTITIONS_CHECK,
                passed=landed,
                metadata={"requested": len(partitions.keys), "result": data["status"]},
            )
    tags = {_DATA_VERSION_TAG: str(uuid.uuid4()), **record.tags}
    for partition in keys if landed else []:
        # The UI shows an asset's latest: once a run is enough.
        known = {**record.metadata, **facts} if partition == partitions.keys[-1] else {}
        metadata = {**_metadata(data), **known}
        yield dg.AssetMaterialization(key, partition=partition, metadata=metadata, tags=tags)


def _status(data: Mapping[str, Any]) -> str:
    """dbt's status of a node, test or batch, in lower case.

    A batch says what the warehouse answered instead of "success", and carries its model's status.
    """
    status = str(data.get("status", "")).lower()
    if "batch_index" in data:
        return status if status in ("error", "skipped") else "success"
    node_status = str(data["node_info"].get("node_status") or "none").lower()
    return status if node_status == "none" else node_status


def _metadata(data: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "dbt/unique_id": data["node_info"]["unique_id"],
        DURATION: float(data.get("execution_time") or 0.0),
    }
