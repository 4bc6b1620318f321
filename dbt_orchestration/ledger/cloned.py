"""Tables of another environment that are what a build here would make: dbt clone copies them."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import dagster as dg

from dbt_orchestration.assets.context import EnvironmentContext
from dbt_orchestration.changes.relation_names import parts_of, relation_name
from dbt_orchestration.history.partitions import newest, partition_keys
from dbt_orchestration.ledger.built import Built
from dbt_orchestration.ledger.deferral import stands_in
from dbt_orchestration.ledger.kept_tables import (
    WITHOUT_DATA,
    KeptTable,
    PutBack,
    There,
    can_be_kept,
    kind_of,
)

# What a build makes besides the rows, in words.
_NOT_ALL = "a copy would lack what dbt makes besides its rows"


@dataclass(frozen=True)
class Clones:
    """What can be copied from another environment.

    Attributes:
        tables: copies that take the place of a build, by unique id.
        made: nodes that hold no rows of their own: they are made by their code.
        left: the others, each with why it is left as it is.
    """

    tables: Mapping[str, PutBack]
    made: Collection[str]
    left: Mapping[str, str]


def find_clones(
    env: EnvironmentContext,
    instance: dg.DagsterInstance,
    other: str,
    nodes: Collection[str],
    *,
    is_built: Callable[[str], bool],
    there: There = lambda tables: tables,
) -> Clones:
    """Of some nodes, what stands in the environment ``other`` as the revision here has it.

    Args:
        nodes: unique ids.
        is_built: whether a node was built here.
        there: looks which tables are in the warehouse.
    """
    same = stands_in(env.settings, other, instance, env.revision, nodes)
    whole = can_be_kept(env, nodes)
    found: dict[str, KeptTable] = {}
    left: dict[str, str] = {}
    made = {u for u in nodes if kind_of(env, u) in WITHOUT_DATA}
    for u in nodes:
        is_snapshot = u.startswith("snapshot.")
        if u not in same:
            left[u] = f"{other} has none, or one of other code"
        elif u in made:
            continue
        elif is_snapshot and is_built(u):
            left[u] = "a snapshot that has a history of its own here"
        elif u not in whole and not is_snapshot:
            left[u] = _NOT_ALL
        elif not same[u].relation:
            left[u] = f"where {other} has it was not recorded: build it there once"
        else:
            found[u] = _table(env, u, same[u])
    seen = there({u: [table] for u, table in found.items()}) if found else {}
    tables: dict[str, PutBack] = {}
    for u, table in found.items():
        back = _put_back(env, u, table, other)
        if not seen.get(u):
            left[u] = f"{other}'s table is not there, or cannot be read from here"
        elif back is None:
            left[u] = f"{other} has no partition of the same code but the newest"
        else:
            tables[u] = back
    return Clones(tables, made - left.keys(), left)


def _table(env: EnvironmentContext, unique_id: str, last: Built) -> KeptTable:
    now = env.revision.fingerprints[unique_id]
    return KeptTable(
        parts_of(last.relation)["identifier"],
        "",
        relation_name(env.nodes[unique_id]),
        time.time(),
        now,
        last.timestamp,
        {now: sorted(last.partitions)},
        former=last.relation,
    )


def _put_back(
    env: EnvironmentContext, unique_id: str, table: KeptTable, other: str
) -> PutBack | None:
    """The copy; None if it would save no partition."""
    model = env.model(unique_id)
    if model is None:
        return PutBack(table, environment=other)
    now = datetime.now(UTC)
    [had] = table.partitions.values()
    same = {*had} & {*partition_keys(model, now)}
    # As an ordinary build does, and so that there is one whose tests say how it is.
    same -= {*newest(model, same, now, env.environment.lookback)}
    return PutBack(table, frozenset(same), environment=other) if same else None
