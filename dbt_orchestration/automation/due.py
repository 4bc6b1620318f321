"""What is due: the difference between what a revision says and what Dagster recorded as built."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace

import dagster as dg

from dbt_orchestration.assets.deferral import same_elsewhere
from dbt_orchestration.assets.definition import DbtAssets
from dbt_orchestration.assets.ledger import Built, read_built, read_checked
from dbt_orchestration.assets.provenance import PUSH_TAG
from dbt_orchestration.revisions.explain import Why, read_explanations, unknown
from dbt_orchestration.revisions.parse import Revision
from dbt_orchestration.settings import Settings

_NAMED = 5
UNFINISHED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


@dataclass(frozen=True)
class Due:
    """Nodes to build and tests to run.

    Attributes:
        nodes: why, by unique id.
        checks: tests that are other ones than when they ran last, on nodes that are there.
        built: what was built last of each node, due or not.
    """

    nodes: Mapping[str, Why]
    checks: Collection[dg.AssetCheckKey]
    built: Mapping[str, Built]

    def __bool__(self) -> bool:
        return bool(self.nodes or self.checks)

    @property
    def count(self) -> str:
        """How many, in words."""
        parts = [(len(self.nodes), "node"), (len(self.checks), "test")]
        return " and ".join(f"{n} {what}{'s' if n > 1 else ''}" for n, what in parts if n)

    def names(self, dbt: DbtAssets) -> str:
        """The first few, in words."""
        names = [dbt.keys[u].path[-1] for u in self.nodes] or [key.name for key in self.checks]
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        return ", ".join(names[:_NAMED]) + more


@dataclass(frozen=True)
class Ledger:
    """What Dagster knows of an environment, compared with a revision of it."""

    settings: Settings
    environment: str
    instance: dg.DagsterInstance
    revision: Revision
    dbt: DbtAssets

    def due(self, explain: Callable[[Mapping[str, str]], bool]) -> Due | None:
        """What is due; None if that is not known yet.

        Args:
            explain: explains nodes that were built with these fingerprints; False if that will take
                longer.
        """
        built = read_built(self.instance, self.dbt.nodes)
        differ = {
            unique_id: last.fingerprint
            for unique_id, last in built.items()
            if last.fingerprint != self.revision.fingerprints[unique_id]
        }
        explained = self._explained(differ)
        if differ.keys() - explained.keys():
            if not explain(differ):
                return None
            explained = self._explained(differ)
        if missing := differ.keys() - explained.keys():
            # Whatever kept them from being explained: what is certain is only that they differ.
            explained |= {u: unknown(self.revision, u, differ[u]) for u in missing}
        elsewhere = same_elsewhere(
            self.settings, self.environment, self.instance, self.revision, self.dbt.nodes
        )
        nodes: dict[str, Why] = {}
        for unique_id in self.dbt.nodes:
            if unique_id in differ:
                if explained[unique_id].due:
                    nodes[unique_id] = explained[unique_id]
            elif unique_id not in built and unique_id not in elsewhere:
                nodes[unique_id] = Why("", True, "build", ["new"], "never built here")
        return Due(nodes, self._checks(built, nodes), built)

    def _explained(self, differ: Mapping[str, str]) -> dict[str, Why]:
        known = read_explanations(self.settings, self.environment, self.revision.digest)
        return {u: why for u, why in known.items() if differ.get(u) == why.recorded}

    def _checks(
        self, built: Mapping[str, Built], due: Collection[str]
    ) -> Collection[dg.AssetCheckKey]:
        names = {key: unique_id for unique_id, key in self.dbt.keys.items()}
        there = {
            key: unique_id
            for key, unique_id in self.dbt.checks.items()
            if (node := names[key.asset_key]) in built or node in self.dbt.sources
            if node not in due
        }
        checked = read_checked(self.instance, there.keys())
        return sorted(k for k, u in there.items() if checked.get(k) != self.revision.checks.get(u))

    def unfinished(self, due: Due) -> list[dg.DagsterRun]:
        """Unfinished runs of this environment that build something of what is due."""
        wanted = {self.dbt.keys[u] for u in due.nodes} | {key.asset_key for key in due.checks}
        place = f"@{self.environment}"
        return [
            run
            for run in unfinished_runs(self.instance)
            if (run.asset_selection or set()) & wanted
            or (
                wanted
                and not run.asset_selection
                and run.tags.get(".dagster/repository", place).endswith(place)
            )
        ]

    def not_tried(self, due: Due) -> Due:
        """What of it no push run of this commit has tried since somebody else built it last."""
        tags = {PUSH_TAG: self.environment, "dbt/revision": self.revision.digest}
        tried: dict[dg.AssetKey, float] = {}
        succeeded: set[dg.AssetKey] = set()
        runs: set[str] = set()
        checked: set[dg.AssetCheckKey] = set()
        for record in self.instance.get_run_records(dg.RunsFilter(tags=tags)):
            if record.dagster_run.status is dg.DagsterRunStatus.NOT_STARTED:
                continue  # the daemon died before it could launch it, and will when asked again
            started = record.create_timestamp.timestamp()
            runs.add(record.dagster_run.run_id)
            if record.dagster_run.status is dg.DagsterRunStatus.SUCCESS:
                succeeded |= set(record.dagster_run.asset_selection or ())
            for key in record.dagster_run.asset_selection or ():
                tried[key] = max(started, tried.get(key, 0.0))
            checked |= set(record.dagster_run.asset_check_selection or ())

        def is_new(unique_id: str) -> bool:
            key, last = self.dbt.keys[unique_id], due.built.get(unique_id)
            if key not in tried:
                return True
            if last is None:
                return key in succeeded  # it was there, and has been wiped
            return tried[key] < last.timestamp and last.run_id not in runs

        return replace(
            due,
            nodes={u: why for u, why in due.nodes.items() if is_new(u)},
            checks=[key for key in due.checks if key not in checked],
        )


def unfinished_runs(instance: dg.DagsterInstance) -> list[dg.DagsterRun]:
    """Runs that wait, or work, or are being stopped."""
    return list(instance.get_runs(dg.RunsFilter(statuses=UNFINISHED)))
