"""What was built, as Dagster's event log says: the only truth about it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import dagster as dg

from dbt_orchestration.assets.results import DURATION, FINGERPRINT

_CODE_VERSION = "dagster/code_version"


@dataclass(frozen=True)
class Built:
    """The last time a node was built.

    Attributes:
        fingerprint: what it was built with.
        timestamp: when, in seconds since 1970.
        seconds: how long dbt took.
    """

    fingerprint: str
    timestamp: float
    seconds: float


def read_built(
    instance: dg.DagsterInstance, keys: Mapping[str, dg.AssetKey]
) -> Mapping[str, Built]:
    """What was built last of each node, by unique id; without those that never were."""
    names = {key: unique_id for unique_id, key in keys.items()}
    found: dict[str, Built] = {}
    for record in instance.get_asset_records(list(names)):
        last = record.asset_entry.last_materialization_record
        event = last and last.asset_materialization
        if not last or not event:
            continue
        duration = event.metadata.get(DURATION)
        found[names[record.asset_entry.asset_key]] = Built(
            (event.tags or {}).get(_CODE_VERSION, ""),
            last.timestamp,
            float(str(duration.value)) if duration else 0.0,
        )
    return found


def read_checked(
    instance: dg.DagsterInstance, keys: Collection[dg.AssetCheckKey]
) -> Mapping[dg.AssetCheckKey, str]:
    """The fingerprint of each test when it ran last; without those that never did."""
    records = instance.event_log_storage.get_latest_asset_check_execution_by_key(list(keys))
    found: dict[dg.AssetCheckKey, str] = {}
    for key, record in records.items():
        event = record.event.dagster_event if record.event else None
        if event and event.event_type is dg.DagsterEventType.ASSET_CHECK_EVALUATION:
            value = event.asset_check_evaluation_data.metadata.get(FINGERPRINT)
            found[key] = str(value.value) if value else ""
    return found
