"""The line that failed, from what warehouses say of it."""

from __future__ import annotations

import pytest

from dbt_orchestration.runs.failing_line import MARK, with_failing_line

SQL = "select\n  1 as a,\n  foo as b,\n  3 as c\nfrom t"
SENT = f"create table x\n\nas (\n{SQL}\n);\n/* dbt */"


def line(number: int) -> str:
    """The marked SQL, if this line of it is marked."""
    lines = SQL.splitlines()
    lines[number] += MARK
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ('Referenced column "foo" not found\n\nLINE 6:   foo as b,\n          ^^^', line(2)),
        ("LINE 6: ...foo as...\n      ^^^", line(2)),
        ("error line 6 at position 2\ninvalid identifier 'FOO'", line(2)),
        ("syntax error line 6 at position 2 unexpected ','.", line(2)),
        ("syntax error line 8 at position 5", line(4)),
        # A number that cannot be meant is worse than none.
        ("LINE 5: foo as b\n  ^", SQL),
        ("error line 5 at position 2\ninvalid identifier 'FOO'", SQL),
        ("error line 2 at position 2", SQL),
        ("error line 99 at position 2", SQL),
        ("out of memory", SQL),
    ],
)
def test_the_line_that_failed_is_marked(message: str, expected: str) -> None:
    assert with_failing_line(f"\n{SQL}\n\n", SENT, message) == expected


def test_nothing_is_marked_where_the_statement_is_another_one() -> None:
    assert with_failing_line(SQL, "merge into x\nusing y", "error line 2 at position 1") == SQL
    assert with_failing_line(SQL, "", "error line 2 at position 1") == SQL


def test_of_long_sql_the_part_that_failed_is_shown() -> None:
    lines = [f"select {n}," for n in range(1_000)]
    sql = "\n".join(lines)
    shown = with_failing_line(sql, sql, "error line 501 at position 1").splitlines()
    assert f"select 500,{MARK}" in shown
    assert len(shown) < 100
    assert shown[0] == "-- … 460 lines before"
