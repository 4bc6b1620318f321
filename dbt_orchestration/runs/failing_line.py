"""The line of a model's SQL that the warehouse refused."""

from __future__ import annotations

import re

MARK = "  -- ◀ fails here"
# DuckDB: "LINE 7: foo as b", the line itself. Snowflake: "error line 7 at position 2".
_SHOWN = re.compile(r"^\s*LINE (\d+): (.*)$", re.MULTILINE)
_NUMBERED = re.compile(r"\bline (\d+) at position \d+", re.IGNORECASE)
_NAMED = re.compile(r"""(?:'|")([^'"\n]+)(?:'|")""")
_AROUND, _MOST_LINES = 40, 400


def with_failing_line(sql: str, statement: str, message: str) -> str:
    """``sql`` with a mark at the line of which ``message`` speaks, if that is known.

    Of long SQL only what is around that line, or the beginning.

    Args:
        sql: as dbt compiled it.
        statement: what was sent, with ``sql`` in it; "" if that is not known.
    """
    lines = sql.strip("\n").rstrip().splitlines()
    number = _failing_line(lines, statement, message)
    if number is not None:
        lines[number] += MARK
    if len(lines) <= _MOST_LINES:
        return "\n".join(lines)
    first = max(0, number - _AROUND) if number is not None else 0
    last = first + 2 * _AROUND
    before = [f"-- … {first} lines before"] if first else []
    return "\n".join([*before, *lines[first:last], f"-- … {len(lines) - last} lines more"])


def _failing_line(lines: list[str], statement: str, message: str) -> int | None:
    """Its place in ``lines``; None if the message names none, or one that cannot be it."""
    shown, numbered = _SHOWN.search(message), _NUMBERED.search(message)
    found = shown or numbered
    begin = statement.find("\n".join(lines))
    if not found or begin < 0:
        return None
    number = int(found[1]) - 1 - statement.count("\n", 0, begin)
    if not 0 <= number < len(lines):
        return None
    if shown:
        # The line begins or ends with dots if it is long.
        fits = shown[2].strip().strip(".").strip() in lines[number]
    else:
        names = _NAMED.findall(message)
        fits = not names or any(name.lower() in lines[number].lower() for name in names)
    return number if fits else None
