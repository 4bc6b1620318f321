"""Whether a node is what another one was, under a new name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from dbt_orchestration.changes.fingerprints import Fingerprints, values_of
from dbt_orchestration.changes.terms import digest_value


def value_as(state: Fingerprints, unique_id: str, other: str, relation: Sequence[str]) -> str:
    """The fingerprint that a node would have if it, and its relation, were called otherwise.

    Args:
        other: the unique id that it would have.
        relation: the database, schema and identifier that it would have.
    """
    node, project = state.nodes[unique_id], state.project
    now = project.nodes[unique_id]
    quoted = str(now.get("relation_name") or "").count('"') > 0
    name = ".".join(f'"{part}"' if quoted else part for part in relation)
    database, schema, alias = relation
    renamed = {"database": database, "schema": schema, "alias": alias, "relation_name": name}
    own = {**node.components.own, "relation": digest_value(project.relation_name(renamed))}
    keeps = {other if each == unique_id else each for each in node.keeps}
    return values_of(node.linked, node.terms, replace(node.components, own=own), keeps)[1]
