"""The columns of a SELECT list: which are known, and which are moments of their row's batch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from sqlglot import exp

from dbt_orchestration.changes.columns.names import Opaque
from dbt_orchestration.changes.columns.scope import refuse
from dbt_orchestration.changes.merging.expressions import is_many, star_of
from dbt_orchestration.changes.merging.scopes import Column, Relation, Scope


def listed(query: exp.Select, scope: Scope) -> Relation:
    """What the query gives, if its sources are those of ``scope``.

    Raises:
        Opaque: its list is not understood.
    """
    columns: list[Column] = []
    taken: set[str] = set()
    closed = certain = True
    for item in query.expressions:
        for column in _item(item, scope):
            if column is None:
                closed = False
            else:
                known = column.certain and certain and column.name not in taken
                columns.append(Column(column.name, column.moment, known))
            if scope.batches.duckdb and (column is None or not columns[-1].certain):
                # It may be called like one that follows.
                certain = False
            taken.add(column.name if column else "")
    return Relation(scope.local, tuple(columns), closed)


def _item(item: exp.Expr, scope: Scope) -> Iterable[Column | None]:
    names = scope.batches.names
    if star := star_of(item):
        table = item.args.get("table")
        return _star(star, names.of(table) if table else None, scope)
    if is_many(item):
        return [None]
    named = item.unnest()
    if isinstance(named, exp.Alias):
        return [Column(names.of(named.args["alias"]), scope.is_moment(named.this))]
    moment = scope.is_moment(named)
    if isinstance(named, exp.Column):
        return [Column(names.of(named.this), moment)]
    return [Column("", moment, certain=False)]


def _star(star: exp.Star, table: str | None, scope: Scope) -> Iterator[Column | None]:
    refuse(star, frozenset({"except_", "replace", "rename"}), "a star")
    renamed = star.args.get("rename") or ()
    dropped = star.args.get("except_") or ()
    if any(column.args.get("table") for column in (*dropped, *(p.this for p in renamed))):
        raise Opaque("a star with a table's name in it")
    read = scope.batches.names.of
    without = {read(column) for column in dropped}
    names = {read(p.this): read(p.args["alias"]) for p in renamed}
    replaced = {
        read(pair.args["alias"]): scope.is_moment(pair.this)
        for pair in star.args.get("replace") or ()
    }
    columns = list(scope.star(table))
    # Where not all columns are known, another may be the first that has a new name.
    unclear = {*names, *names.values()} if None in columns else set()
    for column in columns:
        if column is None:
            yield None
        elif column.name not in without:
            name = names.get(column.name, column.name)
            certain = column.certain and column.name not in unclear
            yield Column(name, replaced.get(column.name, column.moment), certain)
