"""What decides the rows and columns of a seed: the values in its file."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from typing import Any

from dbt_orchestration.changes.columns.names import Names
from dbt_orchestration.changes.terms import Relation, Term, digest


def seed_relation(node: Mapping[str, Any], text: str | None, names: Names | None) -> Relation:
    """Each column by its own values in the order of the file; dbt infers types by column.

    Args:
        text: the CSV; None if it is not known, and the checksum has to do.
        names: how the dialect resolves names; None if that is not known.
    """
    config = node["config"]
    types = {k.lower(): str(v) for k, v in (config.get("column_types") or {}).items()}
    delimiter, quoted = config.get("delimiter") or ",", config.get("quote_columns")
    if text is None:
        checksum = Term(f"seed {node['checksum']} {types} {delimiter!r} {quoted}")
        return Relation(checksum, (), rest=checksum, positions=False)
    try:
        lines = list(csv.reader(io.StringIO(text.removeprefix("\ufeff")), delimiter=delimiter))
    except csv.Error:  # a value that is longer than Python's csv reads, or the like
        lines = [["", ""], []]
    header, rows = (lines[0], lines[1:]) if lines else ([], [])
    if any(len(row) != len(header) for row in rows) or len(set(header)) != len(header):
        whole = Term(f"seed {digest(text)} {types} {delimiter!r} {quoted}")
        return Relation(whole, (), rest=whole, positions=False)
    if quoted is None:
        # dbt quotes names, but for Snowflake.
        quoted = names is not None and type(names.dialect).__name__ != "Snowflake"
    columns = []
    for i, name in enumerate(header):
        content = digest(*(f"{len(row[i])}:{row[i]}" for row in rows))
        values = Term(f"seed {content} {types.get(name.lower())}")
        columns.append((names.named(name, quoted) if names else name, values))
    how = "" if names else f" {quoted}"
    return Relation(Term(f"seed of {len(rows)} rows{how}"), tuple(columns))
