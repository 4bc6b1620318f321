"""Relations that Dagster built, and that belong to no node of the commit any more.

Their node is gone, or has another alias, schema or database now.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import dagster as dg
import orjson

from dbt_orchestration import dagster_internals
from dbt_orchestration.assets.context import EnvironmentContext
from dbt_orchestration.changes.relation_names import relation_name
from dbt_orchestration.ledger.built import Built
from dbt_orchestration.ledger.present import absent_since
from dbt_orchestration.ledger.provenance import CODE_VERSION_TAG, RELATION, UNIQUE_ID, text_in
from dbt_orchestration.ledger.recorded import last_build
from dbt_orchestration.ledger.run_tags import ENVIRONMENT_TAG
from dbt_orchestration.revisions.explanation import BEHIND

_NO_RELATION = {"test", "unit_test", "analysis", "operation", "sql_operation"}


@dataclass(frozen=True)
class Orphan:
    """A relation that no node has any more.

    Attributes:
        key: the asset that it was.
        relation: database, schema and name, with dots.
        unique_id: the node's.
        fingerprint: what it was built with.
        built: when, in seconds since 1970.
        place: of its last build in the event log.
        absent: it was seen not to be in the warehouse any more.
        moved: the asset has another relation since.
    """

    key: dg.AssetKey
    relation: str
    unique_id: str
    fingerprint: str
    built: float
    place: int
    absent: bool
    moved: bool = False

    @property
    def built_at(self) -> str:
        """When it was built, as people read it."""
        return datetime.fromtimestamp(self.built, UTC).strftime("%Y-%m-%d %H:%M UTC")


def orphans(instance: dg.DagsterInstance, env: EnvironmentContext) -> list[Orphan]:
    """Relations that runs of this environment built, and whose names no node of it has.

    Ordered by name.
    """
    here, names = set(env.keys.values()), known_names(env.revision.manifest)
    gone = [key for key in instance.all_asset_keys() if key not in here]
    absent = absent_since(instance, gone)
    found: dict[str, list[Orphan]] = {}
    every = {u: key for u, key in env.keys.items() if u in env.nodes}
    for record in instance.get_asset_records(gone):
        last = last_build(instance, record)
        event = last.asset_materialization if last else None
        if last is None or event is None or UNIQUE_ID not in event.metadata:
            continue
        relation = text_in(event.metadata, RELATION)
        key, unique_id = event.asset_key, text_in(event.metadata, UNIQUE_ID)
        every.setdefault(unique_id, key)
        if not relation or relation.lower() in names:
            continue
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
    moved = [
        Orphan(every[u], relation, u, fingerprint, built, 0, absent=False, moved=True)
        for u, former in _read_moved(instance, env.name, every).items()
        for relation, (fingerprint, built) in former.items()
        if relation.lower() not in names
    ]
    orphaned = {each.relation: each for each in [*moved, *_built_here(instance, env.name, found)]}
    return [orphaned[relation] for relation in sorted(orphaned)]


def say_moved(instance: dg.DagsterInstance, environment: str, moved: Mapping[str, Built]) -> None:
    """Remember where nodes were built last, which are now built elsewhere; by unique id."""
    before = _read_moved(instance, environment, moved)
    for u, last in moved.items():
        former = {**before.get(u, {}), last.relation: (last.fingerprint, last.timestamp)}
        _write_moved(instance, environment, u, former)


def forget_moved(instance: dg.DagsterInstance, environment: str, gone: Collection[Orphan]) -> None:
    """Remember no longer those that have ``moved``: they are not in the warehouse any more."""
    before = _read_moved(instance, environment, {each.unique_id for each in gone})
    for u, former in before.items():
        names = {each.relation for each in gone if each.unique_id == u}
        left = {relation: facts for relation, facts in former.items() if relation not in names}
        _write_moved(instance, environment, u, left)


def _read_moved(
    instance: dg.DagsterInstance, environment: str, nodes: Collection[str]
) -> Mapping[str, Mapping[str, tuple[str, float]]]:
    """Former relations of nodes; of each the fingerprint, and when it was built."""
    notes = {_note(environment, u): u for u in nodes}
    found = dagster_internals.read_notes(instance, notes)
    return {notes[note]: orjson.loads(text) for note, text in found.items()}


def _write_moved(
    instance: dg.DagsterInstance,
    environment: str,
    unique_id: str,
    former: Mapping[str, tuple[str, float]],
) -> None:
    # One for each node: runs that write at once do not undo each other's.
    text = orjson.dumps(former).decode()
    dagster_internals.write_note(instance, _note(environment, unique_id), text)


def _note(environment: str, unique_id: str) -> str:
    return f"dbt_orchestration/{environment}/moved/{unique_id}"


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
