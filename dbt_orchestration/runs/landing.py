"""What a run tells Dagster of each node, test and batch that dbt has done."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import dagster as dg

from dbt_orchestration.assets.context import EnvironmentContext
from dbt_orchestration.ledger.provenance import Record
from dbt_orchestration.runs.failures import Failures
from dbt_orchestration.runs.plan import RunPlan
from dbt_orchestration.runs.results import check_result, node_result, partition_results

Landed = dg.AssetMaterialization | dg.MaterializeResult[Any]


class Landing:
    """The results of one run.

    Args:
        record: what to record with a node, by unique id.
        types: of columns that the run leaves as they are: for each node type by column.

    Attributes:
        succeeded: partitions that were built, by unique id.
    """

    def __init__(
        self,
        env: EnvironmentContext,
        context: dg.AssetExecutionContext,
        failures: Failures,
        record: Callable[[str], Record],
        types: Mapping[str, Mapping[str, str]],
    ) -> None:
        self._env = env
        self._context = context
        self._failures = failures
        self._record = record
        self._types = types
        self.succeeded: dict[str, set[str]] = {}

    def results(self, work: RunPlan, event: Mapping[str, Any]) -> Iterator[Any]:
        """What one of dbt's result events comes to."""
        unique_id = event["data"]["node_info"]["unique_id"]
        env, key = self._env, self._env.keys.get(unique_id)
        if event["info"]["name"] == "LogTestResult":
            if unique_id in work.tests:
                check, fingerprint = work.tests[unique_id], env.revision.checks.get(unique_id)
                facts = self._failures.of_test(event, check)
                yield from check_result(event, check, fingerprint, facts)
        elif key and unique_id in work.partitions:
            self._forget_lost(work, unique_id, key)
            yield from self._selected(
                partition_results(
                    event,
                    key,
                    env.partitioned(unique_id),
                    work.partitions[unique_id],
                    self.succeeded.setdefault(unique_id, set()),
                    record=self._record(unique_id),
                    facts=self._facts(unique_id),
                )
            )
        elif key and key in self._context.selected_asset_keys:
            if self._context.instance.get_materialized_partitions(key):
                # Of a time when it had partitions. They must not count if it has some again.
                self._context.instance.wipe_assets([key])
            yield from node_result(event, key, self._record(unique_id), self._facts(unique_id))

    def swapped(self, work: RunPlan, unique_id: str, events: Sequence[Landed]) -> Iterator[Landed]:
        """A table that has just come into its place: all of its partitions, the oldest first."""
        if unique_id not in work.partitions:
            yield from events
            return
        partitions = work.partitions[unique_id]
        key, record = self._env.keys[unique_id], self._record(unique_id)
        known = {str(e.partition): e for e in events if isinstance(e, dg.AssetMaterialization)}
        every = sorted({*partitions.keys, *partitions.succeeded})
        before = self._context.instance.get_materialized_partitions(key)
        if lost := before - set(every):
            # Dagster cannot forget one partition. The old table had these, the new one has not.
            self._context.log.warning(f"{unique_id}: the table has {len(lost)} partitions less.")
            self._context.instance.wipe_assets([key])
        for partition in every:
            event = known.get(partition)
            yield event or dg.AssetMaterialization(
                key, partition=partition, metadata=record.metadata, tags=record.partition_tags
            )

    def _forget_lost(self, work: RunPlan, unique_id: str, key: dg.AssetKey) -> None:
        """Forget partitions that a table which dbt recreates in its place does not get."""
        if unique_id not in work.rebuilt or unique_id in {*work.shadow, *self.succeeded}:
            return
        wanted = work.partitions[unique_id]
        if not wanted.resumed:
            before = self._context.instance.get_materialized_partitions(key)
            if before - set(wanted.keys):
                # Dagster cannot forget one partition. Those that land are recorded again.
                self._context.instance.wipe_assets([key])

    def _facts(self, unique_id: str) -> Mapping[str, dg.MetadataValue[Any]]:
        return self._env.columns.metadata(unique_id, self._types.get(unique_id, {}))

    def _selected(self, results: Iterator[Any]) -> Iterator[Any]:
        checks = self._context.selected_asset_check_keys
        selected = {(key.asset_key, key.name) for key in checks}
        for result in results:
            if (
                not isinstance(result, dg.AssetCheckResult)
                or (result.asset_key, result.check_name) in selected
            ):
                yield result
