"""Two runs that find no table would both create it, and one would lose its batches."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence

import dagster as dg

_POLL_SECONDS = 1.0


def wait_for_creation(context: dg.AssetExecutionContext, keys: Collection[dg.AssetKey]) -> None:
    """Wait while an older run is about to create a table of ``keys`` that was never built.

    dbt looks for the table when a model starts, and creates it with the first batch. Of several
    runs that build other partitions of a new model at once, the oldest creates it. Runs never wait
    for younger ones, so none waits for ever.
    """
    said: set[str] = set()
    while runs := _creating(context, keys):
        for run in runs:
            if run.run_id not in said:
                said.add(run.run_id)
                context.log.info(f"Waiting for run {run.run_id[:8]}, which creates the table.")
        time.sleep(_POLL_SECONDS)


def _creating(
    context: dg.AssetExecutionContext, keys: Collection[dg.AssetKey]
) -> Sequence[dg.DagsterRun]:
    instance = context.instance
    new = {key for key in keys if instance.get_latest_materialization_event(key) is None}
    own = instance.get_run_record_by_id(context.run.run_id)
    if not new or own is None:
        return []
    started = dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED])
    return [
        record.dagster_run
        for record in instance.get_run_records(started)
        if new & set(record.dagster_run.asset_selection or ())
        if (record.create_timestamp, record.dagster_run.run_id)
        < (own.create_timestamp, context.run.run_id)
    ]
