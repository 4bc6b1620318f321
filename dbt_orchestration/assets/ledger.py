"""What was built, as Dagster's event log says: the only truth about it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import dagster as dg

from dbt_orchestration.assets.provenance import CODE_VERSION_TAG
from dbt_orchestration.assets.results import DURATION, FINGERPRINT
from dbt_orchestration.assets.translator import PARTITIONS_CHECK
from dbt_orchestration.revisions.explain import PARTIAL
from dbt_orchestration.upstream import CheckStatus


@dataclass(frozen=True)
class Built:
    """The last time a node was built.

    Attributes:
        fingerprint: what it was built with.
        timestamp: when, in seconds since 1970.
        seconds: how long dbt took.
        run_id: the run that did.
    """

    fingerprint: str
    timestamp: float
    seconds: float
    run_id: str


def read_built(
    instance: dg.DagsterInstance, keys: Mapping[str, dg.AssetKey]
) -> Mapping[str, Built]:
    """What was built last of each node, by unique id; without those that never were."""
    names = {key: unique_id for unique_id, key in keys.items()}
    partial = _partly_built(instance, names)
    found: dict[str, Built] = {}
    for record in instance.get_asset_records(list(names)):
        last = record.asset_entry.last_materialization_record
        event = last and last.asset_materialization
        if not last or not event:
            continue
        key = record.asset_entry.asset_key
        version = (event.tags or {}).get(CODE_VERSION_TAG, "")
        duration = event.metadata.get(DURATION)
        found[names[key]] = Built(
            f"{version}{PARTIAL}" if key in partial else version,
            last.timestamp,
            float(str(duration.value)) if duration else 0.0,
            last.run_id,
        )
    return found


def _partly_built(
    instance: dg.DagsterInstance, keys: Collection[dg.AssetKey]
) -> Collection[dg.AssetKey]:
    """Partitioned assets whose last run did not build all the partitions it was to."""
    checks = [dg.AssetCheckKey(key, PARTITIONS_CHECK) for key in keys]
    records = instance.event_log_storage.get_latest_asset_check_execution_by_key(checks)
    return {
        key.asset_key
        for key, record in records.items()
        if record.status is not CheckStatus.SUCCEEDED
    }


def read_checked(
    instance: dg.DagsterInstance, keys: Collection[dg.AssetCheckKey]
) -> Mapping[dg.AssetCheckKey, str]:
    """The fingerprint of each test when it ran last; without those that did not pass.

    A test that only warns has passed.
    """
    records = instance.event_log_storage.get_latest_asset_check_execution_by_key(list(keys))
    found: dict[dg.AssetCheckKey, str] = {}
    for key, record in records.items():
        event = record.event.dagster_event if record.event else None
        if event and event.event_type is dg.DagsterEventType.ASSET_CHECK_EVALUATION:
            evaluation = event.asset_check_evaluation_data
            value = evaluation.metadata.get(FINGERPRINT)
            if evaluation.passed or evaluation.severity is dg.AssetCheckSeverity.WARN:
                found[key] = str(value.value) if value else ""
    return found
