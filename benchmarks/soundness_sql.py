"""Edits of a model's SQL as a tree, with Jinja expressions held by placeholders meanwhile."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from typing import TypeVar

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from benchmarks.soundness_edits import body_start, edit, some_sql
from benchmarks.soundness_world import State

TreeChange = Callable[[random.Random, exp.Query], str | None]
_EXPRESSION = re.compile(r"\{\{.*?\}\}", re.DOTALL)
_HELD = re.compile(r'"?__jinja_(\d+)__"?')
E = TypeVar("E", bound=exp.Expr)


def on_tree(name: str, weight: int = 2) -> Callable[[TreeChange], TreeChange]:
    """Register a change of a query's tree as an edit of some model."""

    def register(change: TreeChange) -> TreeChange:
        def of_some_model(rng: random.Random, state: State) -> str | None:
            path = some_sql(rng, state)
            text = state.files[path]
            start = body_start(text)
            end = text.find("{%", start)
            body, suffix = (text[start:], "") if end < 0 else (text[start:end], text[end:])
            held: list[str] = []

            def hold(match: re.Match[str]) -> str:
                held.append(match.group())
                return f"__jinja_{len(held) - 1}__"

            try:
                tree = sqlglot.parse_one(_EXPRESSION.sub(hold, body), read="duckdb")
            except SqlglotError:
                return None
            if not isinstance(tree, exp.Query) or not (did := change(rng, tree)):
                return None
            sql = tree.sql(dialect="duckdb", pretty=rng.random() < 0.5)
            sql = _HELD.sub(lambda match: held[int(match[1])], sql)
            state.files[path] = f"{text[:start]}{sql}\n{suffix}"
            return f"{path}: {did}"

        edit(f"sql: {name}", weight)(of_some_model)
        return change

    return register


def pick(rng: random.Random, tree: exp.Expr, *kinds: type[E]) -> E | None:
    """Some node of one of these kinds."""
    found = list(tree.find_all(*kinds))
    return rng.choice(found) if found else None


def some_select(rng: random.Random, tree: exp.Expr) -> exp.Select:
    """Some SELECT of the query; there is always one."""
    found = pick(rng, tree, exp.Select)
    assert found is not None
    return found


def own_columns(select: exp.Select) -> list[exp.Column]:
    """The columns that a SELECT reads, those in its subqueries left out."""
    return [
        column
        for column in select.find_all(exp.Column)
        if column.parent_select is select
        and not isinstance(column.this, exp.Star)
        and not _HELD.match(column.name)
    ]


def condition(rng: random.Random, select: exp.Select) -> exp.Expr | None:
    """Some condition on columns of the SELECT."""
    columns = own_columns(select)
    if not columns:
        return None
    column = rng.choice(columns).sql(dialect="duckdb")
    other = rng.choice(columns).sql(dialect="duckdb")
    text = rng.choice(
        [
            f"{column} is not null",
            f"{column} is null",
            f"{column}::varchar <> '5'",
            f"{column}::varchar > 'b' or {column} is null",
            f"{column} = {other}",
            f"coalesce({column}::varchar, 'x') <> 'paid'",
            "true",
            "1 = 1",
        ]
    )
    return sqlglot.condition(text, dialect="duckdb")


@on_tree("printed anew", 2)
def _printed(rng: random.Random, tree: exp.Query) -> str | None:  # noqa: ARG001
    return "printed by sqlglot"


@on_tree("operands swapped", 4)
def _swapped(rng: random.Random, tree: exp.Query) -> str | None:
    node = pick(rng, tree, exp.EQ, exp.NEQ, exp.And, exp.Or, exp.Add, exp.Mul, exp.Sub, exp.DPipe)
    if node is None:
        return None
    left, right = node.this, node.expression
    node.set("this", right)
    node.set("expression", left)
    return f"{type(node).__name__} swapped"


@on_tree("comparison turned", 3)
def _turned(rng: random.Random, tree: exp.Query) -> str | None:
    node = pick(rng, tree, exp.GT, exp.LT, exp.GTE, exp.LTE)
    if node is None:
        return None
    turned: dict[type[exp.Expr], type[exp.Expr]]
    turned = {exp.GT: exp.LT, exp.LT: exp.GT, exp.GTE: exp.LTE, exp.LTE: exp.GTE}
    node.replace(turned[type(node)](this=node.expression, expression=node.this))
    return f"{type(node).__name__} turned"


@on_tree("parentheses", 3)
def _parentheses(rng: random.Random, tree: exp.Query) -> str | None:
    node = pick(rng, tree, exp.Column, exp.Binary, exp.Case, exp.Literal)
    allowed = (exp.Binary, exp.Alias, exp.Select, exp.Where, exp.Case, exp.Paren, exp.Cast)
    if node is None or not isinstance(node.parent, allowed) or node.find_ancestor(exp.Interval):
        return None
    node.replace(exp.Paren(this=node.copy()))
    return f"parentheses around {node.sql()[:40]}"


@on_tree("and or or", 2)
def _connective(rng: random.Random, tree: exp.Query) -> str | None:
    node = pick(rng, tree, exp.And, exp.Or)
    if node is None:
        return None
    other = exp.Or if isinstance(node, exp.And) else exp.And
    node.replace(other(this=node.this, expression=node.expression))
    return f"{type(node).__name__} became {other.__name__}"


@on_tree("column for another", 4)
def _column(rng: random.Random, tree: exp.Query) -> str | None:
    select = some_select(rng, tree)
    columns = own_columns(select)
    if len(columns) < 2:
        return None
    old, new = rng.sample(columns, 2)
    if old.sql() == new.sql():
        return None
    old.replace(new.copy())
    return f"{old.sql()} → {new.sql()}"


@on_tree("qualifier", 3)
def _qualifier(rng: random.Random, tree: exp.Query) -> str | None:
    select = some_select(rng, tree)
    columns = own_columns(select)
    names = sorted({c.table for c in columns if c.table})
    if not columns:
        return None
    column = rng.choice(columns)
    new = rng.choice(["", *names])
    if new == column.table:
        return None
    column.set("table", exp.to_identifier(new) if new else None)
    return f"{column.name} of {new or 'any'}"


@on_tree("join kind", 5)
def _join(rng: random.Random, tree: exp.Query) -> str | None:
    join = pick(rng, tree, exp.Join)
    if join is None:
        return None
    before = join.sql()
    side, kind = rng.choice(
        [("LEFT", ""), ("RIGHT", ""), ("FULL", ""), ("", "INNER"), ("", "SEMI"), ("", "ANTI")]
    )
    join.set("side", side or None)
    join.set("kind", kind or None)
    return f"{before[:50]} → {join.sql()[:50]}" if join.sql() != before else None


@on_tree("join condition in WHERE", 3)
def _on_to_where(rng: random.Random, tree: exp.Query) -> str | None:
    join = pick(rng, tree, exp.Join)
    select = join.parent_select if join else None
    if join is None or not isinstance(select, exp.Select) or not join.args.get("on"):
        return None
    on = join.args["on"]
    part = rng.choice(list(on.flatten())) if isinstance(on, exp.And) else on
    rest = [p for p in on.flatten() if p is not part] if isinstance(on, exp.And) else []
    join.set("on", exp.and_(*[p.copy() for p in rest]) if rest else sqlglot.condition("true"))
    select.where(part.copy(), copy=False)
    return f"{part.sql()} from ON to WHERE"


@on_tree("joins in another order", 4)
def _join_order(rng: random.Random, tree: exp.Query) -> str | None:
    select = some_select(rng, tree)
    joins = select.args.get("joins") or []
    source = select.args.get("from_")
    if not joins or source is None:
        return None
    if len(joins) > 1 and rng.random() < 0.5:
        first, second = rng.sample(range(len(joins)), 2)
        joins[first], joins[second] = joins[second], joins[first]
        return f"joins {first} and {second} swapped"
    here, there = source.this, joins[0].this
    source.set("this", there.copy())
    joins[0].set("this", here.copy())
    return f"{here.sql()[:30]} and {there.sql()[:30]} swapped"


@on_tree("USING or ON", 2)
def _using(rng: random.Random, tree: exp.Query) -> str | None:
    join = pick(rng, tree, exp.Join)
    if join is None:
        return None
    if join.args.get("using"):
        if rng.random() < 0.5:
            join.set("using", None)
            join.set("method", "NATURAL")
            return "NATURAL instead of USING"
        join.set("using", join.args["using"][:1])
        return "USING the first column only"
    on = join.args.get("on")
    if not isinstance(on, exp.EQ) or on.this.name != on.expression.name:
        return None
    join.set("on", None)
    join.set("using", [exp.to_identifier(on.this.name)])
    return f"USING {on.this.name}"


@on_tree("condition added", 5)
def _add_condition(rng: random.Random, tree: exp.Query) -> str | None:
    select = some_select(rng, tree)
    new = condition(rng, select)
    if new is None:
        return None
    clause = rng.choice(["where", "where", "having", "qualify"])
    if clause == "qualify":
        select.set("qualify", exp.Qualify(this=new))
        return f"QUALIFY {new.sql()}"
    (select.having if clause == "having" else select.where)(new, copy=False)
    return f"{clause.upper()} {new.sql()}"


@on_tree("condition removed", 3)
def _remove_condition(rng: random.Random, tree: exp.Query) -> str | None:
    clause = pick(rng, tree, exp.Where, exp.Having, exp.Qualify)
    if clause is None or clause.parent is None:
        return None
    parts = list(clause.this.flatten()) if isinstance(clause.this, exp.And) else []
    if parts and rng.random() < 0.7:
        gone = rng.choice(parts)
        clause.set("this", exp.and_(*[p.copy() for p in parts if p is not gone]))
        return f"without {gone.sql()}"
    clause.pop()
    return f"without {clause.sql()[:50]}"


@on_tree("condition negated", 2)
def _negate(rng: random.Random, tree: exp.Query) -> str | None:
    clause = pick(rng, tree, exp.Where, exp.Having, exp.Qualify)
    if clause is None:
        return None
    times = rng.choice([1, 2])
    for _ in range(times):
        clause.set("this", exp.Not(this=exp.Paren(this=clause.this.copy())))
    return f"negated {times} times"


@on_tree("set operation", 4)
def _set_operation(rng: random.Random, tree: exp.Query) -> str | None:
    node = pick(rng, tree, exp.Union, exp.Intersect, exp.Except)
    if node is None:
        return None
    if rng.random() < 0.4:
        left, right = node.left, node.right
        node.set("this", right.copy())
        node.set("expression", left.copy())
        return "branches swapped"
    kind = rng.choice([exp.Union, exp.Union, exp.Intersect, exp.Except])
    distinct = rng.choice([True, False])
    args = {k: v for k, v in node.args.items() if k not in ("distinct",)}
    new = kind(**args, distinct=distinct)
    if type(new) is type(node) and distinct == bool(node.args.get("distinct")):
        return None
    if node is tree:
        return None
    node.replace(new)
    return f"{type(node).__name__} became {kind.__name__} {'distinct' if distinct else 'all'}"


@on_tree("union in place of the query", 2)
def _union(rng: random.Random, tree: exp.Query) -> str | None:
    select = pick(rng, tree, exp.CTE)
    inner = select.this if select else None
    if not isinstance(inner, exp.Select):
        return None
    second = inner.copy()
    if (new := condition(rng, second)) is not None:
        second.where(new, copy=False)
    inner.replace(exp.union(inner.copy(), second, distinct=rng.choice([True, False])))
    return "a CTE united with itself"
