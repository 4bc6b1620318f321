"""What the change engine is given: one state of a dbt project, as plain values."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from copy import copy
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from dbt_orchestration.changes.columns.names import Names, Opaque, dialect_of
from dbt_orchestration.changes.effects.kinds import Effect
from dbt_orchestration.changes.hooks import Hooks, texts_of_hooks
from dbt_orchestration.changes.macros import Macros, Reached
from dbt_orchestration.changes.terms import digest_value
from dbt_orchestration.changes.text import Text, read_node, read_overloads, read_sql

_NODES = ("nodes", "sources", "functions", "unit_tests")
_IN_GRAPH = (
    *_NODES,
    *("exposures", "metrics", "semantic_models", "saved_queries", "groups"),
)
# Differ between two parses of the same project.
_NOT_IN_GRAPH = frozenset({"created_at", "build_path", "compiled_path", "root_path"})
_BUILT = ("model", "seed", "snapshot", "function")
_RELATIONS = ("model", "seed", "snapshot", "source")
_QUOTED = re.compile(r"""(["`\[])([^"`\]]+)["`\]]""")


@dataclass(frozen=True)
class Compiled:
    """A node's compiled SQL.

    Attributes:
        full: as for a table built from nothing (``is_incremental()`` is false).
        incremental: as for a table that exists; None if the node never asks.
    """

    full: str
    incremental: str | None = None


@dataclass(frozen=True)
class Project:
    """A dbt project at one revision, for one target.

    Attributes:
        manifest: dbt's manifest.json, schema v12, as loaded.
        settings: ``vars``, ``dispatch`` and ``flags`` of dbt_project.yml by package name, the
            project's own and each package's.
        variables: values of ``--vars``, which win over ``dbt_project.yml``.
        environment: the environment variables that may be read. Their values are only ever
            hashed.
        seeds: the text of each seed's CSV, by unique id.
        database: the target's own database, schema: its own schema. Names that contain them are
            compared relative to them, so that targets that differ only there are the same.
        compiled: compiled SQL by unique id. Nodes without are compared by level 1.
        uncompiled: why there is no compiled SQL for a node that should have some.
        profile: digests of the target's settings that decide results, by name.
        target: digests of what Jinja sees as ``target``, by name, without those of ``database``
            and ``schema``.
    """

    manifest: Mapping[str, Any]
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    variables: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    seeds: Mapping[str, str] = field(default_factory=dict)
    database: str = ""
    schema: str = ""
    compiled: Mapping[str, Compiled] = field(default_factory=dict)
    uncompiled: Mapping[str, str] = field(default_factory=dict)
    profile: Mapping[str, str] = field(default_factory=dict)
    target: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        nodes: dict[str, Mapping[str, Any]] = {}
        for kind in _NODES:
            nodes.update(self.manifest.get(kind) or {})
        internal = internal_packages(self.adapter)
        object.__setattr__(self, "nodes", nodes)
        searched = {
            name
            for entry in self.dispatch
            if entry.get("macro_namespace") in internal
            for name in entry.get("search_order") or ()
        }
        macros = Macros(
            self.manifest.get("macros") or {}, internal, self.name, frozenset(searched - internal)
        )
        object.__setattr__(self, "macros", macros)
        object.__setattr__(self, "_reached", {})
        object.__setattr__(self, "memo", {})

    nodes: Mapping[str, Mapping[str, Any]] = field(init=False, repr=False)
    macros: Macros = field(init=False, repr=False)
    _reached: dict[str, Reached] = field(init=False, repr=False, compare=False)
    # Whatever was computed of the project, and does not depend on compiled SQL.
    memo: dict[Any, Any] = field(init=False, repr=False, compare=False)

    def with_compiled(
        self, compiled: Mapping[str, Compiled], uncompiled: Mapping[str, str]
    ) -> Project:
        """The same with compiled SQL; what was computed of it is not computed again."""
        made = copy(self)
        object.__setattr__(made, "compiled", compiled)
        object.__setattr__(made, "uncompiled", uncompiled)
        return made

    @cached_property
    def hooks(self) -> Hooks:
        """The hooks of all nodes, and those around the run."""
        return Hooks(self)

    @property
    def adapter(self) -> str:
        """The adapter type, such as ``duckdb``."""
        return str(self.manifest["metadata"].get("adapter_type") or "")

    @property
    def name(self) -> str:
        return str(self.manifest["metadata"].get("project_name") or "")

    def reached_by(self, unique_id: str) -> Reached:
        """What a node's own code reaches. Its hooks are rendered by themselves, after that."""
        if unique_id not in self._reached:
            node = self.nodes[unique_id]
            text = read_node(node)
            roots = (node.get("depends_on") or {}).get("macros") or ()
            if hooks := [read_sql(sql) for _, sql in texts_of_hooks(node)]:
                package = node["package_name"]
                roots = self.macros.without_hooks(roots, text, hooks, package=package)
            self._reached[unique_id] = self.reached(node, [text, *read_overloads(node)], roots)
        return self._reached[unique_id]

    def built_through(self, unique_id: str) -> Reached:
        """Macros of the project or a package that dbt builds a node through."""
        node = self.nodes[unique_id]
        function = node["resource_type"] == "function"
        name = "function" if function else node["config"]["materialized"]
        package = node["package_name"]
        return self.macros.materialization(name, self.adapter, package, self._aside.keys())

    @cached_property
    def granted_through(self) -> Reached:
        """Those that only grant or label."""
        access = [macro for macro, effect in self._aside.items() if effect is Effect.ACCESS]
        return self.macros.reached([], access, package=self.name)

    @cached_property
    def _aside(self) -> Mapping[str, Effect]:
        """Macros that are called around the statements that build a node."""
        own = [str(macro["unique_id"]) for macro in self.macros.own]
        return {m: effect for m in own if (effect := self.hooks.quiet(m)) is not None}

    def environment_variable(self, name: str | None) -> Any:
        """An environment variable's value; all of them for None."""
        if name is None:
            return sorted(self.environment.items())
        return self.environment.get(name)

    def graph(self, names: Collection[str], operations: bool = True) -> str:
        """A digest of what Jinja sees as ``graph``, as far as properties called ``names`` go.

        Jinja that reads a property names it. What prints a whole node prints the time it was
        parsed, too, and is another one each time.
        """
        known = self._property_names.intersection(names)
        if (digest := self.memo.get((known, operations))) is None:
            said = {
                kind: [
                    [unique_id, _named(node, known)]
                    for unique_id, node in sorted((self.manifest.get(kind) or {}).items())
                    if operations or node.get("resource_type") != "operation"
                ]
                for kind in _IN_GRAPH
            }
            digest = self.memo[known, operations] = digest_value(said)
        return str(digest)

    @cached_property
    def _property_names(self) -> frozenset[str]:
        """The keys of what ``graph`` has, and of their configs."""
        nodes = [node for kind in _IN_GRAPH for node in (self.manifest.get(kind) or {}).values()]
        configs = [c for node in nodes if isinstance(c := node.get("config"), Mapping)]
        return frozenset(key for each in (*nodes, *configs) for key in each)

    def variable(self, package: str, name: str | None) -> list[tuple[bool, Any]]:
        """Whether a var is set, and its value, in each place where dbt looks, nearest first.

        None stands for any var.
        https://docs.getdbt.com/docs/build/project-variables#variable-precedence
        """
        own = (self.settings.get(package) or {}).get("vars") or {}
        root = (self.settings.get(self.name) or {}).get("vars") or {}
        places = [self.variables, root.get(package) or {}, root, own.get(package) or {}, own]
        found = [place for place in places if isinstance(place, Mapping)]
        if name is None:
            return [(True, value) for place in found for value in [place, *place.values()]]
        return [(name in place, place.get(name)) for place in found]

    def reached(
        self, node: Mapping[str, Any], texts: Iterable[Text], roots: Iterable[str] = ()
    ) -> Reached:
        """Everything that texts of a node reach, also through the Jinja in values of vars.

        Args:
            roots: macros that they are known to call.
        """
        every = list(texts)
        while True:
            reached = self.macros.reached(every, roots, package=node["package_name"])
            values = {
                value
                for name in reached.variables
                for _, value in self.variable(node["package_name"], name)
                if isinstance(value, str) and "{" in value
            }
            more = [text for text in map(read_sql, sorted(values)) if text not in every]
            if not more:
                return reached
            every += more

    @property
    def dispatch(self) -> list[Mapping[str, Any]]:
        """Where dbt looks for macros, as dbt_project.yml says."""
        settings = self.settings.get(self.name) or {}
        return [entry for entry in settings.get("dispatch") or () if isinstance(entry, Mapping)]

    @property
    def built(self) -> list[str]:
        """Unique ids of what dbt builds, parents before children."""
        order: list[str] = []
        done: set[str] = set()
        for start in sorted(self.nodes):
            waiting = [(start, False)]
            while waiting:
                unique_id, ready = waiting.pop()
                if ready:
                    order.append(unique_id)
                elif unique_id not in done and unique_id in self.nodes:
                    done.add(unique_id)
                    waiting.append((unique_id, True))
                    waiting.extend((parent, False) for parent in self.parents(unique_id)[::-1])
        return [u for u in order if self.nodes[u]["resource_type"] in _BUILT]

    @cached_property
    def identifiers(self) -> Mapping[str, str]:
        """The last part of the name of each relation, in lower case."""
        return {
            unique_id: str(node.get("alias") or node.get("identifier") or node["name"]).lower()
            for unique_id, node in self.nodes.items()
            if node["resource_type"] in _RELATIONS
        }

    def cycle(self) -> list[str]:
        """Names of nodes that depend on each other, the first one again at the end; mostly none.

        dbt parses such a project, and refuses to run it.
        """
        done: set[str] = set()
        for start in sorted(self.nodes):
            path: list[str] = []
            waiting = [(start, 0)]
            while waiting:
                unique_id, depth = waiting.pop()
                del path[depth:]
                if unique_id in path:
                    names = [str(self.nodes[u]["name"]) for u in path[path.index(unique_id) :]]
                    return [*names, names[0]]
                path.append(unique_id)
                if unique_id not in done:
                    done.add(unique_id)
                    waiting += [(parent, depth + 1) for parent in self.parents(unique_id)]
        return []

    @property
    def operations(self) -> list[Mapping[str, Any]]:
        """The ``on-run-start`` and ``on-run-end`` hooks, in the order dbt runs them."""
        hooks = [n for n in self.nodes.values() if n["resource_type"] == "operation"]
        return sorted(hooks, key=lambda node: (node["package_name"], node["unique_id"]))

    def parents(self, unique_id: str) -> list[str]:
        """What a node depends on and this project has, in dbt's order."""
        depends = self.nodes[unique_id].get("depends_on") or {}
        return [node for node in depends.get("nodes") or () if node in self.nodes]

    def is_ephemeral(self, unique_id: str) -> bool:
        """Whether the node's SQL stands in that of whoever reads it."""
        config = self.nodes[unique_id].get("config") or {}
        return bool(config.get("materialized") == "ephemeral")

    def ancestors(self, unique_id: str) -> set[str]:
        """Everything a node depends on, directly or not."""
        found: set[str] = set()
        waiting = [unique_id]
        while waiting:
            new = set(self.parents(waiting.pop())) - found
            found |= new
            waiting += new
        return found

    def relation_name(self, node: Mapping[str, Any]) -> tuple[str, str, str]:
        """Database, schema and identifier as the warehouse reads them, relative to the target's."""
        name = node.get("alias") or node.get("identifier") or node.get("name")
        parts = [str(node.get("database") or ""), str(node.get("schema") or ""), str(name)]
        quoted = {part for _, part in _QUOTED.findall(str(node.get("relation_name") or ""))}
        if names := self._names:
            parts = [names.normal(part, part in quoted) for part in parts]
        database, schema, identifier = parts
        if self.database and database.lower() == self.database.lower():
            database = self._relative("{database}", database, self.database)
        own = self.schema.lower()
        if own and (schema.lower() == own or schema.lower().startswith(f"{own}_")):
            schema = (
                self._relative("{schema}", schema[: len(own)], self.schema) + schema[len(own) :]
            )
        return database, schema, identifier

    @cached_property
    def _names(self) -> Names | None:
        try:
            # BigQuery tells tables apart by case, columns not.
            return None if self.adapter == "bigquery" else Names(dialect_of(self.adapter))
        except Opaque:
            return None

    def _relative(self, mark: str, name: str, own: str) -> str:
        """``mark``, with quotes if it is the target's own name in a case that has to be quoted."""
        plain = self._names is None or name == self._names.normal(own, quoted=False)
        return mark if plain else f'"{mark}"'


def internal_packages(adapter: str) -> frozenset[str]:
    """The packages whose macros belong to dbt and an adapter of this type."""
    return frozenset(f"dbt_{each}" for each in (adapter, *_PARENTS.get(adapter, ()))) | {"dbt"}


def _named(node: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    properties = {k: node[k] for k in sorted(node) if k in names and k not in _NOT_IN_GRAPH}
    if isinstance(config := properties.get("config"), Mapping):
        properties["config"] = {k: config[k] for k in sorted(config) if k in names}
    return properties


# Adapters whose macros build on another adapter's.
_PARENTS: Mapping[str, tuple[str, ...]] = {
    "databricks": ("spark",),
    "fabric": ("sqlserver",),
    "redshift": ("postgres",),
    "synapse": ("sqlserver", "fabric"),
}
