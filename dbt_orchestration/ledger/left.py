"""Partitioned assets that a run was to build and has not begun: they stand as they did before.

Dagster keeps the check that all partitions were built as planned. A run that died says no more, and
then some of them may have been built. A run that ends in order says which assets it left alone. It
does not give their checks a result: who goes on from the run would then leave those checks out.
"""

from __future__ import annotations

from collections.abc import Collection

import dagster as dg

from dbt_orchestration.history.order import packed, unpacked
from dbt_orchestration.ledger.run_tags import LEFT_TAG


def say_left(context: dg.AssetExecutionContext, assets: Collection[dg.AssetKey]) -> None:
    """Say that the run ends without having begun these."""
    if assets:
        run_id = context.run.run_id
        said = [run_id, sorted(asset.to_user_string() for asset in assets)]
        context.instance.add_run_tags(run_id, packed(LEFT_TAG, said))


def left_by(run: dg.DagsterRun) -> Collection[str]:
    """The names of the assets that a run has said to have left."""
    run_id, assets = unpacked(LEFT_TAG, run.tags) or ("", ())
    # A run that retries another one gets its tags.
    return assets if run_id == run.run_id else ()
