"""Which hooks decide rows and columns, and of which nodes.

A hook counts unless all it sends provably leaves alone what the project reads: it only reads,
labels queries or relations, grants, keeps house, or writes what nothing in the project has or
names, such as a log. What a monitoring package writes is its own: the rows of a log are no function
of the code, so its hooks count for nobody. A hook that writes what nodes are or read counts for
those; one of which it cannot be told what it writes counts for its node, or for all if it runs
around the run.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

from dbt_orchestration.changes.effects.kinds import Effect
from dbt_orchestration.changes.effects.library import Library
from dbt_orchestration.changes.effects.rendered import sent_by_hook, sent_by_macro
from dbt_orchestration.changes.effects.texts import THIS, Statement, Unclear
from dbt_orchestration.changes.text import read_sql

if TYPE_CHECKING:
    from dbt_orchestration.changes.project import Project

# Packages that log runs into tables of their own.
MONITORING = frozenset({"dbt_artifacts", "dbt_observability", "elementary", "re_data"})
# Adapters whose SELECT writes nothing.
_ONLY_SELECT = frozenset({"bigquery", "databricks", "duckdb", "snowflake"})
# Macros that dbt calls around its own statements, and whether what they render is SQL.
_ASIDE = {
    "set_query_tag": False,
    "unset_query_tag": False,
    "apply_grants": False,
    "persist_docs": False,
    "alter_relation_comment": True,
    "alter_column_comment": True,
}
_KINDS = ("pre-hook", "post-hook")
_WORD = re.compile(r"\w+")
# Words of statements that may copy rows from one relation to another.
_COPYING = frozenset({"call", "clone", "copy", "execute", "from", "like", "select", "using"})
_REFERS = re.compile(r"\b(?:ref|source)\s*\(")


@dataclass(frozen=True)
class Hook:
    """A hook of a node, or around the whole run.

    Attributes:
        owner: the node, or the operation that dbt makes of a hook around the run.
        kind: ``pre-hook``, ``post-hook``, ``on-run-start`` or ``on-run-end``.
        statements: what it may send; None if that cannot be told.
    """

    owner: str
    kind: str
    sql: str
    statements: frozenset[Statement] | None = field(compare=False)

    @property
    def around(self) -> bool:
        """It runs before or after everything."""
        return self.kind.startswith("on-run")

    @property
    def written(self) -> frozenset[str]:
        """Names of what it writes."""
        found = self.statements or ()
        return frozenset(s.name for s in found if s.effect is Effect.WRITES)

    @property
    def unknown(self) -> bool:
        """It may write anything."""
        if self.statements is None or (self.around and THIS in self.written):
            return True
        return any(statement.effect is Effect.UNKNOWN for statement in self.statements)

    @property
    def access(self) -> bool:
        """It grants, labels or stores otherwise."""
        return any(s.effect is Effect.ACCESS for s in self.statements or ())


class Hooks:
    """The hooks of a project."""

    def __init__(self, project: Project) -> None:
        self._project = project
        self._sent: dict[tuple[str, str], frozenset[Statement] | None] = {}
        self._named: dict[str, frozenset[str]] = {}
        self._words_of_nodes: dict[str, frozenset[str]] = {}

    @cached_property
    def library(self) -> Library:
        project = self._project
        return Library(
            project.macros.nodes,
            project.name,
            project.macros.internal,
            MONITORING,
            selects_write=project.adapter not in _ONLY_SELECT,
        )

    @cached_property
    def all(self) -> Mapping[str, tuple[Hook, ...]]:
        """All hooks, by owner."""
        found: dict[str, tuple[Hook, ...]] = {}
        for unique_id, node in self._project.nodes.items():
            package = node["package_name"]
            if node["resource_type"] == "operation":
                start = "on-run-start" in (node.get("tags") or ())
                kind = "on-run-start" if start else "on-run-end"
                found[unique_id] = (self._hook(unique_id, kind, node["raw_code"], package),)
            elif own := [
                self._hook(unique_id, kind, sql, package) for kind, sql in texts_of_hooks(node)
            ]:
                found[unique_id] = tuple(own)
        return found

    def of(self, unique_id: str) -> tuple[Hook, ...]:
        """The hooks of a node."""
        return self.all.get(unique_id, ())

    def decides(self, hook: Hook) -> bool:
        """Whether a hook of a node may change rows or columns of that node."""
        return hook.unknown or THIS in hook.written

    def for_all(self) -> list[Hook]:
        """Hooks around the run that may decide every node."""
        return [h for h in self._counting if h.around and h.unknown]

    def from_elsewhere(self, unique_id: str) -> list[Hook]:
        """Hooks of others that write what a node is or reads."""
        return self._elsewhere.get(unique_id, [])

    @cached_property
    def around(self) -> list[tuple[str, str, bool]]:
        """The hooks around the run: owner, SQL and whether they count."""
        hooks = [hook for own in self.all.values() for hook in own if hook.around]
        return [(hook.owner, hook.sql, hook in self._counting) for hook in hooks]

    def deciding(self, unique_id: str) -> list[tuple[str, str, str]]:
        """Owner, kind and SQL of the hooks that decide a node more than others."""
        own = [hook for hook in self.of(unique_id) if self.decides(hook)]
        return [(h.owner, h.kind, h.sql) for h in (*own, *self.from_elsewhere(unique_id))]

    def quiet(self, macro: str) -> Effect | None:
        """What a macro does that dbt only calls to label, document or grant; None if more."""
        name = str(self._project.macros.nodes[macro]["name"])
        name = name if name in _ASIDE else name.partition("__")[2]
        if name not in _ASIDE:
            return None
        effects: set[Effect] = set()
        for package in sorted({n["package_name"] for n in self._project.nodes.values()}):
            # What it calls may be another macro for the nodes of each package.
            try:
                sent = sent_by_macro(self.library, macro, package, renders=_ASIDE[name])
            except (Unclear, RecursionError):
                return None
            effects |= {statement.effect for statement in sent}
        if effects <= {Effect.NOTHING}:
            return Effect.NOTHING
        return Effect.ACCESS if effects <= {Effect.NOTHING, Effect.ACCESS} else None

    def read_by(self, unique_id: str) -> list[str]:
        """Nodes whose rows the hooks that decide a node read or may read, sorted.

        dbt does not tell which of a node's parents its hooks name, and a hook may name a relation
        without ``ref()``.
        """
        project = self._project
        read: set[str] = set()
        for hook in self.of(unique_id):
            if not self.decides(hook):
                continue
            texts = [hook.sql, *self._macros_of(hook)]
            if any(map(_REFERS.search, texts)):
                read.update(project.parents(unique_id))
            words = {word.lower() for word in _WORD.findall(hook.sql)}
            named = {u for u, name in project.identifiers.items() if name in words}
            # Who reads this node is built after its hooks have run.
            read.update(u for u in named if unique_id not in project.ancestors(u))
        for hook in self.from_elsewhere(unique_id):
            copies = not hook.around and not _COPYING.isdisjoint(self._words_of(hook))
            if copies and unique_id not in project.ancestors(hook.owner):
                read.add(hook.owner)
        return sorted(read - {unique_id})

    def _hook(self, owner: str, kind: str, sql: str, package: str) -> Hook:
        key = sql, package
        if key not in self._sent:
            try:
                self._sent[key] = sent_by_hook(self.library, sql, package)
            except (Unclear, RecursionError):
                self._sent[key] = None
        return Hook(owner, kind, sql, self._sent[key])

    @cached_property
    def _counting(self) -> Mapping[Hook, None]:
        """The hooks that count. One that writes what only such hooks read counts as well."""
        hooks = [hook for own in self.all.values() for hook in own]
        counting = {h: None for h in hooks if self.decides(h)}
        waiting = [h for h in hooks if h not in counting and h.written]
        while True:
            words = set().union(*(self._words_of(hook) for hook in counting))
            more = [h for h in waiting if any(n in words or self._users(n) for n in h.written)]
            if not more:
                return counting
            counting.update(dict.fromkeys(more))
            waiting = [h for h in waiting if h not in counting]

    @cached_property
    def _elsewhere(self) -> Mapping[str, list[Hook]]:
        found: dict[str, list[Hook]] = {}
        for hook in self._counting:
            for user in sorted(set().union(*(self._used(name) for name in hook.written))):
                if user != hook.owner:
                    found.setdefault(user, []).append(hook)
        return found

    def _used(self, name: str) -> set[str]:
        """Nodes that are called ``name``, or read it, themselves or through hooks that count."""
        if name == THIS:
            return set()
        users = set(self._users(name))
        for hook in self._counting:
            if name in self._words_of(hook) and name not in hook.written:
                users.update(self._project.built if hook.around else [hook.owner])
        return users

    def _users(self, name: str) -> frozenset[str]:
        """Nodes that are called ``name``, or whose code names it; hooks are not looked at."""
        if name not in self._named:
            project = self._project
            called = {u for u, known in project.identifiers.items() if known == name}
            called |= {u for u in project.identifiers if project.nodes[u]["name"].lower() == name}
            users = called & set(project.built)
            users.update(
                unique_id
                for unique_id in project.built
                if called.intersection(project.parents(unique_id)) - users
                or name in self._words(unique_id)
            )
            self._named[name] = frozenset(users)
        return self._named[name]

    def _words(self, unique_id: str) -> frozenset[str]:
        """Words of everything that a node's SQL is made of."""
        if unique_id not in self._words_of_nodes:
            project = self._project
            node = project.nodes[unique_id]
            parts = project.reached_by(unique_id), project.built_through(unique_id)
            code = node.get("raw_code") or ""
            for _, sql in texts_of_hooks(node):
                # Its config may stand in the code.
                code = code.replace(sql, "")
            texts = [code]
            if compiled := project.compiled.get(unique_id):
                texts += [compiled.full, compiled.incremental or ""]
            for part in parts:
                texts += [project.macros.nodes[macro]["macro_sql"] for macro in part.macros]
                package = node["package_name"]
                texts += [str(project.variable(package, name)) for name in part.variables]
                texts += [str(project.environment_variable(name)) for name in part.env_vars]
            self._words_of_nodes[unique_id] = frozenset().union(*map(words, texts))
        return self._words_of_nodes[unique_id]

    def _words_of(self, hook: Hook) -> frozenset[str]:
        return frozenset().union(*map(words, (hook.sql, *self._macros_of(hook))))

    def _macros_of(self, hook: Hook) -> list[str]:
        """The text of each macro that a hook reaches."""
        project = self._project
        reached = project.reached(project.nodes[hook.owner], [read_sql(hook.sql)])
        return [str(project.macros.nodes[macro]["macro_sql"]) for macro in reached.macros]


def texts_of_hooks(node: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Kind and SQL of each of a node's hooks."""
    for kind in _KINDS:
        for hook in (node.get("config") or {}).get(kind) or ():
            yield kind, hook["sql"] if isinstance(hook, Mapping) else str(hook)


@lru_cache(maxsize=50_000)
def words(text: str) -> frozenset[str]:
    """The words of a text, in lower case."""
    return frozenset(word.lower() for word in _WORD.findall(text))
