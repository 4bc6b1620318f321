"""That SQL is read as the engine reads it: DuckDB's own parser and list of functions are asked.

What Snowflake documents is in fixtures/queries_snowflake_syntax.sql.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from itertools import product
from typing import Any

import duckdb
import pytest
from sqlglot import exp

from dbt_orchestration.changes.columns.names import Opaque, dialect_of
from dbt_orchestration.changes.columns.query import analyse
from dbt_orchestration.changes.columns.syntax import parse
from dbt_orchestration.changes.terms import ROWS, Relation, Term, refer

BETWEEN = """
or, and, =, <>, <, >=, like, not ilike, glob, ~, similar to, ^@, @>, &&, ||, ->, ->>, +, -, *, //,
%, ^, **, &, |, <<, <->, <=>, is distinct from, is not distinct from, at time zone, in
"""
AFTER = """
is null|is not null|notnull|is true|is not false|::int|[1]|collate nocase|in (1, 2)|not in (1, 2)
"""
BEFORE = "-, +, ~, @, not"
OPERATORS = [
    *(["?", operator.strip(), "?"] for operator in BETWEEN.split(",")),
    *(["?", operator.strip()] for operator in AFTER.split("|")),
    *([operator.strip(), "?"] for operator in BEFORE.split(",")),
    ["?", "between", "?", "and", "?"],
    ["?", "not between", "?", "and", "?"],
    ["?", "not like", "?", "escape '+'"],
]
# An operator with its operands, or "a".
Nested = tuple[list[str], tuple["Nested | str", ...]] | str
DUCKDB = dialect_of("duckdb")
COLUMNS = [f"c{number}" for number in range(7)]


def written(nested: Nested, inside: bool, parentheses: bool) -> str:
    if isinstance(nested, str):
        return nested
    operator, operands = nested
    left = iter(operands)
    words = (written(next(left), True, parentheses) if w == "?" else w for w in operator)
    text = " ".join(words)
    return f"({text})" if inside and parentheses else text


def in_duckdb(expressions: Sequence[str]) -> list[str | None]:
    """DuckDB's trees, without the places in the text; None for what it does not parse."""
    made = duckdb.execute(
        "select json_serialize_sql(text) from unnest(?) as texts(text)",
        [[f"select {expression}" for expression in expressions]],
    )
    places = re.compile(r'"query_location(_length)?":\d+')
    trees = [places.sub("", tree) for (tree,) in made.fetchall()]
    return [None if '"error":true' in tree else tree for tree in trees]


@cache
def in_sqlglot(expression: str) -> Any:
    """sqlglot's tree, without parentheses; None if it is refused."""
    try:
        return _shape(parse(f"select {expression}", DUCKDB))
    except Opaque:
        return None


def _shape(tree: Any) -> Any:
    if isinstance(tree, list):
        return tuple(map(_shape, tree))
    if not isinstance(tree, exp.Expr):
        return tree
    tree = tree.unnest()
    return type(tree), *((key, _shape(value)) for key, value in tree.args.items())


def check(cases: Iterable[Nested], read: int) -> None:
    """Texts with and without parentheses that are one here are one in DuckDB, ``read`` at least."""
    same = []
    for nested in cases:
        bare, whole = (written(nested, False, parentheses) for parentheses in (False, True))
        # DuckDB reads a -> b ->> c as a -> (b ->> c), and evaluates it as (a -> b) ->> c.
        if not ("->" in bare and "->>" in bare):
            ours = in_sqlglot(bare)
            same += [(bare, whole)] if ours is not None and ours == in_sqlglot(whole) else []
    trees = zip(*(in_duckdb(texts) for texts in zip(*same, strict=True)), strict=True)
    parsed = [(text, *both) for (text, _), both in zip(same, trees, strict=True) if both[0]]
    assert [text for text, tree, other in parsed if tree != other] == []
    assert len(parsed) >= read


def pairs() -> Iterator[Nested]:
    for outer in OPERATORS:
        for inner in OPERATORS:
            nested = (inner, ("a",) * inner.count("?"))
            for place in range(outer.count("?")):
                operands: list[Nested | str] = list("bcd"[: outer.count("?")])
                operands[place] = nested
                yield outer, tuple(operands)


def at_random(choose: random.Random, operators: int) -> Nested:
    if not operators:
        return choose.choice(["a", "1", "'x'"])
    operator = choose.choice(OPERATORS)
    shares = [0] * operator.count("?")
    for _ in range(operators - 1):
        shares[choose.randrange(len(shares))] += 1
    return operator, tuple(at_random(choose, share) for share in shares)


def test_two_operators_without_parentheses_are_grouped_as_duckdb_groups_them() -> None:
    check(pairs(), read=600)


def test_more_operators_without_parentheses_are_grouped_as_duckdb_groups_them() -> None:
    choose = random.Random(7)
    check((at_random(choose, choose.randint(3, 5)) for _ in range(5_000)), read=50)


def test_set_operations_without_parentheses_are_read_from_the_left_or_not_at_all() -> None:
    operations = ["union", "union all", "except", "except all", "intersect", "intersect all"]
    queries = [
        f"select unnest([{values}]) as v" for values in ("1, 1, 2", "2, 3, 3", "3, 1, 1", "2")
    ]
    read = 0
    for three in product(operations, repeat=3):
        bare = whole = queries[0]
        for operation, query in zip(three, queries[1:], strict=True):
            bare, whole = f"{bare} {operation} {query}", f"({whole}) {operation} {query}"
        try:
            parse(bare, DUCKDB)
        except Opaque:
            continue
        rows = [sorted(duckdb.execute(sql).fetchall()) for sql in (bare, whole)]
        assert rows[0] == rows[1], bare
        read += 1
    assert read > 100


def _functions() -> Iterator[tuple[str, int]]:
    rows = duckdb.execute(
        "select distinct function_name, len(parameters), varargs is not null from"
        " duckdb_functions() where function_type not like 'table%' and"
        " regexp_full_match(function_name, '[a-z_0-9]+')"
    )
    for name, arguments, more in rows.fetchall():
        for number in (arguments, arguments + 1, arguments + 2) if more else (arguments,):
            if number:
                yield name, number


def _table(_: tuple[str, ...]) -> Relation:
    return Relation(refer("t", ROWS), tuple((name, refer("t", name)) for name in COLUMNS))


def _analysed(expression: str) -> list[Term] | None:
    try:
        made = analyse(f"select {expression} as x from t", DUCKDB, _table)
    except Opaque:
        return None
    rest = () if made.rest is None else (made.rest,)
    return [made.rows, *rest, *(term for _, term in made.columns)]


def test_every_argument_of_every_function_of_duckdb_is_read() -> None:
    unread: list[str] = []
    for name, number in sorted(_functions()):
        arguments = COLUMNS[:number]
        terms = _analysed(f"{name}({', '.join(arguments)})")
        if terms is not None:
            read = {reference.column for term in terms for reference in term.references()}
            unread += [name] if not read.issuperset(arguments) else []
    assert unread == []


@pytest.mark.parametrize(("one", "other"), [("'a.b'", "'$.a.b'"), ("c6", "'c6'")])
def test_every_text_in_a_call_of_duckdb_counts(one: str, other: str) -> None:
    same: list[str] = []
    for name, number in sorted(_functions()):
        for place in range(number):
            keys: list[list[str]] = []
            for argument in (one, other):
                arguments = [*COLUMNS[:place], argument, *COLUMNS[place + 1 : number]]
                terms = _analysed(f"{name}({', '.join(arguments)})") or []
                keys.append([term.key for term in terms])
            same += [name] if keys[0] and keys[0] == keys[1] else []
    # count('x') counts rows, whatever the text.
    assert set(same) <= {"count"}


def test_a_text_that_makes_sqlglot_stumble_is_opaque() -> None:
    with pytest.raises(Opaque, match="does not parse"):
        parse("select case when not a ->> then 1 end", DUCKDB)


def test_parentheses_of_sqlglot_are_seen_through() -> None:
    # It writes some round a negated comparison that another one follows.
    tree = DUCKDB.parse("select a not like b @> c")[0]
    assert tree is not None
    assert tree.find(exp.Paren)
    with pytest.raises(Opaque, match="without parentheses"):
        parse("select a not like b @> c", DUCKDB)
