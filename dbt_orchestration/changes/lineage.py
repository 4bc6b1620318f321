"""Column lineage: which columns of which nodes each column is computed from."""

from __future__ import annotations

from collections.abc import Mapping

from dbt_orchestration.changes.fingerprints import Fingerprints
from dbt_orchestration.changes.terms import REST, ROWS, WHOLE, Reference, Term

Lineage = Mapping[str, Mapping[str, tuple[Reference, ...]]]

_OF_UNKNOWN = "column "


def column_lineage(fingerprints: Fingerprints) -> Lineage:
    """For each node whose columns are known: column to the columns of other nodes it is made of.

    Ephemeral models are looked through, because they are in no warehouse. What only decides which
    rows there are (joins, filters, grouping) is not part of a column's lineage.
    """
    known: dict[str, dict[str, tuple[Reference, ...]]] = {}
    for unique_id, node in fingerprints.nodes.items():
        columns: dict[str, tuple[Reference, ...]] = {}
        for name, term in node.terms.columns:
            found: set[Reference] = set()
            for reference in _columns(term):
                parent = fingerprints.project.nodes.get(reference.node) or {}
                if (parent.get("config") or {}).get("materialized") == "ephemeral":
                    found.update(known.get(reference.node, {}).get(reference.column, ()))
                else:
                    found.add(reference)
            columns[str(name)] = tuple(sorted(found))
        known[unique_id] = columns
    return {unique_id: columns for unique_id, columns in known.items() if columns}


def _columns(term: Term) -> set[Reference]:
    found: set[Reference] = set()
    seen: set[str] = set()
    waiting = [term]
    while waiting:
        part = waiting.pop()
        if part.key in seen:
            continue
        seen.add(part.key)
        reference = part.reference
        if reference is not None:
            if reference.column not in (ROWS, REST, WHOLE):
                found.add(reference)
        elif part.op == "exists":
            continue
        elif part.op == "query":
            waiting.extend(part.args[1:])
        elif part.op.startswith(_OF_UNKNOWN) and len(part.args) == 1 and part.args[0].reference:
            # A column of a source, or of a node, whose columns nobody has listed.
            found.add(Reference(part.args[0].reference.node, part.op.removeprefix(_OF_UNKNOWN)))
        else:
            waiting.extend(part.args)
    return found
