"""What two runs that work at the same time share."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import cached_property

import dagster as dg

from dbt_orchestration.assets.context import EnvironmentContext
from dbt_orchestration.history.phases import descendants
from dbt_orchestration.ledger.provenance import ancestors_of


@dataclass(frozen=True)
class Crossing:
    """A run that may cross others.

    Attributes:
        builds: what it builds, by unique id.
    """

    env: EnvironmentContext
    builds: AbstractSet[str]

    def shared(
        self, planned: Collection[dg.AssetKey], built: Collection[dg.AssetKey]
    ) -> Sequence[str]:
        """What another run has still to build and shares with this one, by name.

        Shared is what this one builds or reads, and what reads something that this one builds.

        Args:
            planned: what the other run is for.
            built: what it has built so far; of what has partitions it may have to build more.
        """
        ids, keys = self.env.unique_ids, self.env.keys
        planned_ids = {ids[key] for key in planned if key in ids}
        done = {ids[key] for key in built if key in ids}
        left = {u for u in planned_ids if u not in done or self._has_partitions(u)}
        return sorted(keys[u].path[-1] for u in left & self._ours)

    @cached_property
    def _ours(self) -> AbstractSet[str]:
        """What this run builds, reads or is read by, at any depth: a view reads when it is read."""
        manifest = self.env.revision.manifest
        every = {**self.env.nodes, **manifest["sources"]}
        return {
            *self.builds,
            *ancestors_of(every, *self.builds),
            *descendants(manifest, self.builds),
        }

    def _has_partitions(self, unique_id: str) -> bool:
        return unique_id in self.env.nodes and self.env.model(unique_id) is not None
