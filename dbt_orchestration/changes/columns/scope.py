"""Where a column name is looked up: the sources of a SELECT, its aliases, the query around it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from sqlglot import exp

from dbt_orchestration.changes.columns.names import Opaque
from dbt_orchestration.changes.terms import Relation, Term, written


@dataclass
class Source:
    """A relation in FROM, under the name it has there.

    Attributes:
        path: the parts of a table's own name.
        tag: which of several sources it is: without it both sides of a self-join are one.
        level: how many queries further out it stands than the one that reads it.
    """

    name: str
    relation: Relation
    path: tuple[str, ...] = ()
    tag: str = ""
    level: int = 0
    visible: bool = True

    def __post_init__(self) -> None:
        self._index: dict[str, Term] = {}
        for name, term in self.relation.columns:
            # A name that occurs twice needs the rule that is in Relation.column.
            self._index[name] = self.relation.column(name) or term if name in self._index else term

    def __contains__(self, name: str) -> bool:
        """Whether a column of this name is known."""
        return name in self._index

    def column(self, name: str) -> Term | None:
        known = self._index.get(name) if self.relation.rest is None else None
        found = known or self.relation.column(name)
        return self.tagged(found) if found else None

    def tagged(self, term: Term) -> Term:
        term = Term(self.tag, (term,)) if self.tag else term
        for _ in range(self.level):
            term = Term("outer", (term,))
        return term

    def record(self) -> list[Term]:
        """Everything in it, its columns' names as data among that."""
        return [self.tagged(term) for term in self.relation.record()]

    def written(self, name: str) -> str:
        """How the relation keeps the name of a column."""
        found = {written(known) for known, _ in self.relation.columns if known == name}
        return " or ".join(sorted(found)) or name


@dataclass
class Scope:
    """The names one SELECT can use.

    Attributes:
        ctes: the relations WITH gives a name to, made when first read.
        outer: the query around a subquery, whose columns it may read.
        aliases: the SELECT list's own names, made when first read.
        neighbours: what stands to the left in FROM. Some engines let a subquery read it.
        merged: what USING and NATURAL made one column of two.
        grouping: a name means an alias or a column by rules in which dialects differ: GROUP BY,
            HAVING, QUALIFY. Then both count.
    """

    ctes: Mapping[str, Callable[[], Relation]]
    outer: Scope | None = None
    sources: list[Source] = field(default_factory=list)
    aliases: dict[str, Callable[[], Term]] = field(default_factory=dict)
    merged: dict[str, Term] = field(default_factory=dict)
    neighbours: Scope | None = None
    grouping: bool = False
    ordering: bool = False
    windows: dict[str, exp.Expr] = field(default_factory=dict)
    windowed: set[int] = field(default_factory=set)
    bound: set[str] = field(default_factory=set)
    resolving: set[str] = field(default_factory=set)
    # What the SELECT list and HAVING turn out to contain.
    aggregates: bool = False
    unknown_functions: set[str] = field(default_factory=set)
    row_functions: list[Term] = field(default_factory=list)

    def find(self, name: str) -> Term | None:
        """An unqualified name: here, or in the query around."""
        own = self._here(name)
        alias = self._alias(name) if self.aliases else None
        if alias is not None and own is not None and alias.key != own.key:
            if self.ordering:
                own = alias
            elif self.grouping or self._open():
                own = Term("either", (own, alias))
        own = own or alias
        if own is None or self._only_perhaps(name):
            if self.neighbours and any(
                name in source or source.relation.rest for source in self.neighbours.sources
            ):
                raise Opaque(f"whether {name} is its neighbour's or the query's around")
            around = self.outer.find(name) if self.outer else None
            around = Term("outer", (around,)) if around else None
            if own is not None and around is not None:
                return Term("either", (own, around))
            own = own or around
        return own

    def source(self, path: tuple[str, ...]) -> Source | None:
        """The source called ``path``: an alias, or a table's (qualified) name."""
        for source in self.sources:
            if path == (source.name,) or (len(path) > 1 and source.path[-len(path) :] == path):
                return source
        if self.neighbours and any(path == (s.name,) for s in self.neighbours.sources):
            raise Opaque("a subquery in FROM that reads its neighbour")
        around = self.outer.source(path) if self.outer else None
        return replace(around, level=around.level + 1) if around else None

    def everything(self) -> Term:
        """All columns of all sources: what ``*`` inside a function reads."""
        visible = [source for source in self.sources if source.visible]
        return Term("everything", [term for source in visible for term in source.record()])

    def written(self, path: tuple[str, ...]) -> str:
        """How the column ``path`` is called in a result: as its source keeps the name."""
        *table, name = path
        source = self.source(tuple(table)) if table else None
        sources = [source] if source else [] if table else self.sources
        found = {s.written(name) for s in sources if s.visible and name in s}
        if not found and any(s.relation.rest for s in sources) and name not in self.aliases:
            return str(name)
        # Else it is the field of a struct, or an alias.
        return " or ".join(sorted(found)) or written(name)

    def _here(self, name: str) -> Term | None:
        if (merged := self.merged.get(name)) is not None:
            return merged
        sources = [s for s in self.sources if s.visible]
        found = [term for s in sources if name in s and (term := s.column(name))]
        if not found:
            found = [term for s in sources if s.relation.rest and (term := s.column(name))]
        return found[0] if len(found) == 1 else Term("any of", found) if found else None

    def _open(self) -> bool:
        return any(source.relation.rest for source in self.sources)

    def _only_perhaps(self, name: str) -> bool:
        return (
            self._open()
            and name not in self.merged
            and not any(name in source for source in self.sources if source.visible)
        )

    def _alias(self, name: str) -> Term | None:
        if name not in self.aliases or name in self.resolving:
            return None
        self.resolving.add(name)
        try:
            return self.aliases[name]()
        finally:
            self.resolving.discard(name)


def refuse(expression: exp.Expr, allowed: frozenset[str], what: str) -> None:
    """Raises:
    Opaque: ``expression`` has a clause nobody here has thought about.
    """
    for key, value in expression.args.items():
        if value and key not in allowed:
            raise Opaque(f"{what} with {key.strip('_').replace('_', ' ')}")
