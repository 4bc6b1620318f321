"""What an environment reads from the one it defers to, instead of building it."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from dataclasses import replace

import dagster as dg

from dbt_orchestration.changes.relation_names import relation_name
from dbt_orchestration.dbt.parse import Revision
from dbt_orchestration.ledger.built import Built, read_built
from dbt_orchestration.ledger.moved import Moved
from dbt_orchestration.ledger.provenance import RELATION
from dbt_orchestration.ledger.recorded import last_build
from dbt_orchestration.revisions.current import open_revision
from dbt_orchestration.revisions.explanation import read_explanations
from dbt_orchestration.revisions.store import followed, published
from dbt_orchestration.settings.models import Settings
from dbt_orchestration.settings.user_input import did_you_mean


def deferral_options(
    settings: Settings, environment: str, instance: dg.DagsterInstance, log: logging.Logger
) -> list[str]:
    """Make dbt read what was never built here from the environment that this one defers to."""
    other, storage = settings.environment(environment).defer_to, instance.defs_state_storage
    if not other:
        return []
    digest = published(other, storage)
    if not digest:
        there = did_you_mean(other, sorted(followed(storage)))
        log.warning(f"defer_to: no commit of {other} was prepared in this Dagster{there}")
        return []
    return ["--defer", "--state", str(open_revision(settings, other, digest).directory)]


def same_elsewhere(
    settings: Settings, environment: str, instance: dg.DagsterInstance, revision: Revision
) -> Collection[str]:
    """Nodes that stand, as ``revision`` has them, in the environment that this one defers to."""
    other = settings.environment(environment).defer_to
    return stands_in(settings, other, instance, revision).keys() if other else ()


def stands_in(
    settings: Settings,
    other: str,
    instance: dg.DagsterInstance,
    revision: Revision,
    partitioned: Collection[str] = (),
) -> Mapping[str, Built]:
    """Nodes that stand in the environment ``other`` as ``revision`` has them, by unique id.

    Args:
        partitioned: nodes whose every partition is looked at; of them those remain that stand so.
    """
    digest = published(other, instance.defs_state_storage)
    if not digest:
        return {}
    there, now = open_revision(settings, other, digest), revision.fingerprints
    # Why something is not due there is said of the code that is there.
    alike = {u for u, fingerprint in there.fingerprints.items() if now.get(u) == fingerprint}
    explained = read_explanations(settings, other, digest)
    same = {known for known, why in explained.items() if not why.due and known[0] in alike}
    same.update(now.items())
    moved = Moved(there)
    found: dict[str, Built] = {}
    for u, last in read_built(instance, _assets(instance, there), partitioned).items():
        if (u, last.fingerprint) in same and not moved.why(u, last):
            partitions = {k: v for k, v in last.partitions.items() if (u, v) in same}
            found[u] = replace(last, partitions=partitions)
    return found


def _assets(instance: dg.DagsterInstance, revision: Revision) -> Mapping[str, dg.AssetKey]:
    """The assets of another environment, by unique id.

    Only its own code location knows its translator. Whoever built a relation recorded its name.
    """
    nodes = revision.manifest["nodes"]
    ours = nodes.keys() & revision.fingerprints.keys()
    names = {relation_name(nodes[u]).lower(): u for u in ours}
    found: dict[str, tuple[int, dg.AssetKey]] = {}
    for record in instance.get_asset_records():
        last = last_build(instance, record)
        event = last and last.asset_materialization
        said = event and event.metadata.get(RELATION)
        unique_id = names.get(str(said.value).lower()) if said else None
        if last and unique_id:
            # Under another key it was built before the translator there was changed.
            this = last.storage_id, record.asset_entry.asset_key
            found[unique_id] = max(found.get(unique_id, this), this)
    return {u: key for u, (_, key) in found.items()}
