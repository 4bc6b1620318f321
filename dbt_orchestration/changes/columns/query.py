"""The relation a query yields: SELECT, set operations, WITH."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

from sqlglot import exp
from sqlglot.dialects.dialect import Dialect

from dbt_orchestration.changes.columns.expressions import Expressions
from dbt_orchestration.changes.columns.names import Names, Opaque
from dbt_orchestration.changes.columns.scope import Scope, refuse
from dbt_orchestration.changes.columns.sources import Sources, Tables
from dbt_orchestration.changes.columns.syntax import parse
from dbt_orchestration.changes.terms import Name, Relation, Term

_SELECT = frozenset(
    [
        "with_",
        "expressions",
        "distinct",
        "from_",
        "joins",
        "laterals",
        "where",
        "group",
        "having",
        "qualify",
        "windows",
        "order",
        "limit",
        "offset",
        "sample",
    ]
)
_SET = frozenset(["with_", "this", "expression", "distinct", "by_name", "order", "limit", "offset"])
_SUBQUERY = frozenset(["with_", "this", "alias", "order", "limit", "offset", "sample"])
_SETS = (exp.Rollup, exp.Cube, exp.GroupingSets)
_STAR = frozenset({"except_", "replace", "rename"})
T = TypeVar("T")


def analyse(sql: str, dialect: Dialect, tables: Tables) -> Relation:
    """What decides the rows and columns of ``sql``, one SELECT or set operation.

    Args:
        sql: a compiled query.
        dialect: as ``names.dialect_of`` gives it.
        tables: called with the normalised parts of a table's name, says what that table holds.

    Raises:
        Opaque: something in the query is not understood. Nothing else is raised for any text.
    """
    try:
        query, order = _unsorted(parse(sql, dialect))
        relation = _Queries(dialect, tables).relation(query, {}, None)
        text = order.sql(dialect=dialect, comments=False) if order else ""
        return replace(relation, order=text)
    except RecursionError:
        raise Opaque("SQL nested too deeply") from None


@dataclass(frozen=True)
class _Listed:
    """The SELECT list; ``keys`` are what GROUP BY ALL groups by."""

    relation: Relation
    keys: list[Term]


class _Queries:
    def __init__(self, dialect: Dialect, tables: Tables) -> None:
        self._dialect = dialect
        self._names = Names(dialect)
        self._expressions = Expressions(
            self._names,
            type(dialect).__name__,
            lambda query, scope: self.relation(query, scope.ctes, scope),
        )
        self._sources = Sources(self._names, self._expressions, tables, self.relation)

    def relation(
        self, query: exp.Expr, ctes: Mapping[str, Callable[[], Relation]], outer: Scope | None
    ) -> Relation:
        ctes = self._with(query, ctes, outer)
        if isinstance(query, exp.Select):
            return self._select(query, Scope(ctes=ctes, outer=outer))
        if isinstance(query, exp.SetOperation):
            return self._set_operation(query, ctes, outer)
        if isinstance(query, exp.Subquery):
            refuse(query, _SUBQUERY, "a subquery")
            inner = self.relation(query.this, ctes, outer)
            return self._ordered(query, inner, Scope(ctes=ctes, outer=outer))
        raise Opaque(f"{type(query).__name__.lower()} as a query")

    # WITH

    def _with(
        self, query: exp.Expr, ctes: Mapping[str, Callable[[], Relation]], outer: Scope | None
    ) -> Mapping[str, Callable[[], Relation]]:
        clause = query.args.get("with_")
        if clause is None:
            return ctes
        visible = dict(ctes)
        for cte in clause.expressions:
            refuse(cte, frozenset({"this", "alias", "materialized"}), "WITH")
            name = self._names.of(cte.args["alias"].this)
            make = self._recursive if clause.recursive and _reads(cte, name) else self._plain
            visible[name] = _once(partial(make, cte, dict(visible), outer))
        return visible

    def _plain(
        self, cte: exp.CTE, ctes: Mapping[str, Callable[[], Relation]], outer: Scope | None
    ) -> Relation:
        return self._sources.renamed(self.relation(cte.this, ctes, outer), cte.args["alias"])

    def _recursive(
        self, cte: exp.CTE, ctes: Mapping[str, Callable[[], Relation]], outer: Scope | None
    ) -> Relation:
        union = cte.this
        if not isinstance(union, exp.SetOperation) or union.args.get("with_"):
            raise Opaque("a recursive query that is not a plain union")
        refuse(union, frozenset({"this", "expression", "distinct"}), "a recursive union")
        start = self._sources.renamed(self.relation(union.this, ctes, outer), cte.args["alias"])
        if start.rest is not None or not start.positions:
            raise Opaque("a recursive query over columns whose names are not known")
        itself = Relation(
            Term("recursion"),
            tuple((name, Term(f"recursion {i}")) for i, (name, _) in enumerate(start.columns)),
        )
        name = self._names.of(cte.args["alias"].this)
        step = self.relation(union.expression, {**ctes, name: lambda: itself}, outer)
        kind = f"recursive {bool(union.args.get('distinct'))}"
        whole = Term(kind, (*start.everything(), *step.everything()))
        columns = ((n, Term(f"column {i}", (whole,))) for i, (n, _) in enumerate(start.columns))
        return Relation(whole, tuple(columns))

    # SELECT

    def _select(self, query: exp.Select, scope: Scope) -> Relation:
        refuse(query, _SELECT, "a query")
        rows, conditions = self._sources.open(query, scope)
        # Not before: FROM does not see the SELECT list.
        self._name_aliases(query, scope)
        if where := query.args.get("where"):
            conditions += self._expressions.conjuncts(where.this, scope)
        if conditions:
            rows = Term("where", (rows, Term("{}", conditions, unordered=True)))
        for window in query.args.get("windows") or ():
            scope.windows[self._names.of(window.this)] = window
        listed = self._listed(query, scope)
        scope.grouping = True
        having = self._conditions(query.args.get("having"), scope)
        qualify = self._conditions(query.args.get("qualify"), scope)
        if scope.row_functions:
            rows = Term("rows of", (rows, Term("{}", scope.row_functions, unordered=True)))
        rows = self._grouped(query, scope, rows, listed)
        rows = Term("having", (rows, *having)) if having else rows
        rows = Term("qualify", (rows, *qualify)) if qualify else rows
        relation = replace(listed.relation, rows=rows)
        if distinct := query.args.get("distinct"):
            relation = self._distinct(query, distinct, relation, scope)
            if distinct.args.get("on"):
                return relation
        collapsed = scope.aggregates
        ordered = self._ordered(query, relation, scope)
        if scope.aggregates and not collapsed and not query.args.get("group"):
            raise Opaque("an aggregate in ORDER BY only")
        return ordered

    def _conditions(self, clause: exp.Expr | None, scope: Scope) -> tuple[Term, ...]:
        if clause is None:
            return ()
        return (Term("{}", self._expressions.conjuncts(clause.this, scope), unordered=True),)

    def _name_aliases(self, query: exp.Select, scope: Scope) -> None:
        for expression in query.expressions:
            if isinstance(expression, exp.Alias):
                name = self._names.of(expression.args["alias"])
                term = partial(self._expressions.term, expression.this, scope)
                scope.aliases[name] = _once(term)

    def _listed(self, query: exp.Select, scope: Scope) -> _Listed:
        columns: list[tuple[str, Term]] = []
        keys: list[Term] = []
        rests: list[Term] = []
        positions = True
        aggregates = False
        for expression in query.expressions:
            star = expression.this if isinstance(expression, exp.Column) else expression
            if isinstance(star, exp.Star):
                part = self._star(expression, star, scope)
                columns += part.columns
                keys += part.everything()[1:]
                rests += [part.rest] if part.rest is not None else []
                positions = positions and part.positions and part.rest is None
                continue
            if isinstance(expression, exp.Aliases):
                raise Opaque("several names for one expression")
            scope.aggregates = False
            row_functions = len(scope.row_functions)
            value = expression.this if isinstance(expression, exp.Alias) else expression
            term = self._expressions.term(value, scope)
            columns.append((self._output(expression, scope), term))
            if len(scope.row_functions) > row_functions:
                # unnest() of a struct makes a column of each field.
                rests.append(Term("fields", (term,)))
                positions = False
            keys += [] if scope.aggregates else [term]
            aggregates = aggregates or scope.aggregates
        scope.aggregates = aggregates
        rest = rests[0] if len(rests) == 1 else Term("rests", rests) if rests else None
        return _Listed(Relation(Term("listed"), tuple(columns), rest, positions), keys)

    def _output(self, expression: exp.Expr, scope: Scope) -> str:
        if isinstance(expression, exp.Alias):
            return self._names.of(expression.args["alias"])
        if isinstance(expression, exp.Column):
            path = tuple(self._names.of(part) for part in expression.parts)
            return Name(path[-1], scope.written(path))
        if isinstance(expression, exp.Paren):
            return self._output(expression.this, scope)
        # The engine makes a name of the text; so the text is the name here.
        return f"({expression.sql(dialect=self._dialect, comments=False)})"

    def _star(self, expression: exp.Expr, star: exp.Star, scope: Scope) -> Relation:
        refuse(star, _STAR, "a star")
        if star is expression:
            relation = self._sources.all_columns(scope)
        else:
            source = scope.source((self._names.of(expression.args["table"]),))
            if source is None or source not in scope.sources:
                raise Opaque(f"{expression.sql()}: no such source")
            relation = Relation(
                source.relation.rows,
                tuple((n, source.tagged(t)) for n, t in source.relation.columns),
                source.tagged(source.relation.rest) if source.relation.rest else None,
                source.relation.positions,
            )
        dropped = {self._names.of(name) for name in star.args.get("except_") or ()}
        renamed = {
            self._names.of(pair.this): self._names.of(pair.args["alias"])
            for pair in star.args.get("rename") or ()
        }
        replaced = {
            self._names.of(pair.args["alias"]): self._expressions.term(pair.this, scope)
            for pair in star.args.get("replace") or ()
        }
        if not (dropped or renamed or replaced):
            return relation
        as_replaced = {name: name for name in replaced}
        columns = tuple(
            (renamed.get(name, as_replaced.get(name, name)), replaced.get(name, term))
            for name, term in relation.columns
            if name not in dropped
        )
        rest = relation.rest
        if rest is not None:
            names = f"star {sorted(dropped)!r} {sorted(renamed.items())!r} {sorted(replaced)!r}"
            rest = Term(names, (rest, *(replaced[name] for name in sorted(replaced))))
        return replace(relation, columns=columns, rest=rest)

    def _grouped(self, query: exp.Select, scope: Scope, rows: Term, listed: _Listed) -> Term:
        if group := query.args.get("group"):
            if group.args.get("all"):
                keys = listed.keys
            else:
                keys = [self._key(key, scope, listed.relation) for key in group.expressions]
            rows = Term("group", (rows, Term("{}", keys, unordered=True)))
            if others := {
                k: v for k, v in group.args.items() if v and k not in ("expressions", "all")
            }:
                sets = exp.Group(**others)
                if _has_position(sets):
                    raise Opaque("positions in grouping sets")
                rows = Term("sets", (rows, self._expressions.term(sets, scope)))
            return rows
        if scope.aggregates or query.args.get("having"):
            return Term("aggregate", (rows,))
        if scope.unknown_functions:
            # One of them may be an aggregate, and then there is one row.
            return Term(f"functions {sorted(scope.unknown_functions)!r}", (rows,))
        return rows

    def _key(self, key: exp.Expr, scope: Scope, listed: Relation) -> Term:
        """A key of GROUP BY or ORDER BY, which may be a position in the SELECT list."""
        if not _is_number(key):
            if _is_number(key.unnest()) or (isinstance(key, _SETS) and _has_position(key)):
                raise Opaque("a position inside parentheses or grouping sets")
            return self._expressions.term(key, scope)
        position = int(key.this) - 1 if key.this.isdigit() else -1
        if not listed.positions or not 0 <= position < len(listed.columns):
            raise Opaque(f"what the position {key.this} means")
        return listed.columns[position][1]

    def _distinct(
        self, query: exp.Select, distinct: exp.Distinct, relation: Relation, scope: Scope
    ) -> Relation:
        if on := distinct.args.get("on"):
            keys = [self._key(key, scope, relation) for key in on.expressions or [on]]
            ordered = self._ordered(query, relation, scope)
            rows = Term("distinct on", (relation.rows, *keys, ordered.rows))
            return replace(relation, rows=rows)
        rest = () if relation.rest is None else (relation.rest,)
        values = Term("{}", (*(term for _, term in relation.columns), *rest), unordered=True)
        return replace(relation, rows=Term("distinct", (relation.rows, values)))

    def _ordered(self, query: exp.Expr, relation: Relation, scope: Scope) -> Relation:
        """ORDER BY decides rows under LIMIT; without one still the order they are stored in."""
        rows = relation.rows
        if order := query.args.get("order"):
            keys = []
            for key in order.expressions:
                # Engines agree that a bare name is an alias first, and on nothing else.
                scope.ordering = isinstance(key.this, exp.Column)
                direction = exp.Ordered(**{**key.args, "this": exp.Null()})
                keys += [
                    self._sorted_by(query, key.this, relation, scope),
                    self._expressions.term(direction, scope),
                ]
            scope.ordering = False
            rows = Term("order", (rows, *keys))
        for clause in ("limit", "offset", "sample"):
            if limited := query.args.get(clause):
                rows = Term(clause, (rows, self._expressions.term(limited, scope)))
        return replace(relation, rows=rows)

    def _sorted_by(self, query: exp.Expr, key: exp.Expr, relation: Relation, scope: Scope) -> Term:
        if isinstance(key, exp.Var):
            # sqlglot reads ORDER BY "all" and ORDER BY ALL as the same.
            if key.name.upper() != "ALL" or relation.rest or relation.column(self._names.of(key)):
                raise Opaque(f"ORDER BY {key.name}")
            return Term("order by all", relation.everything())
        if isinstance(query, exp.Select):
            return self._key(key, scope, relation)
        # After a set operation or a subquery only its output can be named.
        if isinstance(key, exp.Column) and (term := relation.column(self._names.of(key.this))):
            return term
        return Term(key.sql(dialect=self._dialect), relation.everything())

    # UNION, INTERSECT, EXCEPT

    def _set_operation(
        self,
        query: exp.SetOperation,
        ctes: Mapping[str, Callable[[], Relation]],
        outer: Scope | None,
    ) -> Relation:
        refuse(query, _SET, "a set operation")
        left = self.relation(query.this, ctes, outer)
        right = self.relation(query.expression, ctes, outer)
        distinct = bool(query.args.get("distinct"))
        by_name = bool(query.args.get("by_name"))
        kind = f"{type(query).__name__} {distinct} {by_name}"
        pairs = _paired(left, right, by_name)
        if pairs is None:
            whole = Term(f"{kind} by unknown columns", (*left.everything(), *right.everything()))
            columns = tuple((n, Term(f"column {n}", (whole,))) for n, _ in left.columns)
            combined = Relation(whole, columns, whole, positions=False)
        else:
            columns = tuple((name, Term(kind, terms)) for name, terms in pairs)
            rows = Term(kind, (left.rows, right.rows))
            if distinct or not isinstance(query, exp.Union):
                rows = Term("distinct", (rows, *(term for _, term in columns)))
            combined = Relation(rows, columns)
        return self._ordered(query, combined, Scope(ctes=ctes, outer=outer))


def _unsorted(query: exp.Query) -> tuple[exp.Query, exp.Expr | None]:
    """A query and its ORDER BY apart, where that only sorts."""
    order = query.args.get("order")
    distinct = query.args.get("distinct")
    decides = any(query.args.get(key) for key in ("limit", "offset", "sample"))
    on = isinstance(distinct, exp.Distinct) and distinct.args.get("on")
    if order is None or decides or on or order.find(exp.AggFunc, exp.Anonymous):
        return query, None
    query.set("order", None)
    return query, order


def _paired(
    left: Relation, right: Relation, by_name: bool
) -> list[tuple[str, tuple[Term, ...]]] | None:
    """The columns a set operation puts on top of each other; None if that is not known."""
    if left.rest is not None or right.rest is not None:
        return None
    if not by_name:
        if len(left.columns) != len(right.columns) or not (left.positions and right.positions):
            return None
        pairs = zip(left.columns, right.columns, strict=True)
        return [(name, (term, other)) for (name, term), (_, other) in pairs]
    names = list(dict.fromkeys(name for name, _ in (*left.columns, *right.columns)))
    if len(left.columns) + len(right.columns) != sum(
        (left.column(n) is not None) + (right.column(n) is not None) for n in names
    ):
        return None
    missing = Term("missing")
    return [(n, (left.column(n) or missing, right.column(n) or missing)) for n in names]


def _is_number(key: exp.Expr) -> bool:
    return isinstance(key, exp.Literal) and not key.args["is_string"]


def _has_position(sets: exp.Expr) -> bool:
    return any(_is_number(literal) for literal in sets.find_all(exp.Literal))


def _reads(cte: exp.CTE, name: str) -> bool:
    return any(
        not table.args.get("db") and table.name.lower() == name.lower()
        for table in cte.this.find_all(exp.Table)
    )


def _once(make: Callable[[], T]) -> Callable[[], T]:
    made: list[T] = []

    def get() -> T:
        if not made:
            made.append(make())
        return made[0]

    return get
