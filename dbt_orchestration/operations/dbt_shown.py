"""What a dbt command has found, as Markdown."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from dbt_orchestration.markdown import code, inline, shortened, table
from dbt_orchestration.operations.dbt_command import (
    COMPILE,
    DOCS,
    FRESHNESS,
    LIST,
    OPERATION,
    SHOW,
)

_MOST_ROWS, _MOST_COLUMNS, _MOST_IN_A_CELL, _MOST = 1_000, 50, 300, 200_000
# A query that was filled in is a node for dbt, and has this name.
_INLINE = "inline_query"


def shown(command: str, result: Any, logged: Sequence[str]) -> str:
    """The result for people, at most some hundred thousand characters of it.

    Args:
        result: what dbt's ``dbtRunner`` returns.
        logged: what the project's Jinja has logged.
    """
    return shortened("\n\n".join(_SHOWN[command](result, logged)), _MOST)


def _tables(result: Any, _: Sequence[str]) -> Iterator[str]:
    for each in result.results:
        if (found := each.agate_table) is None:
            continue
        columns = list(found.column_names)[:_MOST_COLUMNS]
        rows = [[_cell(value) for value in row][: len(columns)] for row in found.rows]
        count = f"{len(rows):,} {'row' if len(rows) == 1 else 'rows'}"
        title = "" if each.node.name == _INLINE else f"**{inline(each.node.name)}**, "
        yield f"{title}{count}"
        if rows:
            yield table(columns, rows[:_MOST_ROWS])
        if (left := len(found.column_names) - len(columns)) > 0:
            yield f"… and {left:,} more columns."


def _cell(value: object) -> str:
    return "NULL" if value is None else shortened(str(value), _MOST_IN_A_CELL)


def _queries(result: Any, _: Sequence[str]) -> Iterator[str]:
    compiled = [each.node for each in result.results if getattr(each.node, "compiled_code", "")]
    wanted = [node for node in compiled if node.name == _INLINE] or compiled
    for node in wanted:
        if node.name != _INLINE:
            yield f"**{inline(node.name)}** ({inline(node.original_file_path)})"
        yield code(node.compiled_code.strip(), "sql")


def _lines(result: Any, _: Sequence[str]) -> Iterator[str]:
    yield f"{len(result):,} found"
    yield code("\n".join(result))


def _freshness(result: Any, _: Sequence[str]) -> Iterator[str]:
    rows = [
        (
            f"{each.node.source_name}.{each.node.name}",
            str(each.status),
            str(getattr(each, "max_loaded_at", "")),
            f"{age / 3_600:,.1f}" if (age := getattr(each, "age", None)) is not None else "",
            each.message or "",
        )
        for each in result.results
    ]
    if rows:
        yield table(("source", "status", "last loaded", "hours ago", "message"), rows)
    else:
        yield "No source says what is fresh."


def _said(_: Any, logged: Sequence[str]) -> Iterator[str]:
    yield code("\n".join(logged)) if logged else "The macro has logged nothing."


def _catalog(result: Any, _: Sequence[str]) -> Iterator[str]:
    yield f"{len(result.nodes):,} nodes and {len(result.sources):,} sources are in the catalog."


_SHOWN: Mapping[str, Callable[[Any, Sequence[str]], Iterator[str]]] = {
    SHOW: _tables,
    COMPILE: _queries,
    LIST: _lines,
    FRESHNESS: _freshness,
    OPERATION: _said,
    DOCS: _catalog,
}
