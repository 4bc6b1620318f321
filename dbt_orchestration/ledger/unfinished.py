"""What is left of a build that did not succeed: what nobody has built since."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from functools import cached_property

import dagster as dg

from dbt_orchestration.assets.dbt_assets import DbtAssets
from dbt_orchestration.assets.translator import PARTITIONS_CHECK
from dbt_orchestration.dagster_internals import CheckStatus
from dbt_orchestration.history.partitions import newest
from dbt_orchestration.history.request import ROOT_TAG
from dbt_orchestration.ledger.attempts import built_since, built_until, first_attempt_of
from dbt_orchestration.ledger.failures import RunFailure
from dbt_orchestration.ledger.recorded import (
    COMPLETED,
    evaluation_in,
    executions,
    is_as_it_was,
    last_build,
)

_PLANNED = {
    dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED,
    dg.DagsterEventType.ASSET_CHECK_EVALUATION_PLANNED,
}


@dataclass(frozen=True)
class Left:
    """What is left of a build.

    Attributes:
        nodes: models, seeds and snapshots to build, by unique id.
        partitions: of those of them that are partitioned, which.
        checks: tests to run that are not on one of these nodes.
        failed: why, of nodes and tests that failed, by unique id; the others were not reached.
        said: why the build failed, if no node did; "" if its process died.
    """

    nodes: AbstractSet[str] = frozenset()
    partitions: Mapping[str, Sequence[str]] = field(default_factory=dict)
    checks: Collection[dg.AssetCheckKey] = ()
    failed: Mapping[str, str] = field(default_factory=dict)
    said: str = ""

    def __bool__(self) -> bool:
        return bool(self.nodes or self.checks)


def last_attempts(instance: dg.DagsterInstance, job: str) -> Sequence[dg.RunRecord]:
    """The last run of a job with all its retries, the first one first; empty if it never ran."""
    last = instance.get_run_records(dg.RunsFilter(job_name=job), limit=1)
    return attempts_with(instance, last[0].dagster_run) if last else ()


def attempts_with(instance: dg.DagsterInstance, run: dg.DagsterRun) -> Sequence[dg.RunRecord]:
    """A run with all that go on from the same first one, that first."""
    root = first_attempt_of(run)
    first = instance.get_run_record_by_id(root)
    retries = instance.get_run_records(dg.RunsFilter(tags={ROOT_TAG: root}), ascending=True)
    return [*([first] if first else []), *retries]


@dataclass(frozen=True)
class Unfinished:
    """A build that did not succeed, compared with what was built since it began.

    Attributes:
        attempts: its runs, the first one first.
    """

    instance: dg.DagsterInstance
    dbt: DbtAssets
    attempts: Sequence[dg.RunRecord]

    @property
    def is_empty(self) -> bool:
        """Whether it was to build nothing that the revision of ``dbt`` has."""
        planned = {*self.dbt.nodes.values()} & self._planned_assets
        return not planned and not self.dbt.checks.keys() & self._planned_checks

    def left(self, *, goes_on: bool = False) -> Left:
        """What of it is to be built now, at the revision of ``dbt``.

        A node whose test failed is built again with it: what the node reads may be mended.

        Args:
            goes_on: a run builds it that goes on from the attempts, and so finds by itself which
                partitions they were to build and have not. Otherwise they are named.
        """
        planned = {u: key for u, key in self.dbt.nodes.items() if key in self._planned_assets}
        checks = {key for key in self.dbt.checks if key in self._planned_checks}
        records = self.instance.get_asset_records(list(planned.values()))
        last = {r.asset_entry.asset_key: last_build(self.instance, r) for r in records}
        built = {key: b.timestamp for key, b in last.items() if b and b.timestamp >= self._began}
        failing, undone = self._not_passed(checks, built)
        again = {u for u, key in planned.items() if key in failing}
        partitioned = {u for u in planned if self.dbt.env.model(u)}
        nodes = {u for u, key in planned.items() if key not in built or u in again} - partitioned
        partitions: dict[str, Sequence[str]] = {}
        if goes_on:
            complete = {dg.AssetCheckKey(planned[u], PARTITIONS_CHECK): u for u in partitioned}
            _, missing = self._not_passed(complete, built)
            nodes |= {complete[check] for check in missing} | (partitioned & again)
        else:
            found = {u: self._partitions(u, whole=u in again) for u in partitioned}
            partitions = {u: keys for u, keys in found.items() if keys}
            nodes |= partitions.keys()
        with_them = {planned[u] for u in nodes}
        alone = [key for key in sorted(undone) if key.asset_key not in with_them]
        tests = {self.dbt.checks[key] for key in undone}
        failures = [RunFailure.of(self.instance, r.dagster_run.run_id) for r in self.attempts]
        failed = {u: each.why for one in failures for u, each in one.nodes.items()}
        return Left(
            nodes,
            partitions,
            alone,
            {u: why for u, why in failed.items() if u in nodes or u in tests},
            next((one.said for one in reversed(failures) if one.said and not one.nodes), ""),
        )

    @cached_property
    def _planned(self) -> Sequence[dg.EventLogRecord]:
        first = self.attempts[0].dagster_run.run_id
        return self.instance.get_records_for_run(first, of_type=_PLANNED).records

    @cached_property
    def _planned_assets(self) -> AbstractSet[dg.AssetKey]:
        return {r.asset_key for r in self._planned if r.asset_key}

    @cached_property
    def _planned_checks(self) -> AbstractSet[dg.AssetCheckKey]:
        kind = dg.DagsterEventType.ASSET_CHECK_EVALUATION_PLANNED
        events = [r.event_log_entry.dagster_event for r in self._planned]
        return {
            e.asset_check_planned_data.asset_check_key for e in events if e and e.event_type is kind
        }

    @property
    def _began(self) -> float:
        """In seconds since 1970: what was built later, was built by this or since."""
        return self.attempts[0].create_timestamp.timestamp()

    def _not_passed(
        self, checks: Collection[dg.AssetCheckKey], built: Mapping[dg.AssetKey, float]
    ) -> tuple[AbstractSet[dg.AssetKey], AbstractSet[dg.AssetCheckKey]]:
        """Assets that a test failed on since they were built, and all tests that did not pass."""
        storage, failing, undone = self.instance.event_log_storage, set(), set()
        latest = storage.get_latest_asset_check_execution_by_key(list(checks))
        for key in checks:
            record = latest.get(key)
            if record is None or record.status is CheckStatus.PLANNED or is_as_it_was(record):
                record = next(executions(self.instance, key, COMPLETED, 1), None)
            found = evaluation_in(record) if record else None
            when = record.event.timestamp if record and record.event else 0.0
            if found is None or when < self._began:
                undone.add(key)
            elif not found.passed and found.severity is not dg.AssetCheckSeverity.WARN:
                undone.add(key)
                if when >= built.get(key.asset_key, when):
                    failing.add(key.asset_key)
        return failing, undone

    def _partitions(self, unique_id: str, *, whole: bool) -> Sequence[str]:
        """Those of a node that the build was to build; without those that were, unless whole."""
        model, key, env = self.dbt.env.model(unique_id), self.dbt.keys[unique_id], self.dbt.env
        if model is None:
            return ()
        now, lookback = self.attempts[0].create_timestamp, env.environment.lookback
        since = built_since(self.instance, key, self._began)
        # Of what was built since it is not known whether it was there before: then it is more.
        wanted = newest(
            model, self.instance.get_materialized_partitions(key) - since, now, lookback
        )
        if since and not since.issuperset(wanted):
            wanted = newest(model, built_until(self.instance, key, self._began), now, lookback)
        return [k for k in wanted if whole or k not in since]
