"""A run that builds nothing: it records as built what is in the warehouse already, and fits.

A team whose warehouse is full begins like this. What is recorded is what a build would record, so
that everything else, from a push to the daily build, goes on from there.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import dagster as dg

from dbt_orchestration.assets.context import EnvironmentContext
from dbt_orchestration.assets.translator import PARTITIONS_CHECK
from dbt_orchestration.dagster_internals import PlainFailure
from dbt_orchestration.dbt.invocation import DbtError
from dbt_orchestration.history.order import Order
from dbt_orchestration.history.request import Partitions
from dbt_orchestration.ledger.built import read_built, read_gone
from dbt_orchestration.ledger.provenance import MISSING, RELATION, UNIQUE_ID, Record
from dbt_orchestration.ledger.run_tags import WHY_TAG
from dbt_orchestration.ledger.staleness import Staleness, staleness
from dbt_orchestration.runs.fitting import Fit, fits
from dbt_orchestration.runs.plan import RunPlan
from dbt_orchestration.runs.record import records

# In the metadata of what was not built by the run that records it: which form's run asked for that.
ADOPTED = "adopted"


def never_built(
    env: EnvironmentContext, instance: dg.DagsterInstance, but_by: Collection[str] = ()
) -> set[str]:
    """Nodes of which Dagster has no record, by unique id.

    Args:
        but_by: runs whose records do not count.
    """
    keys = {u: key for u, key in env.keys.items() if u in env.nodes}
    known = {**read_gone(instance, keys), **read_built(instance, keys)}
    return keys.keys() - {u for u, last in known.items() if last.run_id not in but_by}


def how_it_stands(env: EnvironmentContext, instance: dg.DagsterInstance) -> Staleness:
    """How everything stands that was built."""
    keys = {u: key for u, key in env.keys.items() if u in env.nodes}
    found = staleness(env.settings, env.name, instance, env.revision, keys)
    assert found is not None
    return found


def adopt(
    env: EnvironmentContext,
    context: dg.AssetExecutionContext,
    order: Order,
    nodes: Collection[str],
    *,
    attempts: Collection[str],
    scratch: str,
) -> Iterator[Any]:
    """Look again, record what still fits, and say what is left.

    Args:
        nodes: what the run was started for, by unique id.
        attempts: ids of the run, and of those that it goes on from.
        scratch: a folder that dbt may write to.

    Raises:
        dagster.Failure: the warehouse cannot be asked.
    """
    instance, now = context.instance, env.revision.fingerprints
    unknown = never_built(env, instance, attempts)
    left = {u: "it was built since" for u in nodes if u not in unknown}
    left |= {u: "its code is another one since" for u in nodes if order.adopt.get(u) != now[u]}
    stands = how_it_stands(env, instance)
    try:
        found = fits(
            env,
            instance,
            [u for u in nodes if u not in left],
            stands,
            scratch,
            compare_rows=order.compare_rows,
        )
    except DbtError as error:
        raise PlainFailure(f"Nothing was adopted: {error}", allow_retries=False) from None
    left |= {u: fit.why for u, fit in found.items() if fit.why}
    adopted = {u: fit for u, fit in found.items() if not fit.why}
    record = records(env, instance, _as_plan(env, adopted, stands), {})
    said = dg.MetadataValue.text(context.run.tags.get(WHY_TAG, "without being built"))
    for u, fit in adopted.items():
        facts = {**record(u).metadata, **env.columns.metadata(u, fit.types)}
        if env.model(u):
            yield from _partitions(env.keys[u], u, fit, record(u), {**facts, ADOPTED: said})
        elif env.keys[u] in context.selected_asset_keys:
            yield dg.MaterializeResult(
                asset_key=env.keys[u],
                metadata={UNIQUE_ID: u, **facts, ADOPTED: said},
                tags=record(u).tags,
            )
    for u, why in sorted(left.items()):
        context.log.warning(f"{u} was left as it is, and not recorded: {why}.")
    context.log.info(f"Recorded as built, without being built: {len(adopted)} of {len(nodes)}.")


def _as_plan(env: EnvironmentContext, found: Mapping[str, Fit], stands: Staleness) -> RunPlan:
    """What a run would have done that had left what is there."""
    nodes = {u: env.nodes[u] for u in found}
    partitions = {u: Partitions(fit.partitions) for u, fit in found.items() if fit.partitions}
    return RunPlan(nodes, {}, partitions, (), (), (), {}, (), {}, stands)


def _partitions(
    key: dg.AssetKey, unique_id: str, fit: Fit, record: Record, facts: Mapping[str, Any]
) -> Iterator[Any]:
    for partition in fit.partitions:
        metadata = {UNIQUE_ID: unique_id, RELATION: record.relation, ADOPTED: facts[ADOPTED]}
        # The UI, and who asks what was built last, read the last one.
        metadata |= facts if partition == fit.partitions[-1] else {}
        tags = record.partition_tags
        yield dg.AssetMaterialization(key, partition=partition, metadata=metadata, tags=tags)
    yield dg.AssetCheckResult(
        asset_key=key,
        check_name=PARTITIONS_CHECK,
        passed=not fit.missing,
        # What is missing was missing before: the run has not failed at it.
        severity=dg.AssetCheckSeverity.WARN,
        metadata={
            "requested": len(fit.partitions) + len(fit.missing),
            "result": "adopted",
            MISSING: dg.MetadataValue.json([*fit.missing]),
        },
    )
