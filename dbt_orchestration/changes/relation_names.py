"""Where a node's relation stands in the warehouse, and what it refers to by name.

Fingerprints leave out the target's own database and schema, so that targets which differ only there
are the same. These names are whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from dbt_orchestration.changes.terms import digest

Nodes = Mapping[str, Mapping[str, Any]]

# Materializations that copy rows; others keep referring to what they read.
COPIES = frozenset({"table", "incremental", "seed", "snapshot", "ephemeral", "function"})


def relation_name(node: Mapping[str, Any]) -> str:
    """Database, schema and identifier of a node."""
    name = node.get("alias") or node.get("identifier") or node["name"]
    parts = (node.get("database"), node.get("schema"), name)
    return ".".join(str(part) for part in parts if part)


def parts_of(relation: str) -> dict[str, str]:
    """Database, schema and identifier of a relation, of its name."""
    *database, schema, identifier = relation.split(".")
    return {"database": ".".join(database), "schema": schema, "identifier": identifier}


def names_read(nodes: Nodes, unique_id: str) -> str:
    """A digest of the names that a node's relation depends on for ever; "" if it does on none.

    A view goes on reading what it was made of. A table was filled from what its sources were then.

    Args:
        nodes: nodes and sources of the manifest.
    """
    config = nodes[unique_id].get("config") or {}
    every = config.get("materialized") not in COPIES
    parents = [
        relation_name(nodes[parent]).lower()
        for parent in _parents(nodes, unique_id)
        if every or parent.startswith("source.")
    ]
    return digest(*sorted(parents)) if parents else ""


def _parents(nodes: Nodes, unique_id: str) -> Iterator[str]:
    for parent in (nodes[unique_id].get("depends_on") or {}).get("nodes") or ():
        if parent not in nodes or parent.startswith("function."):
            continue
        if (nodes[parent].get("config") or {}).get("materialized") == "ephemeral":
            yield from _parents(nodes, parent)
        else:
            yield parent
