"""Tables that nodes have under a former name: a copy of one need not be computed.

A model that was renamed, or has another alias or schema, is new to the warehouse. If nothing else
of it changed, its old table has the rows that a build would make.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping
from datetime import UTC, datetime

import dagster as dg

from dbt_orchestration.assets.context import EnvironmentContext
from dbt_orchestration.changes.relation_names import parts_of, relation_name
from dbt_orchestration.changes.renames import value_as
from dbt_orchestration.dbt.parse import PrepareError
from dbt_orchestration.ledger.built import Built, read_built
from dbt_orchestration.ledger.kept_tables import KeptTable
from dbt_orchestration.ledger.moved import Moved
from dbt_orchestration.ledger.orphans import orphans
from dbt_orchestration.ledger.provenance import short_name
from dbt_orchestration.ledger.run_tags import ENVIRONMENT_TAG
from dbt_orchestration.ledger.staleness import Staleness
from dbt_orchestration.revisions.analyse import Analyst
from dbt_orchestration.revisions.kept import revisions_home
from dbt_orchestration.settings.types import FULL_BUILD, named

# A node, what it was called, and what was built of it then.
_Pair = tuple[str, str, Built]


def former_tables(
    env: EnvironmentContext,
    instance: dg.DagsterInstance,
    nodes: Collection[str],
    stands: Staleness,
) -> Mapping[str, KeptTable]:
    """The former tables of those ``nodes`` (unique ids) that have one, as if they were copies.

    Without such as are in another database: whether it can be read, nobody knows.
    """
    pairs = [
        (u, was, last)
        for u, was, last in _pairs(env, instance, nodes, stands)
        if parts_of(last.relation)["database"].lower() == str(env.nodes[u]["database"]).lower()
    ]
    if not pairs:
        return {}
    try:
        analyst = Analyst(revisions_home(env.settings, env.name))
        prints = analyst.fingerprints(env.revision, env.target)
    except PrepareError:
        return {}  # they are computed
    found: dict[str, KeptTable] = {}
    for u, was, last in pairs:
        value = value_as(prints, u, was, [*parts_of(last.relation).values()])
        if table := _table(env, u, last, value):
            found.setdefault(u, table)
    return found


def _pairs(
    env: EnvironmentContext,
    instance: dg.DagsterInstance,
    nodes: Collection[str],
    stands: Staleness,
) -> Iterator[_Pair]:
    moved = Moved(env.revision)
    for u in nodes:
        if u in stands.built and moved.is_elsewhere(u, stands.built[u]):
            yield u, u, stands.built[u]
    new = sorted(u for u in nodes if u not in stands.built)
    if not new:
        return
    gone = {
        each.unique_id: each.key
        for each in orphans(instance, env)
        if each.unique_id.startswith("model.") and not each.absent and not each.moved
    }
    built = read_built(instance, gone, gone)
    since = _last_scheduled(env, instance, min((b.timestamp for b in built.values()), default=0.0))
    for was, last in built.items():
        # What a schedule has built without it is newer, as it would be, too.
        if last.timestamp > since:
            yield from ((u, was, last) for u in new)


def _last_scheduled(env: EnvironmentContext, instance: dg.DagsterInstance, after: float) -> float:
    """When the last build that a schedule asks for began, also if a person has started it.

    Args:
        after: the moment after which it matters; both in seconds since 1970.
    """
    wanted = dg.RunsFilter(
        tags={ENVIRONMENT_TAG: env.name}, created_after=datetime.fromtimestamp(after, UTC)
    )
    return max(
        (
            record.create_timestamp.timestamp()
            for record in instance.get_run_records(wanted)
            if "dagster/schedule_name" in record.dagster_run.tags
            or record.dagster_run.job_name == named(env.name, FULL_BUILD)
        ),
        default=0.0,
    )


def _table(env: EnvironmentContext, unique_id: str, last: Built, value: str) -> KeptTable | None:
    """What was built last, if it was built with this fingerprint: it is the one of now then."""
    now, there = env.revision.fingerprints[unique_id], short_name(last.relation)
    same = [
        key
        for key, version in last.partitions.items()
        if version == value and last.relations.get(key) in {"", there}
    ]
    whole = last.fingerprint == value
    if not (same if env.model(unique_id) else whole):
        return None
    return KeptTable(
        parts_of(last.relation)["identifier"],
        "",
        relation_name(env.nodes[unique_id]),
        time.time(),
        now if whole else "",
        last.timestamp,
        {now: same},
        former=last.relation,
    )
