"""Which runs there are, and what earlier attempts of a run have landed already."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import dagster as dg

from dbt_orchestration.partitions.request import resumes

UNFINISHED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]
_PAGE = 1_000
_LANDED = {dg.DagsterEventType.ASSET_MATERIALIZATION, dg.DagsterEventType.ASSET_OBSERVATION}


def unfinished_runs(instance: dg.DagsterInstance) -> Sequence[dg.DagsterRun]:
    """Runs that wait, or work, or are being stopped."""
    return instance.get_runs(dg.RunsFilter(statuses=UNFINISHED))


def attempts_of(context: dg.AssetExecutionContext) -> Sequence[dg.RunRecord]:
    """This run and those it goes on from, back to the first attempt."""
    run_id: str | None = context.run.run_id
    attempts: list[dg.RunRecord] = []
    while run_id and (record := context.instance.get_run_record_by_id(run_id)):
        attempts.append(record)
        run_id = resumes(record.dagster_run.tags)
    return attempts


def built_before(
    instance: dg.DagsterInstance, asset: dg.AssetKey, attempts: Sequence[dg.RunRecord]
) -> set[str]:
    """Partitions of an asset that were built before the first attempt."""
    if len(attempts) == 1:
        return set(instance.get_materialized_partitions(asset))
    before = dg.AssetRecordsFilter(
        asset, before_timestamp=attempts[-1].create_timestamp.timestamp()
    )
    built: set[str] = set()
    cursor: str | None = None
    while True:
        page = instance.fetch_materializations(before, limit=_PAGE, cursor=cursor)
        built |= {record.partition_key for record in page.records if record.partition_key}
        if not page.has_more:
            return built
        cursor = page.cursor


def landed(
    instance: dg.DagsterInstance,
    attempts: Sequence[dg.RunRecord],
    unique_ids: Mapping[dg.AssetKey | dg.AssetCheckKey, str],
) -> Mapping[str, set[str]]:
    """Partitions that landed in ``attempts``, by unique id; also those in a table beside."""
    found: dict[str, set[str]] = {}
    for attempt in attempts:
        for record in instance.get_records_for_run(
            attempt.dagster_run.run_id, of_type=_LANDED
        ).records:
            event = record.event_log_entry.dagster_event
            if not event or not event.asset_key or not event.partition:
                continue
            if unique_id := unique_ids.get(event.asset_key):
                found.setdefault(unique_id, set()).add(event.partition)
    return found
