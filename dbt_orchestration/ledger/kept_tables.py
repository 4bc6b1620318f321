"""Copies of tables from before a push replaced them, and which of them may be put back.

A roll back wants tables as they were. Where a copy is still there, was made by the same code, and
nothing that it was made from has changed since, building it again would make the same.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import partial
from types import MappingProxyType

import dagster as dg
import orjson

from dbt_orchestration import dagster_internals
from dbt_orchestration.assets.context import EnvironmentContext
from dbt_orchestration.changes.materializations import own_materializations
from dbt_orchestration.changes.relation_names import parts_of, relation_name
from dbt_orchestration.history.partitions import newest, partition_keys
from dbt_orchestration.history.rebuild import parents_first
from dbt_orchestration.ledger.attempts import built_since, first_attempt_of
from dbt_orchestration.ledger.built import Built
from dbt_orchestration.ledger.provenance import ancestors_of
from dbt_orchestration.ledger.recorded import last_build
from dbt_orchestration.ledger.staleness import Staleness

REQUEST_LENGTH = 8
# Of one table. Older ones are dropped before their days are over.
_MOST = 3
_SECONDS = 86_400
# What dbt does besides filling a table, and a copy does not bring back.
_BESIDES = ("pre-hook", "post-hook", "indexes")
# They hold no rows of their own, or what their file says.
WITHOUT_DATA = frozenset({"view", "ephemeral", "seed"})


@dataclass(frozen=True)
class KeptTable:
    """A copy of a node's table.

    Attributes:
        name: of the copy, in the schema of ``relation``, or of ``former``.
        request: the run that replaced the table then: the beginning of its first attempt's id.
        relation: the name of the relation that it is a copy of.
        at: when it was made, in seconds since 1970.
        fingerprint: what the node was built with.
        built: when, in seconds since 1970.
        partitions: what each of its partitions was built with: fingerprints with their keys.
        former: the relation that it is, if it is no copy: the node's, by its former name, or in
            another environment.
    """

    name: str
    request: str
    relation: str
    at: float
    fingerprint: str
    built: float
    partitions: Mapping[str, Sequence[str]] = field(default_factory=dict)
    former: str = ""

    @property
    def place(self) -> Mapping[str, str]:
        """Database, schema and identifier of the copy."""
        return {**parts_of(self.former or self.relation), "identifier": self.name}

    @classmethod
    def of(cls, env: EnvironmentContext, unique_id: str, last: Built, request: str) -> KeptTable:
        """The copy that a run makes now of what was built last."""
        versions: dict[str, list[str]] = {}
        for key, version in last.partitions.items():
            versions.setdefault(version, []).append(key)
        node, request = env.nodes[unique_id], request[:REQUEST_LENGTH]
        name = f"{node['alias']}__kept_{request}"
        relation = relation_name(node)
        now = time.time()
        return cls(name, request, relation, now, last.fingerprint, last.timestamp, versions)


def read_kept(
    instance: dg.DagsterInstance, environment: str, nodes: Collection[str]
) -> Mapping[str, Sequence[KeptTable]]:
    """The copies of some nodes' tables (unique ids), the newest first."""
    names = {_note(environment, u): u for u in nodes}
    found = dagster_internals.read_notes(instance, names)
    read = {names[n]: [KeptTable(**each) for each in orjson.loads(t)] for n, t in found.items()}
    return {u: tables for u, tables in read.items() if tables}


def write_kept(
    instance: dg.DagsterInstance, environment: str, unique_id: str, tables: Sequence[KeptTable]
) -> None:
    """Remember these copies of a node's table, the newest first, and no others."""
    text = orjson.dumps([asdict(each) for each in tables]).decode()
    dagster_internals.write_note(instance, _note(environment, unique_id), text)


def too_old(tables: Sequence[KeptTable], days: int) -> Sequence[KeptTable]:
    """Those that are not kept any longer, of the copies of one table, the newest first."""
    until = time.time() - days * _SECONDS
    return [each for n, each in enumerate(tables) if n >= _MOST or each.at <= until]


def can_be_kept(env: EnvironmentContext, nodes: Collection[str]) -> set[str]:
    """Those of ``nodes`` of whose tables a copy is as good as the table."""
    own = own_materializations(env.revision.manifest)
    return {u for u in nodes if _is_all_there_is(env, u) and kind_of(env, u) not in own}


def _is_all_there_is(env: EnvironmentContext, unique_id: str) -> bool:
    node, model = env.nodes[unique_id], env.model(unique_id)
    config = node["config"]
    return (
        unique_id.startswith("model.")
        and (model is None or model.is_microbatch)
        and kind_of(env, unique_id) in {"table", "incremental"}
        and node.get("version") is None
        and not (config.get("contract") or {}).get("enforced")
        and not any(config.get(name) for name in _BESIDES)
    )


def kind_of(env: EnvironmentContext, unique_id: str) -> str:
    """How a node is materialized."""
    return str(env.nodes[unique_id]["config"].get("materialized"))


@dataclass(frozen=True)
class PutBack:
    """A copy that a node's table is made of again.

    Attributes:
        partitions: those that need not be built; none if the node has no partitions.
        environment: whose table it is, if it is that of another one.
    """

    table: KeptTable
    partitions: frozenset[str] = frozenset()
    environment: str = ""

    @property
    def day(self) -> str:
        """When it was made, as a date in UTC."""
        return f"{datetime.fromtimestamp(self.table.at, UTC):%Y-%m-%d}"

    def __str__(self) -> str:
        was = self.table.former
        if not was:
            return f"its table of {self.day} UTC is put back"
        how = f"in {self.environment}" if self.environment else "under its former name"
        return f"copied from {was}, which the same code has made {how}"


# Which of the copies of each node are in the warehouse.
There = Callable[[Mapping[str, Sequence[KeptTable]]], Mapping[str, Sequence[KeptTable]]]


class Copies:
    """Finds the copies that can take the place of a build.

    Args:
        nodes: unique ids of what a run builds.
        stands: how they, and all that they read, stand.
        there: looks which of them are in the warehouse.
        former: tables that nodes have under a former name, by unique id.
    """

    def __init__(
        self,
        env: EnvironmentContext,
        instance: dg.DagsterInstance,
        nodes: Collection[str],
        stands: Staleness,
        *,
        there: There = lambda kept: kept,
        former: Mapping[str, KeptTable] = MappingProxyType({}),
    ) -> None:
        self._env = env
        self._instance = instance
        self._nodes = nodes
        self._stands = stands
        self._there = there
        self._former = former
        self._first_attempts: dict[str, str] = {}

    def put_back(self) -> Mapping[str, PutBack]:
        """What to put back, by unique id; without what is as it should be."""
        env, found = self._env, dict[str, PutBack]()
        due = {u for u in self._nodes if self._is_due(u)}
        kept = dict(read_kept(self._instance, env.name, can_be_kept(env, due)))
        for u, table in self._former.items():
            kept[u] = [*kept.get(u, ()), table]
        there = self._there(kept) if kept else {}
        for u in parents_first(env.revision.manifest, there.keys()):
            name = relation_name(env.nodes[u])
            for table in there[u]:
                if table.relation == name and (copy := self._fits(u, table, found)):
                    found[u] = copy
                    break
        return found

    def _is_due(self, unique_id: str) -> bool:
        stands = self._stands
        changed = unique_id in stands.built and not stands.is_current(unique_id)
        return changed or unique_id in stands.stale

    def _fits(
        self, unique_id: str, table: KeptTable, found: Mapping[str, PutBack]
    ) -> PutBack | None:
        if self._env.model(unique_id):
            partitions = self._partitions(unique_id, table)
            return PutBack(table, frozenset(partitions)) if partitions else None
        if table.fingerprint != self._env.revision.fingerprints[unique_id]:
            return None
        if not table.former and not self._is_of(self._stands.built[unique_id].run_id, table):
            return None
        return PutBack(table) if all(self._read_same(unique_id, table, found)) else None

    def _read_same(
        self, unique_id: str, table: KeptTable, found: Mapping[str, PutBack]
    ) -> Iterator[bool]:
        """Whether each thing that the node reads is what its copy was made from."""
        env, every = self._env, {*ancestors_of(self._env.nodes, unique_id, ephemeral=True)}
        for above in every:
            if kind_of(env, above) in WITHOUT_DATA:
                continue
            if above in self._nodes:
                yield above in found and not env.model(above)
            else:
                last = self._stands.built.get(above)
                yield last is not None and last.timestamp <= table.built
        manifest = env.revision.manifest
        sources = {
            env.keys[parent]
            for u in {unique_id, *every}
            for parent in manifest["parent_map"].get(u, ())
            if parent in manifest["sources"] and parent in env.keys
        }
        for record in self._instance.get_asset_records([*sources]):
            loaded = last_build(self._instance, record)
            yield loaded is None or loaded.timestamp <= table.built

    def _partitions(self, unique_id: str, table: KeptTable) -> set[str]:
        """Partitions of a copy that need not be built; none if that saves nothing."""
        env, now = self._env, datetime.now(UTC)
        model, key = env.partitioned(unique_id), env.keys[unique_id]
        every = partition_keys(model, now)
        same = set(table.partitions.get(env.revision.fingerprints[unique_id], ())) & set(every)
        # As an ordinary build does, and so that there is one whose tests say how it is.
        same -= {*newest(model, same, now, env.environment.lookback)}
        if same:
            replaced_it = partial(self._is_of, table=table)
            same -= built_since(self._instance, key, table.at, but_by=replaced_it)
        stale = len(self._stands.stale.get(unique_id, ())) or len(every)
        return same if len(every) - len(same) < stale else set()

    def _is_of(self, run_id: str, table: KeptTable) -> bool:
        """Whether a run is the one that replaced the table, or goes on from it."""
        if run_id not in self._first_attempts:
            run = self._instance.get_run_by_id(run_id)
            self._first_attempts[run_id] = first_attempt_of(run) if run else run_id
        return self._first_attempts[run_id].startswith(table.request)


def _note(environment: str, unique_id: str) -> str:
    return f"dbt_orchestration/{environment}/kept/{unique_id}"
