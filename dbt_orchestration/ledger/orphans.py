"""Relations that Dagster built, and that belong to no node of the commit any more."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import dagster as dg

from dbt_orchestration.assets.dbt_assets import DbtAssets
from dbt_orchestration.changes.relation_names import relation_name
from dbt_orchestration.ledger.present import absent_since
from dbt_orchestration.ledger.provenance import CODE_VERSION_TAG, RELATION, UNIQUE_ID, text_in
from dbt_orchestration.ledger.recorded import last_build
from dbt_orchestration.ledger.run_tags import ENVIRONMENT_TAG
from dbt_orchestration.revisions.explanation import BEHIND

_NO_RELATION = {"test", "unit_test", "analysis", "operation", "sql_operation"}


@dataclass(frozen=True)
class Orphan:
    """A relation whose node is gone.

    Attributes:
        key: the asset that it was.
        relation: database, schema and name, with dots.
        unique_id: the node's.
        fingerprint: what it was built with.
        built: when, in seconds since 1970.
        place: of its last build in the event log.
        absent: it was seen not to be in the warehouse any more.
    """

    key: dg.AssetKey
    relation: str
    unique_id: str
    fingerprint: str
    built: float
    place: int
    absent: bool


def orphans(instance: dg.DagsterInstance, dbt: DbtAssets) -> list[Orphan]:
    """Relations that runs of this environment built, and whose names no node of it has.

    Ordered by name.
    """
    here, names = set(dbt.keys.values()), known_names(dbt.manifest)
    gone = [key for key in instance.all_asset_keys() if key not in here]
    absent = absent_since(instance, gone)
    found: dict[str, list[Orphan]] = {}
    for record in instance.get_asset_records(gone):
        last = last_build(instance, record)
        event = last.asset_materialization if last else None
        if last is None or event is None or UNIQUE_ID not in event.metadata:
            continue
        relation = text_in(event.metadata, RELATION)
        if not relation or relation.lower() in names:
            continue
        key, unique_id = event.asset_key, text_in(event.metadata, UNIQUE_ID)
        orphan = Orphan(
            key,
            relation,
            unique_id,
            (event.tags or {}).get(CODE_VERSION_TAG, "").partition(BEHIND)[0],
            last.timestamp,
            last.storage_id,
            absent=last.storage_id <= absent.get(key, 0),
        )
        found.setdefault(last.run_id, []).append(orphan)
    return sorted(_built_here(instance, dbt.env.name, found), key=lambda each: each.relation)


def _built_here(
    instance: dg.DagsterInstance, environment: str, found: Mapping[str, list[Orphan]]
) -> Iterator[Orphan]:
    """Without the environment's name in its key an asset may be of another one."""
    if found:
        tags = {ENVIRONMENT_TAG: environment}
        for run in instance.get_runs(dg.RunsFilter(run_ids=[*found], tags=tags)):
            yield from found[run.run_id]


def known_names(manifest: Mapping[str, Any]) -> set[str]:
    """The relations that a project knows, as nodes and as sources; in lower case."""
    every = [*manifest["nodes"].values(), *manifest["sources"].values()]
    return {relation_name(node).lower() for node in every if _is_relation(node)}


def _is_relation(node: Mapping[str, Any]) -> bool:
    config = node.get("config") or {}
    return config.get("materialized") != "ephemeral" and node["resource_type"] not in _NO_RELATION
