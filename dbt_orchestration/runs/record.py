"""What a run records with what it builds, and what it makes doubtful while it works."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import dagster as dg

from dbt_orchestration.assets.context import EnvironmentContext
from dbt_orchestration.changes.relation_names import relation_name
from dbt_orchestration.changes.terms import digest
from dbt_orchestration.ledger.built import Built
from dbt_orchestration.ledger.deferral import same_elsewhere
from dbt_orchestration.ledger.doubt import Touched
from dbt_orchestration.ledger.moved import Moved
from dbt_orchestration.ledger.provenance import (
    Record,
    ancestors_of,
    commit_metadata,
    recorded_versions,
)
from dbt_orchestration.revisions.explanation import WAITING
from dbt_orchestration.runs.plan import RunPlan

# Changes of one column, and those that leave the types of all others as they are.
_OF_COLUMN = frozenset({"column_changed", "column_removed", "column_retyped"})
_LEAVE_TYPES = _OF_COLUMN | {"column_added", "columns_reordered", "order", "partitions", "rows"}


def records(
    env: EnvironmentContext,
    instance: dg.DagsterInstance,
    work: RunPlan,
    reasons: Mapping[str, str],
) -> Callable[[str], Record]:
    """What to record with each node that the run builds.

    Args:
        reasons: why each is built, by unique id.
    """
    stands = work.stands
    behind = dict.fromkeys(work.waiting & work.nodes.keys(), WAITING)
    behind |= _outside(env, instance, work)
    for unique_id, stale in stands.stale.items():
        wanted = work.partitions.get(unique_id)
        left = set(stale) - set(wanted.keys if wanted else ())
        if left and unique_id not in work.rebuilt:
            behind.setdefault(unique_id, digest(*(f"{k}={stale[k].recorded}" for k in left)))
    version = recorded_versions(env.revision, work.nodes.keys(), behind, work.cloned)
    names = Moved(env.revision)

    def record(unique_id: str) -> Record:
        said = commit_metadata(env.revision, reasons.get(unique_id, ""))
        return Record(
            version(unique_id),
            {**said, **names.metadata(unique_id)},
            relation_name(env.nodes[unique_id]),
        )

    return record


def types_that_stay(
    work: RunPlan, types: Mapping[str, Mapping[str, str]]
) -> Mapping[str, Mapping[str, str]]:
    """The types that columns have now and still have when the run has ended, by unique id.

    A result is recorded as soon as it is there, and the warehouse is not asked for each: so of a
    column that is new, or that other code makes, the type is known from the next build on.

    Args:
        types: of the relations as they are: for each node type by column.
    """
    stands = work.stands
    found: dict[str, Mapping[str, str]] = {}
    for u in work.nodes.keys() & stands.built.keys() & types.keys():
        last = stands.differs.get(u)
        whys = [*([last] if last and last.due else []), *stands.stale.get(u, {}).values()]
        if all(why.changes for why in whys) and not (whys and u.startswith("seed.")):
            changes = [change.partition(" ") for why in whys for change in why.changes]
            others = {column.lower() for kind, _, column in changes if kind in _OF_COLUMN}
            if all(kind in _LEAVE_TYPES for kind, _, _ in changes):
                found[u] = {c: kind for c, kind in types[u].items() if c not in others}
    return found


def touches(env: EnvironmentContext, work: RunPlan) -> Mapping[dg.AssetKey, Touched]:
    """What the run is going to make of what other code has built."""
    now, built, found = env.revision.fingerprints, work.stands.built, dict[str, Touched]()
    for u in work.nodes.keys() & built.keys():
        last, wanted = built[u], work.partitions.get(u)
        if wanted is None:
            if last.fingerprint != now[u]:
                found[u] = Touched(whole=True)
        elif {last.fingerprint, *last.partitions.values()} != {now[u]}:
            whole = u in {*work.rebuilt, *work.checked}
            keys = {*wanted.keys, *(work.checked[u].keys if u in work.checked else ())}
            found[u] = Touched(
                whole, keys if whole else {k for k in keys if last.partitions.get(k) != now[u]}
            )
    return {env.keys[u]: touched for u, touched in found.items()}


def moved_by(env: EnvironmentContext, work: RunPlan) -> Mapping[str, Built]:
    """What the run builds elsewhere than it was built last: how it was then, by unique id."""
    moved, built = Moved(env.revision), work.stands.built
    return {
        u: built[u] for u in work.nodes.keys() & built.keys() if moved.is_elsewhere(u, built[u])
    }


def _outside(
    env: EnvironmentContext, instance: dg.DagsterInstance, work: RunPlan
) -> Mapping[str, str]:
    """What is read, not built by the run, and stands as other code left it."""
    # What was never built here is read from there, where it is the same.
    stands, there = work.stands, same_elsewhere(env.settings, env.name, instance, env.revision)
    above = ancestors_of(env.nodes, *work.nodes, until=work.cloned)
    return {
        u: stands.built[u].fingerprint if u in stands.built else ""
        for u in (above & env.keys.keys()) - work.nodes.keys()
        if not stands.is_current(u) and (u in stands.built or u not in there)
    }
