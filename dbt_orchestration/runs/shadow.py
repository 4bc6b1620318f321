"""Tables that are rebuilt beside the old ones and put into their place when they are whole.

dbt rebuilds a microbatch model by replacing its table with the first batch and adding the others,
so that readers see a table that is nearly empty for as long as the rest takes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import dagster as dg

from dbt_orchestration.dbt.internals import manifests
from dbt_orchestration.dbt.invocation import DbtTarget
from dbt_orchestration.dbt.operation import operate, table_of
from dbt_orchestration.ledger.attempts import first_attempt_of

# Of a run's id, in the names of its tables.
_LENGTH = 8


class ShadowTables:
    """What one request, in all its attempts, builds beside.

    Args:
        request: names the tables, so that two requests do not share one.
    """

    def __init__(
        self, target: DbtTarget, nodes: Mapping[str, Mapping[str, Any]], request: str, scratch: str
    ) -> None:
        self._target = target
        self._nodes = nodes
        self._request = request[:_LENGTH]
        self._scratch = scratch

    def redirect(self, manifest: Any, unique_ids: Collection[str]) -> None:
        """Make dbt build these models beside their tables, and the tests on them look there."""
        for unique_id in unique_ids:
            manifests.set_alias(manifest, unique_id, self.name(unique_id))

    def are_there(self, manifest: Any, unique_ids: Collection[str]) -> bool:
        """Whether what an earlier attempt built beside can be gone on with.

        Raises:
            DbtError: the warehouse cannot be reached, or refused.
        """
        return bool(self._operate(manifest, "are_there", unique_ids))

    def swap_in(self, manifest: Any, unique_ids: Collection[str]) -> None:
        """Put the tables into their place.

        Raises:
            DbtError: the warehouse refused; the old tables stand.
        """
        self._operate(manifest, "swap_in", unique_ids)

    def tidy(
        self, manifest: Any, unique_ids: Collection[str], unfinished: Iterable[dg.DagsterRun]
    ) -> None:
        """Drop what other requests left beside these tables.

        Args:
            unfinished: runs whose tables are left to them.

        Raises:
            DbtError: the warehouse refused.
        """
        requests = {r for run in unfinished for r in (run.run_id, first_attempt_of(run))}
        kept = sorted(request[:_LENGTH] for request in requests)
        self._operate(manifest, "tidy", unique_ids, kept=kept)

    def _operate(
        self, manifest: Any, macro: str, unique_ids: Collection[str], **arguments: Any
    ) -> Any:
        tables = [
            {**table_of(self._nodes, unique_id), "shadow": self.name(unique_id)}
            for unique_id in sorted(unique_ids)
        ]
        return operate(self._target, manifest, macro, self._scratch, tables=tables, **arguments)

    def name(self, unique_id: str) -> str:
        """The shadow table of a node."""
        return f"{self._nodes[unique_id]['alias']}__rebuild_{self._request}"
