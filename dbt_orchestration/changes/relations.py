"""What decides the rows and columns of each node: the terms of its compiled SQL, or of its code."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, MutableMapping
from dataclasses import replace
from typing import Any

from dbt_orchestration.changes.columns.names import Names, Opaque, dialect_of
from dbt_orchestration.changes.columns.query import analyse
from dbt_orchestration.changes.components import Components
from dbt_orchestration.changes.config import SEED_ONLY
from dbt_orchestration.changes.project import Compiled, Project
from dbt_orchestration.changes.seeds import seed_relation
from dbt_orchestration.changes.terms import (
    REST,
    ROWS,
    WHOLE,
    Relation,
    Term,
    digest,
    refer,
    written,
)

Analyses = MutableMapping[str, tuple["Relation | str", frozenset[tuple[str, ...]]]]

_RELATIONS = frozenset({"model", "seed", "snapshot", "source"})
# Of the names that dbt gives to ephemeral models, before the SQL that they stand for.
_EPHEMERAL = "dbt__cte__"


class Undeclared(Opaque):
    """The SQL, whose digest is ``code``, names ``node`` without ref() or source()."""

    def __init__(self, node: str) -> None:
        super().__init__(f"reads {node} without ref() or source()")
        self.node = node
        self.code = ""


class Relations:
    """The relations of a project's nodes, made one after the other, parents first.

    Attributes:
        known: those made so far, by unique id.
        elsewhere: nodes that read relations that are not their parents'.

    Args:
        scheme: goes into the keys of ``analyses``.
    """

    def __init__(self, project: Project, analyses: Analyses, scheme: str) -> None:
        self.known: dict[str, Relation] = {}
        self.elsewhere: set[str] = set()
        self._project = project
        self._analyses = analyses
        self._scheme = scheme
        self._relations: dict[tuple[str, ...], str] = {}
        self._paths: dict[str, tuple[str, ...]] = {}
        self._why = ""
        try:
            self._dialect = dialect_of(project.adapter)
        except Opaque as why:
            self._why = str(why)
            return
        self._names = Names(self._dialect)
        for unique_id, node in project.nodes.items():
            if node["resource_type"] in _RELATIONS and (path := self._path(unique_id)):
                self._relations[path] = unique_id

    def make(
        self, unique_id: str, node: Mapping[str, Any], parts: Components
    ) -> tuple[Relation, str]:
        """A node's relation, and why its columns cannot be told apart; "" if they can.

        Raises:
            Undeclared: a node has to be made first that is no parent of this one.
        """
        if node["resource_type"] == "seed":
            return self._seed(unique_id, node), ""
        why = self._why or self._project.uncompiled.get(unique_id, "")
        if node.get("language") == "python":
            why = "a Python model"
        elif node["resource_type"] == "function":
            why = "a function"
        elif parts.asks:
            why = "; ".join(parts.asks)
        compiled = self._project.compiled.get(unique_id)
        if why or compiled is None:
            code = digest(*(f"{k}={v}" for k, v in sorted(parts.code.items())))
            return self.opaque(unique_id, code), why or "not compiled"
        try:
            return self._compiled(unique_id, node, compiled), ""
        except Opaque as opaque:
            code = digest(self._named(compiled.full), self._named(compiled.incremental or ""))
            if isinstance(opaque, Undeclared):
                opaque.code = code
                raise
            return self.opaque(unique_id, code), str(opaque)

    def _seed(self, unique_id: str, node: Mapping[str, Any]) -> Relation:
        text = self._project.seeds.get(unique_id)
        stated = [(key, node["config"].get(key)) for key in sorted(SEED_ONLY)]
        names = None if self._why else self._names
        read = self._scheme, self._project.adapter, names is None, stated, node["checksum"]
        key = digest("seed", repr((*read, text is None)), text or "")
        if key not in self._analyses:
            self._analyses[key] = seed_relation(node, text, names), frozenset()
        known, _ = self._analyses[key]
        assert isinstance(known, Relation)
        return known

    def opaque(self, unique_id: str, code: str, also: Iterable[str] = ()) -> Relation:
        """The relation of a node that all its code and all of its parents and ``also`` decide."""
        read = {*self._project.parents(unique_id), *also}
        parents = sorted(p for p in read if p in self.known or p.startswith("source."))
        term = Term(f"opaque {code}", [refer(parent, WHOLE) for parent in parents])
        return Relation(term, (), rest=term, positions=False)

    def _compiled(self, unique_id: str, node: Mapping[str, Any], compiled: Compiled) -> Relation:
        relation = self._analysed(unique_id, compiled.full)
        if compiled.incremental is not None:
            later = self._analysed(unique_id, compiled.incremental, itself=relation)
            relation = _first_and_later(relation, later)
        if node["resource_type"] == "snapshot":
            return _snapshot(relation)
        if node["config"].get("incremental_strategy") == "microbatch":
            return self._batched(unique_id, node, relation)
        return relation

    def _batched(self, unique_id: str, node: Mapping[str, Any], relation: Relation) -> Relation:
        """Batches read each parent's rows, and replace their own, by event_time."""
        read: list[Term] = []
        for parent in self._project.parents(unique_id):
            time = (self._project.nodes[parent].get("config") or {}).get("event_time")
            if time:
                name = self._names.normal(time, quoted=False)
                read.append(self._parent(parent).column(name) or refer(parent, WHOLE))
        own = node["config"].get("event_time")
        if own and (term := relation.column(self._names.normal(own, quoted=False))):
            read.append(term)
        return replace(relation, rows=Term("batches", (relation.rows, *read)))

    def _analysed(self, unique_id: str, sql: str, itself: Relation | None = None) -> Relation:
        parents = {self._path(p): p for p in sorted(self.read_by(unique_id))}
        own = self._path(unique_id)
        external: set[tuple[str, ...]] = set()

        def tables(path: tuple[str, ...]) -> Relation:
            if path == own:
                return _itself(itself)
            if parent := parents.get(path):
                return self._parent(parent)
            if _EPHEMERAL in path[-1].lower():
                raise Opaque(f"the SQL of the ephemeral model {path[-1]} is not there")
            external.add(path)
            term = Term(f"external {self._relative(path)}")
            return Relation(term, (), rest=term)

        for function in self._project.parents(unique_id):
            for name in self._function_names(function):
                sql = sql.replace(name, f'"{function}"')
        # Besides the SQL: what ``tables`` answers. The names of the parents' columns decide a star.
        answers = [(path, p, *_shape(self._parent(p))) for path, p in parents.items()]
        before = itself and _shape(itself)
        target = self._project.database, self._project.schema
        key = digest(
            "analysis",
            self._scheme,
            self._project.adapter,
            repr((answers, own, before, target)),
            sql,
        )
        if key not in self._analyses:
            try:
                self._analyses[key] = analyse(sql, self._dialect, tables), frozenset(external)
            except Opaque as why:
                self._analyses[key] = str(why), frozenset(external)
        known, elsewhere = self._analyses[key]
        if elsewhere:
            self.elsewhere.add(unique_id)
        for path in sorted(elsewhere & self._relations.keys()):
            raise Undeclared(self._relations[path])
        if isinstance(known, str):
            raise Opaque(known)
        return known

    def _function_names(self, unique_id: str) -> list[str]:
        """How compiled SQL may call a function of the project; nothing for other nodes."""
        if not unique_id.startswith("function."):
            return []
        node = self._project.nodes[unique_id]
        parts = [str(part) for part in (node.get("database"), node.get("schema")) if part]
        parts.append(str(node.get("alias") or node["name"]))
        return [".".join(f'"{part}"' for part in parts), ".".join(parts)]

    def read_by(self, unique_id: str) -> set[str]:
        """The parents, and of ephemeral ones theirs: their SQL stands in the compiled SQL."""
        read: set[str] = set()
        waiting = self._project.parents(unique_id)
        while waiting:
            parent = waiting.pop()
            if parent in read or parent.startswith("function."):
                continue
            read.add(parent)
            if (self._project.nodes[parent].get("config") or {}).get("materialized") == "ephemeral":
                waiting += self._project.parents(parent)
        return read

    def _parent(self, unique_id: str) -> Relation:
        parent = self.known.get(unique_id)
        if parent is None:
            return Relation(refer(unique_id, ROWS), (), rest=refer(unique_id, REST))
        columns = tuple((name, refer(unique_id, name)) for name, _ in parent.columns)
        unique = len(dict(columns)) == len(columns)
        rest = refer(unique_id, REST) if parent.rest is not None else None
        if not unique:
            rest, columns = refer(unique_id, WHOLE), ()
        return Relation(refer(unique_id, ROWS), columns, rest, parent.positions and unique)

    def _path(self, unique_id: str) -> tuple[str, ...]:
        """The parts of a node's relation name, as the dialect resolves them in compiled SQL."""
        known = self._paths.get(unique_id)
        if known is None:
            known = self._names.path(self._project.nodes[unique_id].get("relation_name") or "")
            self._paths[unique_id] = known
        return known

    def _relative(self, path: tuple[str, ...]) -> str:
        database, schema, name = ("", "", "", *path)[-3:]
        relative = {"database": database, "schema": schema, "alias": name}
        return ".".join(self._project.relation_name(relative))

    def _named(self, sql: str) -> str:
        """Compiled SQL with relations' names made relative, as far as that can be done by text."""
        for unique_id in self._project.nodes:
            name = self._project.nodes[unique_id].get("relation_name")
            if name and name in sql:
                sql = sql.replace(name, f"<{unique_id}>")
        return sql


def _shape(relation: Relation) -> tuple[object, ...]:
    names = [(name, written(name)) for name, _ in relation.columns]
    return names, relation.rest is None, relation.positions


def _itself(relation: Relation | None) -> Relation:
    """``{{ this }}``: the table as the runs before left it."""
    if relation is None or relation.rest is not None:
        before = Term("before")
        return Relation(before, (), rest=before)
    columns = tuple((name, Term(f"before {name}")) for name, _ in relation.columns)
    return Relation(Term("before"), columns, None, relation.positions)


def _first_and_later(first: Relation, later: Relation) -> Relation:
    """An incremental model is decided by what it does on an empty and on a full table."""
    rows = Term("first and later", (first.rows, later.rows))
    if first.rest is None and later.rest is None:
        names = [name for name, _ in first.columns]
        if names == [name for name, _ in later.columns]:
            pairs = zip(first.columns, later.columns, strict=True)
            columns = ((n, Term("first and later", (a, b))) for (n, a), (_, b) in pairs)
            return replace(first, rows=rows, columns=tuple(columns))
    whole = Term("first and later", (*first.everything(), *later.everything()))
    return Relation(whole, (), rest=whole, positions=False)


def _snapshot(relation: Relation) -> Relation:
    """A snapshot adds rows whenever a column changes, and columns of its own."""
    whole = Term("snapshot", relation.everything())
    return Relation(whole, relation.columns, rest=whole, positions=False)
