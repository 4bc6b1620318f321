"""Edits of SELECT lists, groups, windows, types and CTEs, as trees."""

from __future__ import annotations

import random

import sqlglot
from sqlglot import exp

from benchmarks.soundness_sql import on_tree, own_columns, pick, some_select

# Names that mean something else somewhere downstream or in a subquery.
_NAMES = (
    *("added", "euros", "vat", "quantity_or_one", "place", "segment", "score", "name", "status"),
    *("region", "country", "value", "month", "n", "kind", "doubled", "note", "tag", "cents", "o"),
)


def _parsed(sql: str) -> exp.Expr:
    return sqlglot.parse_one(sql, read="duckdb")


@on_tree("column added", 5)
def _add(rng: random.Random, tree: exp.Query) -> str | None:
    select = some_select(rng, tree)
    columns = own_columns(select)
    if not columns or isinstance(select.parent, (exp.SetOperation, exp.In, exp.Exists)):
        return None
    column = rng.choice(columns).sql(dialect="duckdb")
    value = rng.choice(
        [
            column,
            f"{column} is null",
            "1",
            "null",
            f"coalesce({column}::varchar, 'none')",
            f"count(*) over (partition by {column})",
            f"max({column})",
            "unnest([1, 2])",
            f"case when {column} is null then 1 end",
        ]
    )
    text = f"{value} as {rng.choice(_NAMES)}"
    place = rng.randint(0, len(select.expressions))
    select.expressions.insert(place, _parsed(f"select {text}").expressions[0])
    return f"{text} at {place}"


@on_tree("column removed", 3)
def _remove(rng: random.Random, tree: exp.Query) -> str | None:
    select = some_select(rng, tree)
    if len(select.expressions) < 2:
        return None
    gone = select.expressions.pop(rng.randrange(len(select.expressions)))
    return f"without {gone.sql()[:50]}"


@on_tree("column renamed", 4)
def _rename(rng: random.Random, tree: exp.Query) -> str | None:
    select = some_select(rng, tree)
    if not select.expressions:
        return None
    place = rng.randrange(len(select.expressions))
    item = select.expressions[place]
    if isinstance(item, exp.Star):
        return None
    # Often a name that means something else already.
    name = rng.choice(["renamed", rng.choice(_NAMES), *(c.name for c in own_columns(select))])
    value = item.this if isinstance(item, exp.Alias) else item
    select.expressions[place] = exp.alias_(value.copy(), name)
    return f"{value.sql()[:40]} as {name}"


@on_tree("columns in another order", 3)
def _reorder(rng: random.Random, tree: exp.Query) -> str | None:
    select = some_select(rng, tree)
    if len(select.expressions) < 2:
        return None
    first, second = rng.sample(range(len(select.expressions)), 2)
    items = select.expressions
    items[first], items[second] = items[second], items[first]
    return f"columns {first} and {second} swapped"


@on_tree("column computed otherwise", 4)
def _compute(rng: random.Random, tree: exp.Query) -> str | None:
    select = some_select(rng, tree)
    places = [i for i, e in enumerate(select.expressions) if e.find(exp.Column)]
    if not places:
        return None
    place = rng.choice(places)
    item = select.expressions[place]
    if isinstance(item, exp.Column) and isinstance(item.this, exp.Star):
        return None
    value = item.this if isinstance(item, exp.Alias) else item
    sql = value.sql(dialect="duckdb")
    new = rng.choice(
        [
            f"coalesce({sql}, null)",
            f"({sql})",
            f"nullif({sql}, {sql})",
            f"cast({sql} as varchar)",
            f"case when true then {sql} end",
            f"{sql}::varchar || ''",
            f"max({sql}) over ()",
            f"try_cast({sql} as integer)",
        ]
    )
    select.expressions[place] = exp.alias_(
        _parsed(f"select {new}").expressions[0], item.alias_or_name
    )
    return f"{sql[:40]} → {new[:60]}"


@on_tree("distinct", 3)
def _distinct(rng: random.Random, tree: exp.Query) -> str | None:
    select = some_select(rng, tree)
    if select.args.get("distinct"):
        select.set("distinct", None)
        return "without DISTINCT"
    select.distinct(copy=False)
    return "DISTINCT"


@on_tree("group", 5)
def _group(rng: random.Random, tree: exp.Query) -> str | None:
    group = pick(rng, tree, exp.Group)
    select = group.parent_select if group else None
    if group is None or not isinstance(select, exp.Select):
        return None
    how = rng.choice(["all", "fewer", "more", "places", "order", "max"])
    keys = group.expressions
    if how == "all":
        group.replace(exp.Group(all=True))
    elif how == "fewer" and len(keys) > 1:
        keys.pop(rng.randrange(len(keys)))
    elif how == "more" and (columns := own_columns(select)):
        group.append("expressions", rng.choice(columns).copy())
    elif how == "order" and len(keys) > 1:
        keys.reverse()
    elif how == "places" and keys:
        names = [e.alias_or_name for e in select.expressions]
        for i, key in enumerate(keys):
            if key.name in names:
                keys[i] = exp.Literal.number(names.index(key.name) + 1)
        group.set("expressions", keys)
    else:
        return None
    return f"GROUP BY: {how}"


@on_tree("aggregate", 4)
def _aggregate(rng: random.Random, tree: exp.Query) -> str | None:
    node = pick(rng, tree, exp.Sum, exp.Max, exp.Min, exp.Count, exp.Avg)
    if node is None or isinstance(node.this, (exp.Star, exp.Distinct)):
        return None
    sql = node.this.sql(dialect="duckdb") if node.this else "1"
    new = rng.choice(
        [
            f"sum(distinct {sql})",
            f"count(distinct {sql})",
            "count(*)",
            f"count({sql})",
            f"max({sql})",
            f"min({sql})",
            f"max({sql}) filter (where {sql} is not null)",
            f"coalesce(max({sql}), min({sql}))",
        ]
    )
    before = node.sql()
    node.replace(_parsed(f"select {new}").expressions[0])
    return f"{before} → {new}"


@on_tree("window", 5)
def _window(rng: random.Random, tree: exp.Query) -> str | None:
    window = pick(rng, tree, exp.Window)
    select = window.parent_select if window else None
    if window is None or not isinstance(select, exp.Select):
        return None
    how = rng.choice(["partition", "no partition", "direction", "nulls", "frame", "order"])
    order = window.args.get("order")
    columns = own_columns(select)
    if how == "partition" and columns:
        window.set("partition_by", [rng.choice(columns).copy()])
    elif how == "no partition" and window.args.get("partition_by"):
        window.set("partition_by", None)
    elif how == "direction" and order:
        key = rng.choice(order.expressions)
        key.set("desc", not key.args.get("desc"))
    elif how == "nulls" and order:
        key = rng.choice(order.expressions)
        key.set("nulls_first", not key.args.get("nulls_first"))
    elif how == "frame" and window.args.get("spec"):
        window.set("spec", None)
    elif how == "order" and order and columns:
        order.expressions.insert(0, exp.Ordered(this=rng.choice(columns).copy()))
    else:
        return None
    return f"OVER: {how}"


@on_tree("type", 5)
def _type(rng: random.Random, tree: exp.Query) -> str | None:
    new = rng.choice(["varchar", "bigint", "double", "decimal(12, 2)", "date", "integer", "text"])
    cast = pick(rng, tree, exp.Cast)
    if cast is not None and rng.random() < 0.6:
        before = cast.to.sql()
        cast.set("to", exp.DataType.build(new, dialect="duckdb"))
        return f"{cast.this.sql()[:30]}: {before} → {new}"
    column = pick(rng, tree, exp.Column)
    if column is None or isinstance(column.this, exp.Star):
        return None
    value = exp.cast(column.copy(), new, dialect="duckdb")
    bare = isinstance(column.parent, exp.Select)
    column.replace(exp.alias_(value, column.name) if bare else value)
    return f"{column.sql()} as {new}"


@on_tree("limit", 3)
def _limit(rng: random.Random, tree: exp.Query) -> str | None:
    if limit := pick(rng, tree, exp.Limit, exp.Offset):
        limit.set("expression", exp.Literal.number(rng.choice([0, 2, 5, 9, 11, 100])))
        return f"{limit.sql()}"
    select = some_select(rng, tree)
    if isinstance(select.parent, (exp.SetOperation, exp.Exists)) or not select.args.get("from_"):
        return None
    select.set("order", _parsed("select 1 order by all").args["order"])
    if rng.random() < 0.7:
        select.limit(rng.choice([1, 5, 20, 1000]), copy=False)
    return "ORDER BY ALL, perhaps LIMIT"


@on_tree("order", 2)
def _order(rng: random.Random, tree: exp.Query) -> str | None:
    select = some_select(rng, tree)
    columns = own_columns(select)
    if order := select.args.get("order"):
        key = rng.choice(order.expressions)
        how = rng.choice(["desc", "nulls_first"])
        key.set(how, not key.args.get(how))
        return f"{order.sql()}"
    if not columns or isinstance(select.parent, exp.SetOperation):
        return None
    select.order_by(rng.choice(columns).copy(), copy=False)
    return f"{select.args['order'].sql()}"


@on_tree("CTE that nobody reads", 2)
def _unused_cte(rng: random.Random, tree: exp.Query) -> str | None:
    name = rng.choice(["unused", "a", "p"])
    tree.with_(name, "select 1 as nothing", copy=False)
    return f"CTE {name} that nobody reads"


@on_tree("query as a CTE", 2)
def _wrap(rng: random.Random, tree: exp.Query) -> str | None:
    if tree.args.get("with_") or not isinstance(tree, exp.Select):
        return None
    name = rng.choice(["final", "a", "stg_orders"])
    wrapper = _parsed(f"select * from {name}")
    assert isinstance(wrapper, exp.Select)
    wrapper.with_(name, tree.copy(), copy=False)
    tree.args.clear()
    for key, value in wrapper.args.items():
        tree.set(key, value)
    return f"CTE {name} around the query"


@on_tree("table as a subquery", 3)
def _around(rng: random.Random, tree: exp.Query) -> str | None:
    tables = [t for t in tree.find_all(exp.Table) if t.name.startswith("__jinja")]
    tables = [t for t in tables if not t.args.get("joins") and not t.args.get("pivots")]
    if not tables:
        return None
    table = rng.choice(tables)
    query = _parsed(f"select * from {table.name}")
    table.replace(exp.alias_(exp.Subquery(this=query), table.alias or "one", table=True))
    return "a table as a subquery"


@on_tree("CTE", 5)
def _cte(rng: random.Random, tree: exp.Query) -> str | None:
    clause = tree.args.get("with_")
    if not clause:
        return None
    how = rng.choice(["rename", "inline", "materialized"])
    cte = clause.expressions[-1] if how == "inline" else rng.choice(clause.expressions)
    reading = [table for table in tree.find_all(exp.Table) if table.name == cte.alias]
    if how == "rename":
        new = rng.choice(["renamed", "a", "customers"])
        for table in reading:
            alias = table.alias or cte.alias
            table.replace(exp.alias_(exp.to_table(new), alias, table=True))
        columns = cte.args["alias"].columns
        cte.set("alias", exp.TableAlias(this=exp.to_identifier(new), columns=columns))
    elif how == "materialized":
        cte.set("materialized", rng.choice([True, False]))
    elif clause.recursive:
        return None
    else:
        for table in reading:
            inner = exp.Subquery(this=cte.this.copy())
            table.replace(exp.alias_(inner, table.alias or cte.alias, table=True))
        cte.pop()
        if not clause.expressions:
            tree.set("with_", None)
    return f"CTE {how}"


@on_tree("table alias", 3)
def _alias(rng: random.Random, tree: exp.Query) -> str | None:
    select = some_select(rng, tree)
    sources = [s for s in select.find_all(exp.Table) if s.parent_select is select and s.alias]
    if not sources:
        return None
    source = rng.choice(sources)
    old, new = source.alias, rng.choice(["x", "source", "stg_orders"])
    for column in tree.find_all(exp.Column):
        if column.table == old:
            column.set("table", exp.to_identifier(new))
    source.set("alias", exp.TableAlias(this=exp.to_identifier(new)))
    return f"alias {old} → {new}"


@on_tree("table for another", 4)
def _table(rng: random.Random, tree: exp.Query) -> str | None:
    tables = list(tree.find_all(exp.Table))
    names = sorted({t.name for t in tables if isinstance(t.this, exp.Identifier)})
    if len(names) < 2:
        return None
    table = rng.choice([t for t in tables if t.name in names])
    old, new = table.name, rng.choice(names)
    if new == old:
        return None
    table.replace(exp.alias_(exp.to_table(new), table.alias or old, table=True))
    return f"table {old} → {new}"


@on_tree("case", 3)
def _case(rng: random.Random, tree: exp.Query) -> str | None:
    case = pick(rng, tree, exp.Case)
    if case is None:
        return None
    ifs = case.args["ifs"]
    if len(ifs) > 1 and rng.random() < 0.5:
        ifs.reverse()
        return "WHENs in another order"
    case.set("default", None if case.args.get("default") else exp.Literal.string("other"))
    return "ELSE"


@on_tree("null handling", 3)
def _null(rng: random.Random, tree: exp.Query) -> str | None:
    node = pick(rng, tree, exp.Coalesce, exp.Is, exp.EQ, exp.In)
    if node is None:
        return None
    before = node.sql()
    if isinstance(node, exp.Coalesce):
        node.replace(node.this.copy())
    elif isinstance(node, exp.EQ):
        node.replace(exp.NullSafeEQ(this=node.this, expression=node.expression))
    elif node.parent and not isinstance(node.parent, exp.Select):
        node.replace(exp.Not(this=node.copy()))
    else:
        return None
    return f"{before[:50]} changed"


@on_tree("star", 3)
def _star(rng: random.Random, tree: exp.Query) -> str | None:
    star = pick(rng, tree, exp.Star)
    if star is None or not isinstance(star.parent, (exp.Select, exp.Column)):
        return None
    names = ["note", "status", "country", "name", "kind", "cents", "customer_id", "sku", "price"]
    kept = list(star.args.get("except_") or [])
    if kept and rng.random() < 0.5:
        kept.pop()
    else:
        kept.append(exp.to_identifier(rng.choice(names)))
    star.set("except_", kept or None)
    return f"{star.sql(dialect='duckdb')}"
