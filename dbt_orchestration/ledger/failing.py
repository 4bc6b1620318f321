"""Since when a test fails, as Dagster's event log says."""

from __future__ import annotations

from dataclasses import dataclass

import dagster as dg

from dbt_orchestration.dagster_internals import CheckStatus

_MOST = 200


@dataclass(frozen=True)
class FailingSince:
    """The first of the runs in a row in which a test failed.

    Attributes:
        timestamp: when, in seconds since 1970.
        at_least: it may have failed before.
    """

    timestamp: float
    run_id: str
    at_least: bool


def failing_since(instance: dg.DagsterInstance, test: dg.AssetCheckKey) -> FailingSince | None:
    """Since when a test fails; None if it passed when it was done last, or was never done.

    A test that warns fails.
    """
    history = instance.event_log_storage.get_asset_check_execution_history
    passed = history(test, limit=1, status={CheckStatus.SUCCEEDED})
    failed = history(test, limit=_MOST, status={CheckStatus.FAILED})
    since = [record for record in failed if not passed or record.id > passed[0].id]
    if not since:
        return None
    first = since[-1]
    return FailingSince(first.create_timestamp, first.run_id, at_least=len(since) == _MOST)
