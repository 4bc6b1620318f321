"""What was recorded of assets and checks, without what was recorded for people alone.

``as_it_was`` makes what failed and was taken back look as it did before. Nothing was built or
tested then, so whoever asks what was, and when, asks here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

import dagster as dg

from dbt_orchestration.dagster_internals import AssetRecord, CheckRecord, CheckStatus

# In the metadata of what nobody has built or tested: the run that did, before.
AS_IT_WAS = "as it was in run"
COMPLETED = frozenset({CheckStatus.SUCCEEDED, CheckStatus.FAILED})


def last_build(instance: dg.DagsterInstance, record: AssetRecord) -> dg.EventLogRecord | None:
    """The materialization of an asset that tells when it was built last; None if it never was."""
    last = record.asset_entry.last_materialization_record
    while last and (event := last.asset_materialization) and AS_IT_WAS in event.metadata:
        before = dg.AssetRecordsFilter(event.asset_key, before_storage_id=last.storage_id)
        last = next(iter(instance.fetch_materializations(before, limit=1).records), None)
    return last


def executions(
    instance: dg.DagsterInstance,
    key: dg.AssetCheckKey,
    status: Collection[CheckStatus] | None = None,
    page: int = 10,
) -> Iterator[CheckRecord]:
    """What runs were to check, and found, the newest first.

    Args:
        status: only these.
        page: how many are read at once.
    """
    storage, cursor = instance.event_log_storage, None
    while True:
        records = storage.get_asset_check_execution_history(
            key, page, cursor, {*status} if status else None
        )
        yield from (record for record in records if not is_as_it_was(record))
        if len(records) < page:
            return
        cursor = records[-1].id


def is_as_it_was(record: CheckRecord) -> bool:
    """Whether a check was not done, and only looks again as it did before."""
    found = evaluation_in(record)
    return found is not None and AS_IT_WAS in found.metadata


def evaluation_in(record: CheckRecord) -> dg.AssetCheckEvaluation | None:
    """What a check has found, if it was done."""
    event = record.event.dagster_event if record.event else None
    if event and event.event_type is dg.DagsterEventType.ASSET_CHECK_EVALUATION:
        return event.asset_check_evaluation_data
    return None
