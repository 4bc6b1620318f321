"""What is known of a query's rows: whether each is made of the rows of one batch, and which."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache, partial

from sqlglot import exp

from dbt_orchestration.changes.columns.names import Opaque
from dbt_orchestration.changes.columns.scope import refuse
from dbt_orchestration.changes.merging.expressions import (
    is_many,
    refuse_unknown,
    star_of,
    yields_rows,
)
from dbt_orchestration.changes.merging.joins import join
from dbt_orchestration.changes.merging.listed import listed
from dbt_orchestration.changes.merging.scopes import Batches, Column, Relation, Scope, Source

Tables = Mapping[tuple[str, ...], Relation]
Ctes = Mapping[str, Callable[[], Relation]]

_SELECT = frozenset(
    {
        *("with_", "expressions", "distinct", "from_", "joins", "where", "group", "having"),
        *("qualify", "windows", "order", "limit"),
    }
)
_SET = frozenset({"with_", "this", "expression", "distinct", "by_name", "order"})
_AROUND_FUNCTION = (exp.Filter, exp.IgnoreNulls, exp.RespectNulls, exp.WithinGroup)
# The name dbt gives an ephemeral model in the SQL of those that read it.
_EPHEMERAL = "__dbt__cte__"


class Queries:
    """Reads queries from the inside to the outside; ``tables`` are those they may read."""

    def __init__(self, batches: Batches, tables: Tables) -> None:
        self._batches = batches
        self._names = batches.names
        self._tables = tables

    def relation(self, query: exp.Expr, ctes: Ctes) -> Relation:
        """Raises:
        Opaque: rows of several batches may come together, or something is not understood.
        """
        ctes = self._with(query, ctes)
        if isinstance(query, exp.Select):
            return self._select(query, ctes)
        if isinstance(query, exp.SetOperation):
            return self._set_operation(query, ctes)
        if isinstance(query, exp.Subquery):
            refuse(query, frozenset({"with_", "this", "alias", "order"}), "a subquery")
            return self.relation(query.this, ctes)
        raise Opaque(f"a {type(query).__name__.lower()} as a query")

    # WITH

    def _with(self, query: exp.Expr, ctes: Ctes) -> Ctes:
        clause = query.args.get("with_")
        if clause is None:
            return ctes
        refuse(clause, frozenset({"expressions", "recursive"}), "WITH")
        visible = dict(ctes)
        ephemeral: dict[str, Callable[[], Relation]] = {}
        for cte in clause.expressions:
            refuse(cte, frozenset({"this", "alias", "materialized"}), "WITH")
            name = self._names.of(cte.args["alias"].this)
            if any(self._path(table) == (name,) for table in cte.this.find_all(exp.Table)):
                raise Opaque("a recursive query")
            if name.lower().startswith(_EPHEMERAL):
                ephemeral[name] = cache(partial(self._whole, cte, dict(ephemeral)))
                visible[name] = cache(partial(self._ephemeral, name, ephemeral[name]))
            else:
                visible[name] = cache(partial(self._cte, cte, dict(visible)))
        return visible

    def _cte(self, cte: exp.CTE, ctes: Ctes) -> Relation:
        return self._renamed(self.relation(cte.this, ctes), cte.args["alias"])

    def _whole(self, cte: exp.CTE, ctes: Ctes) -> Relation:
        """An ephemeral model: inside it dbt filters nothing."""
        whole = dict.fromkeys(self._tables, Relation(""))
        return Queries(self._batches, whole).relation(cte.this, ctes)

    def _ephemeral(self, name: str, whole: Callable[[], Relation]) -> Relation:
        filtered = self._table((name,))
        return filtered if whole() and filtered.local else whole()

    def _renamed(self, relation: Relation, alias: exp.TableAlias | None) -> Relation:
        names = [self._names.of(column) for column in (alias.columns if alias else ())]
        if not names:
            return relation
        if not relation.local:
            return Relation("", tuple(Column(name, moment=False) for name in names))
        if not relation.closed or len(names) != len(relation.columns):
            raise Opaque("new names for columns that are not known")
        pairs = zip(names, relation.columns, strict=True)
        return Relation(relation.local, tuple(Column(n, c.moment) for n, c in pairs), closed=True)

    # SELECT

    def _select(self, query: exp.Select, ctes: Ctes) -> Relation:
        refuse(query, _SELECT, "a query")
        scope = self._scope(query, ctes)
        nodes = list(self._understood(_clauses(query), ctes))
        if not scope.local:
            if query.args.get("limit") and not query.args.get("order"):
                raise Opaque("LIMIT without ORDER BY")
            return listed(query, scope)
        if query.args.get("limit"):
            raise Opaque("LIMIT")
        size = self._batches.size
        definitions = {self._names.of(w.this): w for w in query.args.get("windows") or ()}
        windows = [n for n in nodes if isinstance(n, exp.Window) and n.args.get("over")]
        for window in windows:
            if not any(map(scope.determines, self._partition(window, definitions))):
                raise Opaque(scope.doubt(f"a window function that is not partitioned by {size}"))
        if group := query.args.get("group"):
            if not self._groups_by_batch(query, group, scope):
                raise Opaque(scope.doubt(f"groups by something else than its {size}"))
            scope.grouped = True
        elif query.args.get("having") or _aggregates(nodes, windows):
            raise Opaque("an aggregate without GROUP BY")
        relation = listed(query, scope)
        if distinct := query.args.get("distinct"):
            on = distinct.args.get("on")
            keys = (on.expressions or [on]) if on else []
            if not any(map(scope.determines, keys)) and (on or not relation.moments):
                raise Opaque(scope.doubt(f"DISTINCT without its {size}"))
        return relation

    def _understood(self, roots: Iterable[exp.Expr], ctes: Ctes) -> Iterator[exp.Expr]:
        """The nodes of expressions, but not those of the queries inside."""
        for root in roots:
            for node in root.walk(prune=lambda n: isinstance(n, exp.Query)):
                if not isinstance(node, exp.Query):
                    refuse_unknown(node, self._names)
                elif table := self.relation(node, ctes).local:
                    raise Opaque(f"a subquery that reads {table}")
                yield node

    def _partition(
        self, window: exp.Window, definitions: Mapping[str, exp.Window]
    ) -> list[exp.Expr]:
        keys = list(window.args.get("partition_by") or ())
        named = window.args.get("alias")
        definition = definitions.get(self._names.of(named)) if named is not None else None
        return keys + self._partition(definition, definitions) if definition else keys

    def _groups_by_batch(self, query: exp.Select, group: exp.Group, scope: Scope) -> bool:
        refuse(group, frozenset({"expressions", "all"}), "GROUP BY")
        if group.find(exp.Cube, exp.GroupingSets, exp.Rollup):
            raise Opaque("grouping sets")
        shown = listed(query, scope)
        if group.args.get("all"):
            return shown.moments
        # A position counts the columns of a star.
        many = next((i for i, item in enumerate(query.expressions) if is_many(item)), None)
        known = shown.columns[: None if shown.closed else many]
        for key in group.expressions:
            if not isinstance(key, exp.Literal):
                found = scope.determines_group(key)
            else:
                place = int(key.name) if key.name.isdigit() and not key.is_string else 0
                found = 0 < place <= len(known) and known[place - 1].moment
            if found:
                return True
        return False

    # FROM

    def _scope(self, query: exp.Select, ctes: Ctes) -> Scope:
        clause, joins = query.args.get("from_"), query.args.get("joins") or ()
        if joins and clause is None:
            raise Opaque("a join without FROM")
        sources = [self._source(clause.this, ctes, None)] if clause else []
        sources += [self._source(item.this, ctes, item) for item in joins]
        named = (item for item in query.expressions if isinstance(item, exp.Alias))
        aliases = {self._names.of(item.args["alias"]): item.this for item in named}
        scope = Scope(self._batches, sources, aliases)
        where = query.args.get("where")
        join(scope, where.this if where else None)
        return scope

    def _source(self, item: exp.Expr, ctes: Ctes, how: exp.Join | None) -> Source:
        if item.args.get("pivots"):
            raise Opaque("a pivot")
        alias = item.args.get("alias")
        name = self._names.of(alias.this) if alias and alias.this else ""
        path: tuple[str, ...] = ()
        if isinstance(item, exp.Table) and isinstance(item.this, exp.Identifier):
            refuse(item, frozenset({"this", "db", "catalog", "alias"}), "a table")
            own = self._path(item)
            name, path = (name, ()) if name else (own[-1], own)
            is_cte = len(own) == 1 and own[0] in ctes
            relation = ctes[own[0]]() if is_cte else self._table(own)
        elif isinstance(item, exp.Subquery):
            relation = self.relation(item, ctes)
        elif isinstance(item, exp.Lateral) and isinstance(item.this, exp.Subquery):
            refuse(item, frozenset({"this", "alias"}), "LATERAL")
            relation = self.relation(item.this, ctes)
        else:
            relation = self._function(item, ctes)
        return Source(name, path, self._renamed(relation, alias), how)

    def _table(self, path: tuple[str, ...]) -> Relation:
        if path not in self._tables:
            raise Opaque(f"reads {'.'.join(path)}, which is not ref() or source()")
        return self._tables[path]

    def _path(self, table: exp.Table) -> tuple[str, ...]:
        parts = (table.args.get(key) for key in ("catalog", "db", "this"))
        return tuple(self._names.of(part) for part in parts if part)

    def _function(self, item: exp.Expr, ctes: Ctes) -> Relation:
        """Rows made of the arguments: of constants, or of columns of one row of a neighbour."""
        function = item
        if isinstance(item, (exp.Lateral, exp.Table, exp.TableFromRows)):
            refuse(item, frozenset({"this", "alias", "ordinality"}), "a table function")
            function = item.this
        if not yields_rows(function):
            raise Opaque(f"reads {function.sql(dialect=self._names.dialect)}")
        parts = function.iter_expressions()
        for _ in self._understood((p for p in parts if not isinstance(p, exp.TableAlias)), ctes):
            pass
        return Relation("")

    # UNION, INTERSECT, EXCEPT

    def _set_operation(self, query: exp.SetOperation, ctes: Ctes) -> Relation:
        refuse(query, _SET, "a set operation")
        left, right = self.relation(query.this, ctes), self.relation(query.expression, ctes)
        kind = type(query).__name__.upper()
        if bool(left.local) != bool(right.local):
            raise Opaque(f"{kind} of {left.local or right.local} and rows that every batch has")
        by_name = bool(query.args.get("by_name"))
        closed = left.closed and right.closed and not by_name
        others = [by_name and c.certain and bool(right.find(c.name)) for c in left.columns]
        if closed and len(left.columns) == len(right.columns):
            others = [column.moment for column in right.columns]
        # Without UTC, types that differ are made one by the clock of the session.
        columns = tuple(
            Column(c.name, c.moment and other and self._batches.utc, c.certain)
            for c, other in zip(left.columns, others, strict=True)
        )
        relation = Relation(left.local, columns, closed)
        keeps_all = isinstance(query, exp.Union) and not query.args.get("distinct")
        if left.local and not keeps_all and not relation.moments:
            raise Opaque(f"{kind} without its {self._batches.size} in the same column")
        return relation


def _clauses(query: exp.Select) -> Iterator[exp.Expr]:
    """The expressions of a SELECT, without the tables and queries in FROM."""
    for item in query.expressions:
        star = star_of(item)
        yield from [item] if star is None else (p.this for p in star.args.get("replace") or ())
    for item in query.args.get("joins") or ():
        yield from (item.args[key] for key in ("on", "match_condition") if item.args.get(key))
    for key in ("distinct", "where", "group", "having", "qualify", "order", "limit"):
        if clause := query.args.get(key):
            yield clause
    yield from query.args.get("windows") or ()


def _aggregates(nodes: Iterable[exp.Expr], windows: Iterable[exp.Window]) -> bool:
    windowed: set[int] = set()
    for window in windows:
        function = window.this
        while isinstance(function, _AROUND_FUNCTION):
            function = function.this
        windowed.add(id(function))
    return any(isinstance(node, exp.AggFunc) and id(node) not in windowed for node in nodes)
