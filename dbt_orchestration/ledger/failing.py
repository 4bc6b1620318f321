"""Since when a test fails, as Dagster's event log says."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice

import dagster as dg

from dbt_orchestration.dagster_internals import CheckStatus
from dbt_orchestration.ledger.recorded import executions

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
    passed = next(executions(instance, test, {CheckStatus.SUCCEEDED}), None)
    failed = islice(executions(instance, test, {CheckStatus.FAILED}, page=_MOST), _MOST)
    since = [record for record in failed if not passed or record.id > passed.id]
    if not since:
        return None
    first = since[-1]
    return FailingSince(first.create_timestamp, first.run_id, at_least=len(since) == _MOST)
