"""Relations that stand under another name than the revision gives them.

A fingerprint says nothing of the target's own database and schema. What was built there, under
another name, is as if it had never been built: no run of the revision reads or updates it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import dagster as dg

from dbt_orchestration.changes.relation_names import names_read, relation_name
from dbt_orchestration.dbt.parse import Revision
from dbt_orchestration.ledger.built import Built
from dbt_orchestration.ledger.provenance import READS, RELATION, short_name
from dbt_orchestration.revisions.explanation import Explanation


class Moved:
    """Compares what was recorded of relations' names with a revision."""

    def __init__(self, revision: Revision) -> None:
        self._nodes = {**revision.manifest["nodes"], **revision.manifest["sources"]}

    def knows(self, unique_id: str) -> bool:
        """Whether the revision has the node."""
        return unique_id in self._nodes

    def metadata(self, unique_id: str) -> dict[str, dg.MetadataValue[Any]]:
        """What to record with a node that is built now."""
        return {
            RELATION: dg.MetadataValue.text(relation_name(self._nodes[unique_id])),
            READS: dg.MetadataValue.text(names_read(self._nodes, unique_id)),
        }

    def is_elsewhere(self, unique_id: str, last: Built) -> bool:
        """Whether a node was built under another name."""
        now = relation_name(self._nodes[unique_id])
        return bool(last.relation) and last.relation.lower() != now.lower()

    def why(self, unique_id: str, last: Built) -> Explanation | None:
        """Why a node is due, if it stands under another name, or reads such a relation."""
        now = relation_name(self._nodes[unique_id])
        if self.is_elsewhere(unique_id, last):
            reason = f"its relation was {last.relation} and is {now}"
            return self._why(last.fingerprint, f"name {last.relation}", reason)
        if last.reads is not None and last.reads != names_read(self._nodes, unique_id):
            return self._why(last.fingerprint, "config reads", "name of a relation it reads")
        return None

    def partitions(self, unique_id: str, last: Built) -> Mapping[str, Explanation]:
        """Why partitions are due that were built into a relation of another name."""
        now = relation_name(self._nodes[unique_id])
        reason = f"its relation was another one and is {now}"
        return {
            key: self._why(last.partitions.get(key, ""), "name", reason, "partitions")
            for key, name in last.relations.items()
            if name and name != short_name(now)
        }

    @staticmethod
    def _why(recorded: str, change: str, reason: str, action: str = "build") -> Explanation:
        return Explanation(recorded, True, action, [change], reason)
