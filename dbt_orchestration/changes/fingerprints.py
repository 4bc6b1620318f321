"""The fingerprint of every node of a project: equal for two states only if the node's result is.

A node's compiled SQL, analysed, gives *terms*: what decides its rows and each of its columns, in
terms of its parents' rows and columns. Linking them from the sources down gives digests. A node
that cannot be analysed is *opaque*: everything in it is decided by its whole code and everything in
its parents.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Mapping, MutableMapping
from dataclasses import dataclass, replace
from functools import cache, cached_property
from importlib.metadata import version
from typing import Any

from dbt_orchestration.changes.columns.names import Names, Opaque, dialect_of
from dbt_orchestration.changes.columns.query import analyse
from dbt_orchestration.changes.components import Components, components, project_wide
from dbt_orchestration.changes.project import Compiled, Project
from dbt_orchestration.changes.terms import (
    REST,
    ROWS,
    WHOLE,
    Reference,
    Relation,
    Term,
    digest,
    link,
    refer,
)

# Raise whenever the same project may get other fingerprints than before.
SCHEME = "1"

Analyses = MutableMapping[str, tuple["Relation | str", frozenset[tuple[str, ...]]]]


@dataclass(frozen=True)
class Linked:
    """A relation's digests, parents' included. ``rest`` is "" if all columns are known."""

    rows: str
    columns: tuple[tuple[str, str], ...]
    rest: str

    @cached_property
    def named(self) -> Mapping[str, str]:
        return dict(self.columns)

    @cached_property
    def whole(self) -> str:
        return digest(self.rows, self.rest, *(f"{name}={value}" for name, value in self.columns))


@dataclass(frozen=True)
class Fingerprint:
    """What decides one node.

    Attributes:
        value: equal for two states only if a build from nothing makes the same relation.
        terms: what decides rows and columns, in terms of the parents'.
        linked: their digests.
        opaque: why columns are not told apart; "" if they are.
        elsewhere: it reads relations that are not its parents'.
    """

    unique_id: str
    value: str
    components: Components
    terms: Relation
    linked: Linked
    opaque: str = ""
    elsewhere: bool = False


@dataclass(frozen=True)
class Fingerprints:
    """The fingerprints of a project under one scheme, parents before children.

    Attributes:
        scheme: fingerprints of different schemes say nothing about each other.
        checks: digests of tests and unit tests, by unique id.
    """

    scheme: str
    project: Project
    nodes: Mapping[str, Fingerprint]
    checks: Mapping[str, Components]

    def resolve(self, reference: Reference) -> str:
        """The digest of what a term refers to."""
        node = self.nodes.get(reference.node)
        if node is None:
            source = self.project.nodes[reference.node]
            return digest(source_digest(self.project, source), reference.column)
        if reference.column == ROWS:
            return node.linked.rows
        if reference.column == REST:
            return node.linked.rest
        if reference.column == WHOLE:
            return node.linked.whole
        return node.linked.named[reference.column]


def cast_type(state: Fingerprints, node: Fingerprint, column: str) -> str:
    """The type a column is cast to, here or in the parent it is taken from; "" if it is not."""
    term = dict(node.terms.columns).get(column)
    while term is not None:
        if term.reference is not None:
            parent = state.nodes.get(term.reference.node)
            term = dict(parent.terms.columns).get(term.reference.column) if parent else None
        elif term.op.startswith(("source ", "first and later")) and term.args:
            term = term.args[0]
        else:
            return term.op.rpartition(",to=")[2] if term.op.startswith(_CASTS) else ""
    return ""


def scheme() -> str:
    """What fingerprints depend on besides the project."""
    return f"{SCHEME}/sqlglot {_sqlglot()}"


@cache
def _sqlglot() -> str:
    return version("sqlglot")


def fingerprint(
    project: Project, analyses: Analyses | None = None, previous: Fingerprints | None = None
) -> Fingerprints:
    """The fingerprints of all models, seeds, snapshots, functions and tests of ``project``.

    Args:
        analyses: results of analysing SQL, by content; filled here. Keep it to be fast next time.
        previous: those of another state, from which what is the same is taken over.
    """
    reader = _Reader(project, {} if analyses is None else analyses, previous)
    for unique_id in project.built:
        reader.read(unique_id)
    checks = {
        unique_id: reader.check(unique_id)
        for unique_id, node in project.nodes.items()
        if node["resource_type"] in ("test", "unit_test")
    }
    return Fingerprints(scheme(), project, reader.done, checks)


def source_digest(project: Project, source: Mapping[str, Any]) -> str:
    """A source is the relation it names; how fresh it is or what is said about it is no change."""
    meta = source.get("meta") or {}
    # dbt-duckdb reads files and calls plugins as the source's meta says.
    reads_meta = meta if {"plugin", "external_location"} & meta.keys() else None
    name = project.relation_name({**source, "alias": source.get("identifier")})
    return digest("source", *name, str(source.get("external")), str(reads_meta))


_NAME_PART = re.compile(r"""(?:["`\[]([^"`\]]+)["`\]]|([^."`\[\]]+))""")
_RELATIONS = frozenset({"model", "seed", "snapshot", "source"})


_CASTS = ("Cast:", "TryCast:")


class _Undeclared(Opaque):
    """The SQL names a relation of the project without ref() or source()."""

    def __init__(self, node: str) -> None:
        super().__init__(f"reads {node} without ref() or source()")
        self.node = node


class _Reader:
    def __init__(self, project: Project, analyses: Analyses, previous: Fingerprints | None) -> None:
        self._project = project
        comparable = previous is not None and previous.scheme == scheme()
        self._previous = previous if comparable and _same_around(previous, project) else None
        self._analyses = analyses
        self._wide = project_wide(project)
        self._relations: dict[tuple[str, ...], str] = {}
        self._paths: dict[str, tuple[str, ...]] = {}
        self._reading: set[str] = set()
        self.done: dict[str, Fingerprint] = {}
        self._all = Fingerprints("", project, self.done, {})
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

    def read(self, unique_id: str) -> None:
        """Fill ``done`` for a node; its parents are there."""
        if unique_id in self.done or unique_id in self._reading:
            return
        self._reading.add(unique_id)
        if (same := self._unchanged(unique_id)) is not None:
            self.done[unique_id] = same
            return
        node = self._project.nodes[unique_id]
        parts = components(self._project, unique_id)
        content = {**parts.content, **self._functions(unique_id)}
        parts = replace(parts, content=content, wide=self._wide)
        self._elsewhere = False
        terms, opaque = self._terms(unique_id, node, parts)
        memo: dict[str, str] = {}
        rows = link(terms.rows, self._all.resolve, memo)
        if parts.content:
            rows = digest("built", rows, *(f"{k}={v}" for k, v in sorted(parts.content.items())))
        linked = Linked(
            rows,
            tuple((name, link(t, self._all.resolve, memo)) for name, t in terms.columns),
            link(terms.rest, self._all.resolve, memo) if terms.rest is not None else "",
        )
        if terms.order:
            parts = replace(parts, own={**parts.own, "order": digest(terms.order)})
        own = sorted({**parts.wide, **parts.own}.items())
        value = digest(linked.whole, str(terms.positions), *(f"{k}={v}" for k, v in own))
        self.done[unique_id] = Fingerprint(
            unique_id, value, parts, terms, linked, opaque, self._elsewhere
        )

    def check(self, unique_id: str) -> Components:
        """The components of a test or unit test."""
        if self._previous and self._is_same(unique_id) and unique_id in self._previous.checks:
            return self._previous.checks[unique_id]
        return components(self._project, unique_id)

    def _unchanged(self, unique_id: str) -> Fingerprint | None:
        """The previous fingerprint, if nothing the node is made of has changed."""
        if self._previous is None or not self._is_same(unique_id):
            return None
        before, project = self._previous.project, self._project
        node = self._previous.nodes.get(unique_id)
        same = (
            node is not None
            and not node.elsewhere
            and "graph" not in {**node.components.code, **node.components.content}
            and before.compiled.get(unique_id) == project.compiled.get(unique_id)
            and before.uncompiled.get(unique_id) == project.uncompiled.get(unique_id)
            and before.seeds.get(unique_id) == project.seeds.get(unique_id)
            and all(
                self.done.get(parent) is self._previous.nodes.get(parent)
                and (parent in self.done or self._is_same(parent))
                for parent in self._read_by(unique_id) | set(project.parents(unique_id))
            )
        )
        return node if same else None

    def _is_same(self, unique_id: str) -> bool:
        assert self._previous is not None
        before = self._previous.project.nodes.get(unique_id)
        now = self._project.nodes[unique_id]
        if before is now:
            return True
        if before is None or before.keys() != now.keys():
            return False
        # The time of parsing is the one thing in a node that says nothing about it.
        return all(key == "created_at" or _equal(before[key], now[key]) for key in before)

    # What decides rows and columns

    def _terms(
        self, unique_id: str, node: Mapping[str, Any], parts: Components
    ) -> tuple[Relation, str]:
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
            return self._opaque(unique_id, code), why or "not compiled"
        try:
            return self._compiled(unique_id, node, compiled), ""
        except _Undeclared as undeclared:
            # dbt does not know of it, so it orders nothing by it; here it counts as a parent.
            self.read(undeclared.node)
            also = [undeclared.node] if undeclared.node in self._project.nodes else []
            return self._opaque(unique_id, digest(compiled.full), also), str(undeclared)
        except Opaque as opaque:
            code = digest(self._named(compiled.full), self._named(compiled.incremental or ""))
            return self._opaque(unique_id, code), str(opaque)

    def _opaque(self, unique_id: str, code: str, also: Iterable[str] = ()) -> Relation:
        read = {*self._project.parents(unique_id), *also}
        parents = sorted(p for p in read if p in self.done or p.startswith("source."))
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
        parents = {self._path(p): p for p in sorted(self._read_by(unique_id))}
        own = self._path(unique_id)
        external: set[tuple[str, ...]] = set()

        def tables(path: tuple[str, ...]) -> Relation:
            if path == own:
                return _itself(itself)
            if parent := parents.get(path):
                return self._parent(parent)
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
            "analysis", scheme(), self._project.adapter, repr((answers, own, before, target)), sql
        )
        if key not in self._analyses:
            try:
                self._analyses[key] = analyse(sql, self._dialect, tables), frozenset(external)
            except Opaque as why:
                self._analyses[key] = str(why), frozenset(external)
        known, elsewhere = self._analyses[key]
        self._elsewhere = self._elsewhere or bool(elsewhere)
        for path in sorted(elsewhere & self._relations.keys()):
            raise _Undeclared(self._relations[path])
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

    def _read_by(self, unique_id: str) -> set[str]:
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
        parent = self.done.get(unique_id)
        if parent is None:
            return Relation(refer(unique_id, ROWS), (), rest=refer(unique_id, REST))
        columns = tuple((name, refer(unique_id, name)) for name, _ in parent.terms.columns)
        unique = len(dict(columns)) == len(columns)
        rest = refer(unique_id, REST) if parent.terms.rest is not None else None
        if not unique:
            rest, columns = refer(unique_id, WHOLE), ()
        return Relation(refer(unique_id, ROWS), columns, rest, parent.terms.positions and unique)

    def _functions(self, unique_id: str) -> dict[str, str]:
        parents = self._project.parents(unique_id)
        return {
            f"function:{parent}": self.done[parent].value
            for parent in parents
            if parent.startswith("function.") and parent in self.done
        }

    # Names

    def _path(self, unique_id: str) -> tuple[str, ...]:
        """The parts of a node's relation name, as the dialect resolves them in compiled SQL."""
        known = self._paths.get(unique_id)
        if known is None:
            name = self._project.nodes[unique_id].get("relation_name") or ""
            parts = _NAME_PART.findall(name)
            known = tuple(self._names.normal(bare or quoted, not bare) for quoted, bare in parts)
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

    # Seeds

    def _seed(self, unique_id: str, node: Mapping[str, Any]) -> Relation:
        """Each column by its own values in the order of the file; dbt infers types by column."""
        text = self._project.seeds.get(unique_id)
        types = {k.lower(): str(v) for k, v in (node["config"].get("column_types") or {}).items()}
        delimiter = node["config"].get("delimiter") or ","
        if text is None:
            checksum = Term(f"seed {node['checksum']} {types}")
            return Relation(checksum, (), rest=checksum, positions=False)
        lines = list(csv.reader(io.StringIO(text.removeprefix("\ufeff")), delimiter=delimiter))
        header, rows = (lines[0], lines[1:]) if lines else ([], [])
        if any(len(row) != len(header) for row in rows) or len(set(header)) != len(header):
            whole = Term(f"seed {digest(text)} {types}")
            return Relation(whole, (), rest=whole, positions=False)
        quoted = bool(node["config"].get("quote_columns"))
        columns = []
        for i, name in enumerate(header):
            content = digest(*(f"{len(row[i])}:{row[i]}" for row in rows))
            values = Term(f"seed {content} {types.get(name.lower())}")
            normal = name if self._why else self._names.normal(name, quoted)
            columns.append((normal, values))
        return Relation(Term(f"seed of {len(rows)} rows"), tuple(columns))


def _same_around(before: Fingerprints | None, project: Project) -> bool:
    """Whether macros, settings and the like, which any node may read, are the same."""
    if before is None:
        return False
    old = before.project
    return (
        _equal(old.settings, project.settings)
        and _equal(old.variables, project.variables)
        and old.environment == project.environment
        and (old.database, old.schema) == (project.database, project.schema)
        and old.adapter == project.adapter
        and old.name == project.name
        and _hooks(old) == _hooks(project)
        and old.macros.same_as(project.macros)
    )


def _equal(left: Any, right: Any) -> bool:
    """Whether two JSON values are the same, the order of keys included."""
    return bool(left == right) and (
        not isinstance(left, dict | list)
        or json.dumps(left, default=str) == json.dumps(right, default=str)
    )


def _hooks(project: Project) -> list[tuple[str, str]]:
    return [(node["unique_id"], node["raw_code"]) for node in project.operations]


def _shape(relation: Relation) -> tuple[object, ...]:
    return [name for name, _ in relation.columns], relation.rest is None, relation.positions


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
