"""Which edits of a query change its rows and columns, and which do not: fixtures/queries_*.sql.

A case in those files is three lines that begin with ``---`` and what is below them:

    --- what the case shows
    select id from customers
    --- to
    select id as id from customers
    --- same

The last line says what the two queries differ in: ``same``, or a list of

    rows            which rows there are, and how many times each
    name            the values of a column
    +name, -name    a column is added, removed
    order           the order of the columns
    sorted          the order rows are stored in
    case            upper and lower case of the names of columns
    rest            the columns whose names are not known

or ``opaque: why``: the last query cannot be told apart by columns, for that reason. A case that is
opaque needs no second query. The tables the queries read are those of ``TABLES``; the columns of
``events`` are not known to the engine.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pytest

from dbt_orchestration.changes.columns.names import Names, Opaque, dialect_of
from dbt_orchestration.changes.columns.query import analyse
from dbt_orchestration.changes.terms import REST, ROWS, Relation, refer, written

FIXTURES = Path(__file__).parent / "fixtures"
UNKNOWN = "events"
TABLES = {
    "customers": {
        "id": "integer",
        "name": "varchar",
        "country": "varchar",
        "age": "integer",
        "active": "boolean",
    },
    "orders": {
        "id": "integer",
        "customer_id": "integer",
        "amount": "decimal(10, 2)",
        "status": "varchar",
        "placed_on": "date",
    },
    "things": {
        "id": "integer",
        "info": "struct(city varchar, zip integer)",
        "tags": "varchar[]",
        "numbers": "integer[]",
    },
    UNKNOWN: {
        "customer_id": "integer",
        "kind": "varchar",
        "moment": "timestamp",
        "points": "integer",
    },
}
ROWS_OF = {
    "customers": """
        (1, 'Ada', 'NL', 31, true), (2, 'Bob', 'DE', 17, false), (3, 'Cyd', 'NL', null, true),
        (4, null, null, 45, null), (5, 'Eve', 'FR', 31, true), (6, 'Fay', 'DE', 62, true),
        (6, 'Fay', 'DE', 62, true), (7, 'ada', 'nl', 18, false), (8, 'it''s', 'FR', 0, null),
        (null, 'Gus', 'NL', 31, false)""",
    "orders": """
        (1, 1, 10.00, 'paid', '2026-01-01'), (2, 1, 20.50, 'paid', '2026-01-02'),
        (3, 2, 5.00, 'open', '2026-01-02'), (4, 3, null, 'open', '2026-02-01'),
        (5, null, 7.25, 'paid', null), (6, 6, 10.00, null, '2026-02-03'),
        (6, 6, 10.00, null, '2026-02-03'), (7, 9, 99.99, 'lost', '2026-03-01'),
        (8, 5, 0.00, 'paid', '2026-03-02'), (null, 5, -3.00, 'open', '2026-03-02')""",
    "things": """
        (1, {'city': 'Oslo', 'zip': 1}, ['a', 'b'], [1, 2, 3]), (2, null, [], []),
        (3, {'city': null, 'zip': 3}, null, [5]), (4, {'city': 'Rome', 'zip': 4}, ['b'], null),
        (4, {'city': 'Rome', 'zip': 4}, ['b', null], [7, null])""",
    UNKNOWN: """
        (1, 'view', '2026-01-01 10:00', 1), (1, 'buy', '2026-01-01 11:00', 5),
        (2, 'view', '2026-01-02 10:00', null), (6, 'view', '2026-02-03 10:00', 2),
        (null, 'view', null, 3), (1, 'view', '2026-01-01 10:00', 1)""",
}


@dataclass(frozen=True)
class Case:
    """One block of a fixture file."""

    where: str
    title: str
    adapter: str
    queries: tuple[str, ...]
    expected: str


def read_cases(path: Path) -> Iterator[Case]:
    """The file's name says the dialect: queries_<adapter>_<subject>.sql"""
    adapter = path.stem.split("_")[1]
    start, title, queries = 0, "", [""]
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        mark = line.removeprefix("--- ") if line.startswith("--- ") else None
        if mark is None:
            queries[-1] += line + "\n"
        elif not title:
            start, title, queries = number, mark, [""]
        elif mark == "to":
            queries.append("")
        else:
            yield Case(f"{path.name}:{start}", title, adapter, tuple(queries), mark)
            title, queries = "", [""]
    assert not title, f"{path.name}:{start}: no expectation"


def analysed(case: Case, sql: str) -> Relation:
    dialect = dialect_of(case.adapter)
    names = Names(dialect)

    def tables(path: tuple[str, ...]) -> Relation:
        table = path[-1].lower()
        if table == UNKNOWN or table not in TABLES:
            return Relation(refer(table, ROWS), (), rest=refer(table, REST))
        columns = [names.normal(name, quoted=False) for name in TABLES[table]]
        return Relation(refer(table, ROWS), tuple((name, refer(table, name)) for name in columns))

    return analyse(sql, dialect, tables)


def differences(old: Relation, new: Relation) -> list[str]:
    """What the header of this file says, in its order."""
    found = ["rows"] if old.rows.key != new.rows.key else []
    before, after = [name for name, _ in old.columns], [name for name, _ in new.columns]
    for name in dict.fromkeys(after):
        if name not in before:
            found.append(f"+{name}")
        elif _keys(old, name) != _keys(new, name):
            found.append(name)
    found += [f"-{name}" for name in dict.fromkeys(before) if name not in after]
    if [n for n in before if n in after] != [n for n in after if n in before]:
        found.append("order")
    if (old.rest and old.rest.key) != (new.rest and new.rest.key):
        found.append("rest")
    if old.positions != new.positions and "rest" not in found:
        found.append("positions")
    if old.order != new.order:
        found.append("sorted")
    if any(_written(old, name) != _written(new, name) for name in before if name in after):
        found.append("case")
    return found


def _written(relation: Relation, name: str) -> list[str]:
    return [written(known) for known, _ in relation.columns if known == name]


def _keys(relation: Relation, name: str) -> list[str]:
    return [term.key for known, term in relation.columns if known == name]


CASES = [case for path in sorted(FIXTURES.glob("queries_*.sql")) for case in read_cases(path)]
EXECUTABLE = [
    case
    for case in CASES
    if case.adapter == "duckdb"
    and len(case.queries) == 2
    and not case.expected.startswith("opaque")
    and "rows" not in case.expected.split(", ")
    and "not executable" not in case.title
]


def _name(case: Case) -> str:
    return f"{case.where} {case.title}"


@pytest.mark.parametrize("case", CASES, ids=_name)
def test_two_queries_differ_in_what_the_fixture_says(case: Case) -> None:
    if case.expected.startswith("opaque: "):
        *before, last = case.queries
        for sql in before:
            analysed(case, sql)
        with pytest.raises(Opaque) as opaque:
            analysed(case, last)
        assert case.expected.removeprefix("opaque: ") in str(opaque.value)
        return
    old, new = (analysed(case, sql) for sql in case.queries)
    assert sorted(differences(old, new) or ["same"]) == sorted(case.expected.split(", "))


@pytest.fixture(scope="session")
def tables() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect(config={"threads": 1}) as connection:
        for table, columns in TABLES.items():
            defined = ", ".join(f"{name} {kind}" for name, kind in columns.items())
            connection.execute(f"create table {table} ({defined})")
            connection.execute(f"insert into {table} values {ROWS_OF[table]}")
        yield connection


@pytest.mark.parametrize("case", EXECUTABLE, ids=_name)
def test_what_the_fixture_calls_the_same_is_the_same_in_duckdb(
    case: Case, tables: duckdb.DuckDBPyConnection
) -> None:
    changed = {part.lstrip("+-") for part in case.expected.split(", ")}
    (names, rows), (other_names, others) = (_run(tables, sql) for sql in case.queries)
    if "case" not in changed and "rest" not in changed:
        found = {name.lower(): name for name in names}
        assert all(found.get(name.lower(), name) == name for name in other_names)
    names, other_names = ([name.lower() for name in both] for both in (names, other_names))
    if case.expected == "same":
        assert names == other_names
    common = [name for name in names if name not in changed and name in other_names]
    if "order" not in changed and "rest" not in changed:
        assert common == [name for name in other_names if name not in changed and name in names]
    assert _only(rows, names, common) == _only(others, other_names, common)


def _run(tables: duckdb.DuckDBPyConnection, sql: str) -> tuple[list[str], list[tuple[object, ...]]]:
    result = tables.execute(sql)
    return [str(name) for name, *_ in result.description or ()], result.fetchall()


def _only(
    rows: list[tuple[object, ...]], names: list[str], wanted: list[str]
) -> Counter[tuple[str, ...]]:
    positions = [i for i, name in enumerate(names) if name in wanted]
    positions.sort(key=lambda i: (wanted.index(names[i]), i))
    return Counter(tuple(repr(row[i]) for i in positions) for row in rows)
