"""Joins of which each row is made of rows of one batch."""

from __future__ import annotations

from collections.abc import Iterator

from sqlglot import exp

from dbt_orchestration.changes.columns.names import Opaque
from dbt_orchestration.changes.columns.scope import refuse
from dbt_orchestration.changes.merging.scopes import Places, Scope, Source

_JOIN = frozenset({"this", "on", "side", "kind", "using", "method", "match_condition"})


def join(scope: Scope, where: exp.Expr | None) -> None:
    """Join the sources of ``scope``, from the left to the right.

    Raises:
        Opaque: rows of several batches may meet, or rows are kept that have no match in a batch.
    """
    scope.comma = any(
        source.join is not None and not any(source.join.args.get(k) for k in _JOIN - {"this"})
        for source in scope.sources
    )
    for place, source in enumerate(scope.sources):
        if source.join is not None:
            _refuse_odd(scope, source, source.join)
            _join(scope, place, source, source.join, where)
        elif source.relation.local:
            scope.local, scope.sides = source.relation.local, [frozenset({place})]


def _refuse_odd(scope: Scope, source: Source, join: exp.Join) -> None:
    refuse(join, _JOIN, "a join")
    outer = join.side in ("RIGHT", "FULL")
    # Snowflake has no such joins, and reads the words as aliases.
    odd = source.hidden and (outer or not scope.batches.duckdb)
    if odd or not (source.hidden or join.kind in ("", "INNER", "OUTER", "CROSS")):
        raise Opaque(f"a {join.kind.lower()} join")
    if join.method not in ("", "ASOF"):
        raise Opaque(f"a {join.method.lower()} join")
    if scope.comma and (outer or join.args.get("using")):
        raise Opaque("a comma in FROM next to USING or an outer join")


def _join(scope: Scope, place: int, source: Source, join: exp.Join, where: exp.Expr | None) -> None:
    using = [_names_using(scope, name, place) for name in join.args.get("using") or ()]
    right, own = source.relation.local, frozenset({place})
    if right and scope.local:
        conditions: list[tuple[exp.Expr, int | None]]
        conditions = [(node, place) for node in _conjuncts(join.args.get("on"))]
        if not (join.side or source.hidden or any(map(_drops_left, scope.sources))):
            # As good as in ON: whatever is joined to a row that WHERE drops goes with it.
            conditions += [(node, None) for node in _conjuncts(where)]
        linked = scope.batches.utc and (
            any(left and is_moment for _, left, is_moment in using)
            or any(_links(scope, node, place, within) for node, within in conditions)
        )
        if join.method or not linked:
            why = f"joins {scope.local} and {right} without their {scope.batches.size}"
            raise Opaque(scope.doubt(why))
        if join.side == "RIGHT":
            scope.sides = [own]
        elif join.side == "FULL":
            scope.sides.append(own)
        elif not (join.side or source.hidden):
            scope.sides = [side | own for side in scope.sides]
    elif right:
        if join.side in ("LEFT", "FULL") or source.hidden or join.method:
            raise Opaque(f"a join that keeps rows without a match in {right}")
        scope.local, scope.sides = right, [own]
    elif scope.local and join.side in ("RIGHT", "FULL"):
        raise Opaque(f"a join that keeps rows without a match in {scope.local}")
    for name, left, is_moment in () if source.hidden else using:
        merged = _merged(join.side, left, own if is_moment else None, duckdb=scope.batches.duckdb)
        scope.merged[name] = merged


def _drops_left(source: Source) -> bool:
    return source.join is not None and source.join.side in ("RIGHT", "FULL")


def _names_using(scope: Scope, identifier: exp.Expr, place: int) -> tuple[str, Places | None, bool]:
    """A name in USING, what it is to the left, and whether it is a moment to the right."""
    name = scope.batches.names.of(identifier)
    before = [i for i in range(place) if not scope.sources[i].hidden]
    left = scope.merged.get(name)
    # Engines may take the first of several tables that have it.
    if name not in scope.merged and (
        len(before) == 1 or all(scope.sources[i].relation.closed for i in before)
    ):
        having = scope.having(name, before)
        known = len(having) == 1 and scope.sources[having[0]].relation.find(name)
        left = frozenset(having) if known else None
    return name, left, bool(scope.sources[place].relation.find(name))


def _merged(side: str, left: Places | None, right: Places | None, *, duckdb: bool) -> Places | None:
    """What a name in USING stands for after the join."""
    if side == "LEFT" or (duckdb and not side):
        both = right if right is not None and not side else frozenset()
        return left | both if left is not None else None
    if duckdb and side == "RIGHT":
        return right
    # Of an outer join, Snowflake's manual does not say which.
    if left is None or right is None or (side and not duckdb):
        return None
    return left | right


def _links(scope: Scope, node: exp.Expr, place: int, within: int | None) -> bool:
    """Whether ``node`` holds only of rows of one batch: a moment of the source equals another."""
    if not isinstance(node, (exp.EQ, exp.NullSafeEQ)):
        return False
    here, there = scope.moment(node.this, within), scope.moment(node.expression, within)
    if here != frozenset({place}):
        here, there = there, here
    return here == frozenset({place}) and bool(there) and max(there or ()) < place


def _conjuncts(node: exp.Expr | None) -> Iterator[exp.Expr]:
    if isinstance(node, exp.Paren):
        yield from _conjuncts(node.this)
    elif isinstance(node, exp.And):
        yield from _conjuncts(node.this)
        yield from _conjuncts(node.expression)
    elif node is not None:
        yield node
