"""The fingerprint of every node of a project: equal for two states only if the node's result is.

A node's compiled SQL, analysed, gives *terms*: what decides its rows and each of its columns, in
terms of its parents' rows and columns. Linking them from the sources down gives digests. A node
that cannot be analysed is *opaque*: everything in it is decided by its whole code and everything in
its parents.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from functools import cache, cached_property
from importlib.metadata import version
from typing import Any

from dbt_orchestration.changes.components import (
    Components,
    components,
    project_wide,
)
from dbt_orchestration.changes.policy import HistoryPolicy
from dbt_orchestration.changes.project import Project
from dbt_orchestration.changes.relations import Analyses, Relations, Undeclared
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
    written,
)

# Raise whenever the same project may get other fingerprints than before.
SCHEME = "4"


@dataclass(frozen=True)
class Linked:
    """A relation's digests, parents' included.

    Attributes:
        rest: "" if all columns are known.
        query: of ``rows``, what the query decides; config and hooks may decide more.
        names: how the engine keeps the columns' names; "" if that is how it compares them.
    """

    rows: str
    columns: tuple[tuple[str, str], ...]
    rest: str
    query: str = ""
    names: str = ""

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
        plain: the same, without ``keeps``.
        keeps: nodes of which it holds or reads what older code left, because their owners keep
            that. The day they do not, it is another relation.
        terms: what decides rows and columns, in terms of the parents'.
        linked: their digests.
        opaque: why columns are not told apart; "" if they are.
        elsewhere: it reads relations that are not its parents'.
    """

    unique_id: str
    value: str
    plain: str
    keeps: frozenset[str]
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
            return digest(node.linked.whole, node.linked.names)
        return node.linked.named[reference.column]


def values_of(
    linked: Linked, terms: Relation, parts: Components, keeps: Collection[str]
) -> tuple[str, str]:
    """``Fingerprint.plain`` and ``value`` of a node of which the rest is known."""
    own = sorted({**parts.wide, **parts.own}.items())
    plain = digest(linked.whole, str(terms.positions), *(f"{k}={v}" for k, v in own))
    return plain, digest(plain, *sorted(keeps)) if keeps else plain


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


_CASTS = ("Cast:", "TryCast:")


class _Reader:
    def __init__(self, project: Project, analyses: Analyses, previous: Fingerprints | None) -> None:
        self._project = project
        comparable = previous is not None and previous.scheme == scheme()
        self._previous = previous if comparable and _same_around(previous, project) else None
        self._wide = project_wide(project)
        self._reading: set[str] = set()
        self._relations = Relations(project, analyses, scheme())
        self.done: dict[str, Fingerprint] = {}
        self._all = Fingerprints("", project, self.done, {})

    def read(self, unique_id: str) -> None:
        """Fill ``done`` for a node; its parents are there."""
        if unique_id in self.done or unique_id in self._reading:
            return
        self._reading.add(unique_id)
        if (same := self._unchanged(unique_id)) is not None:
            self.done[unique_id] = same
            self._relations.known[unique_id] = same.terms
            return
        parts = components(self._project, unique_id)
        content = {**parts.content, **self._functions(unique_id)}
        parts = replace(parts, content=content, wide=self._wide)
        terms, opaque = self._relation(unique_id, parts)
        if read := self._project.hooks.read_by(unique_id):
            for other in read:
                if not other.startswith("source."):
                    self.read(other)
            known = [u for u in read if u in self.done or u.startswith("source.")]
            hooks = Term("hooks", (terms.rows, *(refer(u, WHOLE) for u in known)))
            terms = replace(terms, rows=hooks)
        self._relations.known[unique_id] = terms
        memo: dict[str, str] = {}
        query = rows = link(terms.rows, self._all.resolve, memo)
        if parts.content:
            rows = digest("built", rows, *(f"{k}={v}" for k, v in sorted(parts.content.items())))
        names = [written(name) for name, _ in terms.columns]
        linked = Linked(
            rows,
            tuple((str(name), link(t, self._all.resolve, memo)) for name, t in terms.columns),
            link(terms.rest, self._all.resolve, memo) if terms.rest is not None else "",
            query,
            digest(*names) if names != [name for name, _ in terms.columns] else "",
        )
        if terms.order:
            parts = replace(parts, own={**parts.own, "order": digest(terms.order)})
        if linked.names:
            parts = replace(parts, own={**parts.own, "names": linked.names})
        keeps = self._keeps(unique_id)
        plain, value = values_of(linked, terms, parts, keeps)
        beyond = set(read) - set(self._project.parents(unique_id))
        elsewhere = unique_id in self._relations.elsewhere or bool(beyond)
        self.done[unique_id] = Fingerprint(
            unique_id, value, plain, keeps, parts, terms, linked, opaque, elsewhere
        )

    def _keeps(self, unique_id: str) -> frozenset[str]:
        found: set[str] = set()
        for parent in self._project.parents(unique_id):
            if parent in self.done:
                found |= self.done[parent].keeps
                if HistoryPolicy.of(self._project.nodes[parent]).keeps_history:
                    found.add(parent)
        own = HistoryPolicy.of(self._project.nodes[unique_id])
        # Of partitions it is known which of them older code left.
        if own.keeps_history and not own.partitions:
            found.add(unique_id)
        return frozenset(found)

    def _relation(self, unique_id: str, parts: Components) -> tuple[Relation, str]:
        try:
            return self._relations.make(unique_id, self._project.nodes[unique_id], parts)
        except Undeclared as undeclared:
            # dbt does not know of it, so it orders nothing by it; here it counts as a parent.
            self.read(undeclared.node)
            also = [undeclared.node]
            return self._relations.opaque(unique_id, undeclared.code, also), str(undeclared)

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
            and before.hooks.deciding(unique_id) == project.hooks.deciding(unique_id)
            and all(
                self.done.get(parent) is self._previous.nodes.get(parent)
                and (parent in self.done or self._is_same(parent))
                for parent in self._relations.read_by(unique_id) | set(project.parents(unique_id))
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

    def _functions(self, unique_id: str) -> dict[str, str]:
        parents = self._project.parents(unique_id)
        return {
            f"function:{parent}": self.done[parent].value
            for parent in parents
            if parent.startswith("function.") and parent in self.done
        }


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
        and (old.profile, old.target) == (project.profile, project.target)
        and old.adapter == project.adapter
        and old.name == project.name
        and old.macros.same_as(project.macros)
        and old.hooks.around == project.hooks.around
    )


def _equal(left: Any, right: Any) -> bool:
    """Whether two JSON values are the same, the order of keys included."""
    if left is right:
        return True
    if type(left) is not type(right) or left != right:
        return False
    if isinstance(left, dict):
        return list(left) == list(right) and all(_equal(left[key], right[key]) for key in left)
    return not isinstance(left, list) or all(map(_equal, left, right))
