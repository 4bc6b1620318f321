"""What builds cost, as far as the warehouse has told Dagster."""

from __future__ import annotations

from collections.abc import Collection

import dagster as dg

# Metadata of observations: credits of a node's queries in one run, and of the tests on it.
CREDITS, CREDITS_OF_TESTS = "credits", "credits of tests"
# Who looks at an asset, and what fails in it, is told by observations, too.
_MOST = 20


def credits_of(
    instance: dg.DagsterInstance, keys: Collection[dg.AssetKey]
) -> dict[dg.AssetKey, float]:
    """The credits of the last build of which Snowflake has told; of one partition, if it has some.

    Without assets of which it has told nothing.
    """
    found: dict[dg.AssetKey, float] = {}
    for key in keys:
        for record in instance.fetch_observations(key, limit=_MOST).records:
            event = record.asset_observation
            if event and CREDITS in event.metadata and "run" in event.metadata:
                cost = float(str(event.metadata[CREDITS].value))
                run_id = str(event.metadata["run"].value)
                found[key] = cost / _partitions(instance, key, run_id)
                break
    return found


def _partitions(instance: dg.DagsterInstance, key: dg.AssetKey, run_id: str) -> int:
    """How many partitions of an asset a run has built; 1 if it has none."""
    kind = dg.DagsterEventType.ASSET_MATERIALIZATION
    records = instance.get_records_for_run(run_id, of_type=kind).records
    return sum(record.asset_key == key for record in records) or 1
