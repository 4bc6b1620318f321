"""What failed and was taken back looks as it did before, without being built again.

Dagster shows an asset as failed until something is recorded that is newer than the run that failed;
and a check that the run did not come to, too. Once a commit stands that makes neither due, the push
sensor records both again as they were. That is for people alone: who asks what was built, and
when, is given what a run has recorded.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet

import dagster as dg

from dbt_orchestration.assets.dbt_assets import DbtAssets
from dbt_orchestration.assets.translator import PARTITIONS_CHECK
from dbt_orchestration.dagster_internals import CheckStatus
from dbt_orchestration.ledger.attempts import is_going_on
from dbt_orchestration.ledger.due import Due
from dbt_orchestration.ledger.recorded import (
    AS_IT_WAS,
    COMPLETED,
    evaluation_in,
    executions,
    last_build,
)
from dbt_orchestration.ledger.run_tags import PUSH_TAG, REVISION_TAG

_MOST_RUNS = 10
Event = dg.AssetMaterialization | dg.AssetCheckEvaluation


def taken_back(instance: dg.DagsterInstance, dbt: DbtAssets, due: Due) -> Iterator[Event]:
    """What the environment's pushes made fail, and stands as the commit says that is loaded."""
    env = dbt.env
    failed = dg.RunsFilter(tags={PUSH_TAG: env.name}, statuses=[dg.DagsterRunStatus.FAILURE])
    runs = {
        run.run_id: run
        for run in instance.get_runs(failed, limit=_MOST_RUNS)
        # The failure of the commit that is loaded is not taken back.
        if run.tags.get(REVISION_TAG) != env.revision.digest
        if not is_going_on(instance, run, time.time())
    }
    if runs:
        nodes = due.built.keys() & dbt.nodes.keys() - due.nodes.keys() - due.waiting.keys()
        stand = {dbt.keys[u] for u in nodes | dbt.sources.keys()}
        yield from _assets(instance, dbt, runs, stand)
        checks = {key for key in dbt.checks if key.asset_key in stand}
        checks |= {dg.AssetCheckKey(key, PARTITIONS_CHECK) for key in stand}
        yield from _checks(instance, runs, checks - {*due.checks})


def _assets(
    instance: dg.DagsterInstance,
    dbt: DbtAssets,
    runs: Mapping[str, dg.DagsterRun],
    wanted: AbstractSet[dg.AssetKey],
) -> Iterator[Event]:
    specs = dbt.definition.specs_by_key
    keys = {key for run in runs.values() for key in run.asset_selection or ()}
    shown = [
        key
        for key in keys & wanted & specs.keys()
        # How old the data of the one is, and which partitions of the other, is told by such events.
        if specs[key].freshness_policy is None and specs[key].partitions_def is None
    ]
    for record in instance.get_asset_records(shown):
        failed = record.asset_entry.last_run_id
        last = last_build(instance, record) if failed in runs else None
        event = last and last.asset_materialization
        if failed and last and event and failed != last.run_id:
            yield dg.AssetMaterialization(
                event.asset_key,
                description=_said(f"built in run {last.run_id[:8]}", failed),
                metadata={AS_IT_WAS: dg.MetadataValue.dagster_run(last.run_id)},
                tags=event.tags,
            )


def _checks(
    instance: dg.DagsterInstance,
    runs: Mapping[str, dg.DagsterRun],
    wanted: AbstractSet[dg.AssetCheckKey],
) -> Iterator[Event]:
    assets = {key for run in runs.values() for key in run.asset_selection or ()}
    alone = {key for run in runs.values() for key in run.asset_check_selection or ()}
    keys = [key for key in wanted if key in alone or key.asset_key in assets]
    storage = instance.event_log_storage
    for key, latest in storage.get_latest_asset_check_execution_by_key(keys).items():
        if latest.status is not CheckStatus.PLANNED or latest.run_id not in runs:
            continue
        before = next(executions(instance, key, COMPLETED), None)
        if before and (found := evaluation_in(before)):
            run = dg.MetadataValue.dagster_run(before.run_id)
            yield dg.AssetCheckEvaluation(
                asset_key=key.asset_key,
                check_name=key.name,
                passed=found.passed,
                severity=found.severity,
                description=_said(f"found in run {before.run_id[:8]}", latest.run_id),
                metadata={**found.metadata, AS_IT_WAS: run},
            )


def _said(stands: str, run_id: str) -> str:
    return f"As it was, {stands}: what failed in run {run_id[:8]} was taken back."
