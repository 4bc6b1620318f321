"""Spellings that are called the same give the same on DuckDB: values and types, for every type."""

from __future__ import annotations

from collections import defaultdict

import duckdb
import pytest

from dbt_orchestration.changes.columns.names import Opaque, dialect_of
from dbt_orchestration.changes.columns.query import analyse
from dbt_orchestration.changes.terms import ROWS, Relation, refer

DUCKDB = dialect_of("duckdb")
# The least and the greatest among them, and what is hard to compare.
VALUES = {
    "boolean": "true false",
    "tinyint": "-128 0 1 127",
    "smallint": "-32768 5 32767",
    "integer": "-2147483648 17 2147483647",
    "bigint": "-9223372036854775808 31 9007199254740993 9223372036854775807",
    "utinyint": "0 1 255",
    "ubigint": "0 17 18446744073709551615",
    "hugeint": "-1 17 9223372036854775808",
    "decimal(4, 1)": "-999.9 0.5 17.0 999.9",
    "decimal(38, 10)": "0.0000000001 17.0000000001 1234567890123456789012345678.0123456789",
    "float": "nan inf -inf -0.0 0.1 16777217 17",
    "double": "nan inf -inf -0.0 0.1 9007199254740993 1e308 17",
    "varchar": "1 17 9 x A a 2020-01-01 ä",
    "date": "2020-01-01 2020-02-29 infinity",
    "time": "00:00:00 23:59:59.999999",
    "timestamp": "2020-01-01T00:00:00 2020-12-31T23:59:59.999999 -infinity",
    "timestamptz": "2020-01-01T00:00:00+00 2020-12-31T23:59:59.999999+00",
    "interval": "1month -3days",
    "integer[]": "[1] [17,null]",
    "uuid": "00000000-0000-0000-0000-000000000000",
    "json": "1 17",
}
SAME = [
    ("x between 1 and 31", "x >= 1 and x <= 31"),
    ("x between -5 and 9223372036854775807", "x <= 9223372036854775807 and x >= -5"),
    ("x between '1' and '31'", "x >= '1' and x <= '31'"),
    ("x not between 0.5 and 9.5", "not (x >= 0.5 and x <= 9.5)"),
    (
        "x between date '2020-01-01' and date '2020-12-31'",
        "x >= date '2020-01-01' and x <= date '2020-12-31'",
    ),
    ("x between 1::float and 31::float", "x >= 1::float and x <= 31::float"),
    ("x between '1'::varchar and '9'::text", "x >= '1'::varchar and x <= '9'::text"),
    ("x in (1, 17, -5, null)", "x in (null, -5, 17, 1)"),
    ("x not in (0.5, 1.0)", "x not in (1.0, 0.5)"),
    ("x in ('1', 'x', 'A')", "x in ('A', '1', 'x')"),
    ("x + 1", "1 + x"),
    ("x + -1.5", "-1.5 + x"),
    ("x + 9223372036854775807", "9223372036854775807 + x"),
    ("x + 7::decimal(4, 1)", "7::decimal(4, 1) + x"),
    ("x + 3::ubigint", "3::ubigint + x"),
    ("ifnull(x, x)", "coalesce(x, x)"),
    ("ifnull(try_cast(x as integer), 2.5)", "coalesce(try_cast(x as integer), 2.5)"),
    ("if(x is null, 1, 2.5)", "case when x is null then 1 else 2.5 end"),
    ("case when x is null then 1 end", "case when x is null then 1 else null end"),
    ("count(1)", "count(*)"),
]
TYPES = """
int integer int4 signed bigint int8 long smallint int2 short tinyint int1 hugeint ubigint uinteger
usmallint utinyint varchar text string char bpchar nvarchar varchar(3) text(5) char(2) nvarchar(4)
decimal numeric dec decimal(18,3) decimal(10) decimal(10,0) numeric(10,2) decimal(38,0) float real
float4 float(10) double float8 boolean bool logical timestamp datetime timestamp_us timestamp_s
timestamp_ms timestamp_ns timestamp(3) timestamp(0) datetime(3) timestamptz time timetz date blob
bytea binary varbinary bit bit(3) bitstring uuid json interval integer[] int[] bigint[] varchar[]
text[] int[3] map(varchar,int) map(text,integer) map(text,bigint)
"""


def _key(expression: str) -> str | None:
    known = Relation(refer("t", ROWS), (("x", refer("t", "x")),))
    try:
        made = analyse(f"select {expression} as v from t", DUCKDB, lambda _: known)
    except Opaque:
        return None
    return made.rows.key + made.columns[0][1].key


def _run(expression: str, kind: str, values: list[str | None]) -> list[str]:
    """The type and values; one by one if some cannot be computed."""
    sql = f"select typeof({expression}), {expression} from (select unnest(?)::{kind} as x)"
    try:
        return [repr(row) for row in duckdb.execute(sql, [values]).fetchall()]
    except duckdb.Error:
        if len(values) == 1:
            return ["an error"]
        return [row for value in values for row in _run(expression, kind, [value])]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_two_spellings_of_one_thing(one: str, other: str) -> None:
    assert _key(one) == _key(other)
    computed = 0
    for kind, texts in VALUES.items():
        values = [*texts.split(), None]
        rows = _run(one, kind, values)
        assert rows == _run(other, kind, values), kind
        computed += any(row != "an error" for row in rows)
    assert computed > 1


def test_names_of_types_that_are_called_the_same_are_the_same() -> None:
    named: dict[str, list[str]] = defaultdict(list)
    for name in TYPES.split():
        if key := _key(f"x::{name}"):
            named[key].append(name)
    for names in named.values():
        texts = (f"describe select null::{name} as x" for name in names)
        made = [duckdb.execute(text).fetchall() for text in texts]
        assert all(other == made[0] for other in made), names
    together = [names for names in named.values() if len(names) > 1]
    assert ["varchar", "text", "string", "char"] in [names[:4] for names in together]
    assert len(together) > 15
