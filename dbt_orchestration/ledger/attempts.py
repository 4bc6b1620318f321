"""Which runs there are, and what earlier attempts of a run have succeeded already."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

import dagster as dg

from dbt_orchestration import dagster_internals
from dbt_orchestration.history.request import ROOT_TAG, resumes
from dbt_orchestration.ledger.present import absent_since

UNFINISHED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]
_PAGE = 1_000
# Dagster may give up a retry that it has announced.
_RETRY_SECONDS = 600.0
_SUCCEEDED = {dg.DagsterEventType.ASSET_MATERIALIZATION, dg.DagsterEventType.ASSET_OBSERVATION}

# The run that Dagster has started in the place of one that failed.
AUTO_RETRY_TAG = "dagster/auto_retry_run_id"
# One retry of what failed or was never reached; the UI offers the same by hand.
RETRY_TAGS = {"dagster/max_retries": "1", "dagster/retry_strategy": "FROM_ASSET_FAILURE"}
# A process that died is no failure of the code it ran; dbt's failures are not tried again.
CRASH_TAGS = {
    "dagster/max_retries": "2",
    "dagster/retry_on_asset_or_op_failure": "false",
    "dagster/retry_strategy": "FROM_ASSET_FAILURE",
}


def is_going_on(instance: dg.DagsterInstance, run: dg.DagsterRun, now: float) -> bool:
    """Whether a run has not ended, or Dagster is about to start it again.

    Args:
        now: in seconds since 1970.
    """
    if not run.is_finished:
        return True
    # Whether it will, Dagster writes down a moment after the run has failed.
    undecided = run.status is dg.DagsterRunStatus.FAILURE and "dagster/will_retry" not in run.tags
    undecided = undecided and dagster_internals.retries_runs(instance)
    if not undecided and not dagster_internals.is_to_be_retried(run):
        return False
    record = instance.get_run_record_by_id(run.run_id)
    ended = record.end_time if record else None
    return ended is not None and now < ended + _RETRY_SECONDS


def first_attempt_of(run: dg.DagsterRun) -> str:
    """The id of the run that a run, or that from which it goes on, has begun with."""
    # A run that a sensor of ours has asked for has its parents in its tags alone.
    return run.tags.get(ROOT_TAG) or run.run_id


def unfinished_runs(instance: dg.DagsterInstance) -> Sequence[dg.DagsterRun]:
    """Runs that wait, or work, or are being stopped."""
    return instance.get_runs(dg.RunsFilter(statuses=UNFINISHED))


def assets_in(
    instance: dg.DagsterInstance, run_id: str, kind: dg.DagsterEventType
) -> set[dg.AssetKey]:
    """The assets that a run has events of one kind about."""
    records = instance.get_records_for_run(run_id, of_type=kind).records
    return {record.asset_key for record in records if record.asset_key}


def planned_by(instance: dg.DagsterInstance, run: dg.DagsterRun) -> Collection[dg.AssetKey]:
    """What a run is going to build; a job that is launched as a whole selects nothing."""
    return run.asset_selection or assets_in(
        instance, run.run_id, dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED
    )


def built_by(instance: dg.DagsterInstance, run: dg.DagsterRun) -> Collection[dg.AssetKey]:
    """What a run has built so far, of partitioned assets perhaps a part."""
    return assets_in(instance, run.run_id, dg.DagsterEventType.ASSET_MATERIALIZATION)


def attempts_of(context: dg.AssetExecutionContext) -> Sequence[dg.RunRecord]:
    """This run and those it goes on from, back to the first attempt."""
    run_id: str | None = context.run.run_id
    attempts: list[dg.RunRecord] = []
    while run_id and (record := context.instance.get_run_record_by_id(run_id)):
        attempts.append(record)
        run_id = resumes(record.dagster_run.tags)
    return attempts


def partitions_until(instance: dg.DagsterInstance, asset: dg.AssetKey, place: int) -> set[str]:
    """Partitions that were built last before this place in the event log."""
    latest = instance.event_log_storage.get_latest_storage_id_by_partition(
        asset, dg.DagsterEventType.ASSET_MATERIALIZATION
    )
    return {partition for partition, storage_id in latest.items() if storage_id <= place}


def built_before(
    instance: dg.DagsterInstance, asset: dg.AssetKey, attempts: Sequence[dg.RunRecord]
) -> set[str]:
    """Partitions of an asset that were built before the first attempt, and are there.

    Args:
        attempts: of a run, the last one first; none if there is no run yet.
    """
    if len(attempts) <= 1:
        absent = absent_since(instance, [asset]).get(asset)
        built = set(instance.get_materialized_partitions(asset))
        return built if absent is None else built - partitions_until(instance, asset, absent)
    return built_until(instance, asset, attempts[-1].create_timestamp.timestamp())


def built_until(instance: dg.DagsterInstance, asset: dg.AssetKey, moment: float) -> set[str]:
    """Partitions of an asset that were built before ``moment``, and are there.

    Args:
        moment: in seconds since 1970.
    """
    return _partitions(instance, dg.AssetRecordsFilter(asset, before_timestamp=moment))


def built_since(
    instance: dg.DagsterInstance,
    asset: dg.AssetKey,
    moment: float,
    *,
    but_by: Callable[[str], bool] = lambda _: False,
) -> set[str]:
    """Likewise, after ``moment``.

    Args:
        but_by: whether what a run (its id) has built does not count.
    """
    return _partitions(instance, dg.AssetRecordsFilter(asset, after_timestamp=moment), but_by)


def _partitions(
    instance: dg.DagsterInstance,
    wanted: dg.AssetRecordsFilter,
    but_by: Callable[[str], bool] = lambda _: False,
) -> set[str]:
    absent = absent_since(instance, [wanted.asset_key]).get(wanted.asset_key)
    built: set[str] = set()
    cursor: str | None = None
    while True:
        page = instance.fetch_materializations(wanted, limit=_PAGE, cursor=cursor)
        built |= {
            record.partition_key
            for record in page.records
            if record.partition_key and (absent is None or record.storage_id > absent)
            if not but_by(record.run_id)
        }
        if not page.has_more:
            return built
        cursor = page.cursor


def succeeded(
    instance: dg.DagsterInstance,
    attempts: Sequence[dg.RunRecord],
    unique_ids: Mapping[dg.AssetKey | dg.AssetCheckKey, str],
    beside: Collection[str],
) -> Mapping[str, set[str]]:
    """Partitions that succeeded in ``attempts`` and are there, by unique id.

    Of a run whose process died, the last event may be in the log of the run, and in no other.

    Args:
        beside: nodes that are built beside their tables: of these those count that were built so.
    """
    began = min((each.create_timestamp.timestamp() for each in attempts), default=0.0)
    runs = {each.dagster_run.run_id for each in attempts}
    found: dict[str, set[str]] = {}
    for attempt in attempts:
        for record in instance.get_records_for_run(
            attempt.dagster_run.run_id, of_type=_SUCCEEDED
        ).records:
            event = record.event_log_entry.dagster_event
            if not event or not event.asset_key or not event.partition:
                continue
            unique_id = unique_ids.get(event.asset_key)
            if unique_id and (event.is_step_materialization or unique_id in beside):
                found.setdefault(unique_id, set()).add(event.partition)
    keys = {key: u for key, u in unique_ids.items() if isinstance(key, dg.AssetKey) and u in found}
    for key, u in keys.items():
        if u not in beside:
            found[u] &= built_since(instance, key, began, but_by=lambda run: run not in runs)
    for key, place in absent_since(instance, keys).items():
        there = set(instance.get_materialized_partitions(key))
        found[keys[key]] &= there - partitions_until(instance, key, place)
    return found
