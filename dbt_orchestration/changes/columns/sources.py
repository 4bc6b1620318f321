"""FROM, JOIN, LATERAL: the sources of a SELECT and the rows they make together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from sqlglot import exp

from dbt_orchestration.changes.columns.expressions import Expressions
from dbt_orchestration.changes.columns.names import Names, Opaque
from dbt_orchestration.changes.columns.scope import Scope, Source, refuse
from dbt_orchestration.changes.terms import Name, Relation, Term

Tables = Callable[[tuple[str, ...]], Relation]
Query = Callable[[exp.Expr, Mapping[str, Callable[[], Relation]], Scope | None], Relation]

_TABLE = frozenset(["this", "db", "catalog", "alias", "sample"])
_JOIN = frozenset(["this", "on", "side", "kind", "using", "method", "global_", "match_condition"])
# Those that sqlglot has no class for, and that read no table.
_TABLE_FUNCTIONS = frozenset(
    {
        "FLATTEN",
        "GENERATE_SERIES",
        "GENERATE_SUBSCRIPTS",
        "GENERATOR",
        "GLOB",
        "RANGE",
        "READ_BLOB",
        "READ_CSV",
        "READ_CSV_AUTO",
        "READ_JSON",
        "READ_JSON_AUTO",
        "READ_NDJSON",
        "READ_PARQUET",
        "PARQUET_SCAN",
        "READ_TEXT",
        "SPLIT_TO_TABLE",
        "STRTOK_SPLIT_TO_TABLE",
        "UNNEST",
    }
)
_HIDDEN = frozenset({"SEMI", "ANTI"})


class Sources:
    """Opens the sources of a SELECT; ``query`` analyses subqueries, ``tables`` knows the tables."""

    def __init__(
        self, names: Names, expressions: Expressions, tables: Tables, query: Query
    ) -> None:
        self._names = names
        self._expressions = expressions
        self._tables = tables
        self._query = query

    def open(self, query: exp.Select, scope: Scope) -> tuple[Term, list[Term]]:
        """Fill ``scope.sources`` and ``scope.merged``.

        Returns the rows after the joins, and the conditions of inner joins, which are as good as
        conditions in WHERE.
        """
        clause = query.args.get("from_")
        joins = list(query.args.get("joins") or ())
        laterals = list(query.args.get("laterals") or ())
        conditions: list[Term] = []
        if clause is None:
            if joins or laterals:
                raise Opaque("a join without FROM")
            rows = Term("one row")
        else:
            first, inside = self._unnested(clause.this)
            items = [*inside, *joins, *laterals]
            if self._reorderable(first, items):
                rows, conditions = self._inner(first, items, scope)
            else:
                rows = self._in_order(first, items, scope)
        return rows, conditions

    def all_columns(self, scope: Scope) -> Relation:
        """What ``*`` stands for."""
        columns: list[tuple[str, Term]] = []
        rests: list[Term] = []
        positions = True
        done: set[str] = set()
        for source in scope.sources:
            if not source.visible:
                continue
            positions = positions and source.relation.positions
            for name, term in source.relation.columns:
                if name not in scope.merged:
                    columns.append((name, source.tagged(term)))
                elif name not in done:
                    merged = Name(name, scope.written((name,)))
                    columns.append((merged, scope.merged[name]))
                    done.add(name)
            if source.relation.rest is not None:
                rests.append(source.tagged(source.relation.rest))
        if scope.merged:
            # Engines put merged columns first, or where they stood.
            positions = False
            columns += [(n, t) for n, t in scope.merged.items() if n not in done]
        rest = rests[0] if len(rests) == 1 else Term("rests", rests) if rests else None
        return Relation(Term("star"), tuple(columns), rest, positions)

    def renamed(self, relation: Relation, alias: exp.TableAlias | None) -> Relation:
        """``relation`` under an alias that may name its columns: ``t(a, b)``."""
        names = (
            [self._names.of(column) for column in (alias.args.get("columns") or ())]
            if alias
            else []
        )
        if not names:
            return relation
        if (
            relation.rest is not None
            or not relation.positions
            or len(names) > len(relation.columns)
        ):
            raise Opaque("new names for columns that are not known")
        kept = relation.columns[len(names) :]
        terms = [term for _, term in relation.columns[: len(names)]]
        return replace(relation, columns=(*zip(names, terms, strict=True), *kept))

    # Joins

    def _reorderable(self, first: exp.Expr, items: list[exp.Expr]) -> bool:
        """Inner and cross joins of tables and queries: any order gives the same rows."""
        return _is_plain(first) and all(
            isinstance(item, exp.Join)
            and _is_plain(item.this)
            and not item.args.get("side")
            and str(item.args.get("kind") or "").upper() in ("", "INNER", "CROSS")
            and not any(item.args.get(k) for k in ("using", "method", "global_", "match_condition"))
            for item in items
        )

    def _inner(
        self, first: exp.Expr, items: list[exp.Expr], scope: Scope
    ) -> tuple[Term, list[Term]]:
        before = Scope(ctes=scope.ctes, outer=scope.outer)
        self._add(first, scope, before)
        for join in items:
            refuse(join, _JOIN, "a join")
            self._add(join.this, scope, before)
        # The tag of a source is its place in an order that does not depend on the text's.
        ranked = sorted(scope.sources, key=lambda source: source.relation.rows.key)
        if len(ranked) == 1:
            rows = ranked[0].relation.rows
        else:
            for place, source in enumerate(ranked):
                source.tag = f"source {place}"
            rows = Term("join", [source.relation.rows for source in ranked])
        conditions = [
            condition
            for item in items
            if item.args.get("on")
            for condition in self._expressions.conjuncts(item.args["on"], scope)
        ]
        return rows, conditions

    def _in_order(self, first: exp.Expr, items: list[exp.Expr], scope: Scope) -> Term:
        before = Scope(ctes=scope.ctes, outer=scope.outer)
        source = self._add(first, scope, before)
        source.tag = "source 0" if items else ""
        rows = source.relation.rows
        for place, item in enumerate(items, start=1):
            target = item
            if isinstance(item, exp.Join):
                refuse(item, _JOIN, "a join")
                target = item.this
            sideways = not _is_plain(target)
            left = list(scope.sources)
            source = self._add(target, scope, scope if sideways else before)
            source.tag = f"source {place}"
            rows = self._joined(item, rows, left, source, scope)
        return rows

    def _joined(
        self,
        item: exp.Expr,
        rows: Term,
        left: list[Source],
        source: Source,
        scope: Scope,
    ) -> Term:
        if not isinstance(item, exp.Join):
            return Term("lateral", (rows, source.relation.rows))
        side = str(item.args.get("side") or "").upper()
        kind = str(item.args.get("kind") or "").upper()
        method = str(item.args.get("method") or "").upper()
        how = f"{side} {'' if kind in ('INNER', 'OUTER') else kind} {method}"
        how += f" {bool(item.args.get('global_'))}"
        terms = [rows, source.relation.rows]
        using = [self._names.of(column) for column in item.args.get("using") or ()]
        if method == "NATURAL":
            using = _common(left, source)
            how = how.replace("NATURAL", "")
        for name in using:
            terms.append(self._merge(name, how, left, source, scope))
        for clause in ("on", "match_condition"):
            if condition := item.args.get(clause):
                conjuncts = self._expressions.conjuncts(condition, scope)
                terms.append(Term(clause, conjuncts, unordered=True))
        if kind in _HIDDEN:
            source.visible = False
        return Term(f"join {how}", terms)

    def _merge(self, name: str, how: str, left: list[Source], source: Source, scope: Scope) -> Term:
        before = scope.merged.get(name)
        if before is None:
            found = [term for s in left if s.visible and (term := s.column(name))]
            if not found:
                raise Opaque(f"where the column {name} in USING comes from")
            before = found[0] if len(found) == 1 else Term("any of", found)
        after = source.column(name)
        if after is None:
            raise Opaque(f"where the column {name} in USING comes from")
        merged = Term(f"using {how}", (before, after))
        scope.merged[name] = merged
        return merged

    # Single sources

    def _unnested(self, item: exp.Expr) -> tuple[exp.Expr, list[exp.Expr]]:
        """``FROM (a JOIN b)`` is ``FROM a JOIN b``."""
        if (
            isinstance(item, exp.Subquery)
            and isinstance(item.this, exp.Table)
            and not item.args.get("alias")
        ):
            refuse(item, frozenset({"this", "joins"}), "a join in parentheses")
            first, inside = self._unnested(item.this)
            return first, [*inside, *(item.args.get("joins") or ())]
        if inside := list(item.args.get("joins") or ()):
            item = item.copy()
            item.set("joins", None)
        return item, inside

    def _add(self, item: exp.Expr, scope: Scope, visible: Scope) -> Source:
        alias = item.args.get("alias")
        name = self._names.of(alias.this) if alias and alias.this else ""
        path: tuple[str, ...] = ()
        if pivots := item.args.get("pivots"):
            return self._pivoted(item, pivots, scope, visible)
        if isinstance(item, exp.Table) and isinstance(item.this, exp.Identifier):
            parts = [self._names.of(item.args.get(k)) for k in ("catalog", "db", "this")]
            path = tuple(part for part in parts if part)
            name = name or path[-1]
            relation = self._table(item, path, scope)
        elif isinstance(item, exp.Subquery) and not isinstance(item.this, exp.Table):
            bare = item.copy()
            bare.set("alias", None)
            around = scope.outer and Scope(scope.ctes, outer=scope.outer, neighbours=scope)
            relation = self.renamed(self._query(bare, scope.ctes, around), alias)
        else:
            relation = self._function(item, visible, alias)
            name = name or self._default_name(item)
        source = Source(name, relation, path)
        scope.sources.append(source)
        return source

    def _pivoted(
        self, item: exp.Expr, pivots: list[exp.Pivot], scope: Scope, visible: Scope
    ) -> Source:
        """PIVOT and UNPIVOT read every column of what they stand on."""
        if any(pivot.find(exp.Query, exp.Table) for pivot in pivots):
            raise Opaque("a pivot over a query")
        bare = item.copy()
        bare.set("pivots", None)
        base = self._add(bare, Scope(ctes=scope.ctes, outer=scope.outer), visible)
        alias = pivots[-1].args.get("alias") or item.args.get("alias")
        texts = [pivot.sql(dialect=self._names.dialect) for pivot in pivots]
        term = Term(f"pivot {texts!r}", base.relation.record())
        name = self._names.of(alias.this) if alias and alias.this else base.name
        source = Source(name, Relation(term, (), rest=term))
        scope.sources.append(source)
        return source

    def _table(self, table: exp.Table, path: tuple[str, ...], scope: Scope) -> Relation:
        refuse(table, _TABLE, "a table")
        cte = scope.ctes.get(path[0]) if len(path) == 1 else None
        relation = cte() if cte else self._tables(path)
        if sample := table.args.get("sample"):
            term = self._expressions.term(sample, Scope(ctes={}))
            relation = replace(relation, rows=Term("sample", (relation.rows, term)))
        return self.renamed(relation, table.args.get("alias"))

    def _function(self, item: exp.Expr, visible: Scope, alias: exp.TableAlias | None) -> Relation:
        """UNNEST, FLATTEN, VALUES, LATERAL, a table function: rows of what it is called with."""
        bare = item
        if isinstance(item, exp.Table):
            refuse(item, frozenset({"this", "alias", "ordinality"}), "a table function")
            bare = item.this
        elif isinstance(item, exp.Lateral) and isinstance(item.this, exp.Subquery):
            refuse(item, frozenset({"this", "alias"}), "LATERAL")
            return self.renamed(self._query(item.this, visible.ctes, visible), alias)
        bare = bare.copy()
        bare.set("alias", None)
        _refuse_hidden_tables(bare)
        term = Term("function", (self._expressions.content(bare, visible),))
        names = (
            [self._names.of(column) for column in (alias.args.get("columns") or ())]
            if alias
            else []
        )
        columns = tuple((n, Term(f"column {i}", (term,))) for i, n in enumerate(names))
        if (
            isinstance(item, exp.Values)
            and names
            and len(item.expressions[0].expressions) == len(names)
        ):
            return Relation(term, columns)
        shape = Term(f"ordinality {bool(item.args.get('ordinality'))}", (term,))
        return Relation(term, columns, rest=shape)

    def _default_name(self, item: exp.Expr) -> str:
        inner = item.this if isinstance(item, (exp.Table, exp.Lateral)) else item
        if isinstance(inner, exp.Anonymous):
            return self._names.normal(inner.name, quoted=False)
        return "unnest" if isinstance(inner, exp.Unnest) else ""


def _is_plain(item: exp.Expr) -> bool:
    """A table or a query: something that does not read its neighbours."""
    if isinstance(item, exp.Table):
        return isinstance(item.this, exp.Identifier)
    return isinstance(item, exp.Subquery)


def _refuse_hidden_tables(function: exp.Expr) -> None:
    """A table function may read tables that are named in a string, or in its own definition."""
    for part in function.find_all(exp.Anonymous):
        if part.name.upper() not in _TABLE_FUNCTIONS:
            raise Opaque(f"the table function {part.name}")
    named = isinstance(function, exp.TableFromRows) and isinstance(function.this, exp.Literal)
    if named or function.find(exp.DynamicIdentifier):
        raise Opaque("a table named in a string: identifier() or table()")


def _common(left: list[Source], source: Source) -> list[str]:
    """The columns a NATURAL join is on."""
    if source.relation.rest is not None or any(s.relation.rest is not None for s in left):
        raise Opaque("NATURAL JOIN of columns whose names are not known")
    visible = [s for s in left if s.visible]
    return [name for name, _ in source.relation.columns if any(name in s for s in visible)]
