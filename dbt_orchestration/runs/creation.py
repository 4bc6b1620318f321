"""A run that adds to a table waits for one that creates or recreates it.

dbt looks for the table when a model starts, and creates it with the first batch. Two runs that find
none would both create it, and one would lose its batches. What a run adds to a table while another
one recreates that table is gone when the new table takes its place.

A run that somebody wants at once may work at the same time as others. It waits for an earlier one,
and a later one waits for it, where the one builds what the other builds or reads.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import dagster as dg

from dbt_orchestration.dagster_internals import PlainFailure
from dbt_orchestration.ledger.attempts import built_by, planned_by
from dbt_orchestration.ledger.built import read_built
from dbt_orchestration.ledger.run_tags import AHEAD_TAG, RECREATES_TAG
from dbt_orchestration.runs.crossing import Crossing

_NOTHING, _TOO_MANY = "nothing", "more than fit here"
_POLL_SECONDS = 1.0
_MOST_HOURS = 6
# PostgreSQL keeps no value in an index that is much longer.
_MOST_CHARACTERS = 1_000
# dbt recreates these each time, in one statement or the same for everybody.
_REPLACED = frozenset({"view", "table", "seed", "ephemeral"})


def adds_to_its_table(node: Mapping[str, Any]) -> bool:
    """Whether what a node's table holds depends on more than the last run that built it."""
    return node["config"].get("materialized") not in _REPLACED


def say_recreated(context: dg.AssetExecutionContext, keys: Collection[dg.AssetKey]) -> None:
    """Tell other runs which tables this one recreates.

    The tag names this run: one that retries it gets its tags.
    """
    said = ", ".join(sorted(key.path[-1] for key in keys)) or _NOTHING
    if len(said) > _MOST_CHARACTERS:
        said = _TOO_MANY
    run_id = context.run.run_id
    context.instance.add_run_tags(run_id, {RECREATES_TAG: f"{run_id[:8]}: {said}"})


def wait_for_tables(
    context: dg.AssetExecutionContext, keys: Mapping[str, dg.AssetKey], crossing: Crossing
) -> None:
    """Wait while a run that started earlier creates or recreates one of these tables.

    Runs never wait for those that started after them, so none waits for another that waits for it.

    Args:
        keys: asset keys by unique id.
        crossing: what counts between two runs one of which somebody wants at once.

    Raises:
        dagster.Failure: that takes too long. A run that waits keeps others from the warehouse.
    """
    ahead = AHEAD_TAG in context.run.tags
    earlier = _Earlier(context.instance, context.run.run_id, keys, crossing, ahead)
    said: set[str] = set()
    until = time.monotonic() + _MOST_HOURS * 3_600
    while waiting := dict(earlier.busy()):
        for run_id, why in waiting.items():
            if (text := f"Waiting for run {run_id[:8]}, which {why}.") not in said:
                said.add(text)
                context.log.info(text)
        if time.monotonic() >= until:
            runs = "; ".join(f"run {run_id[:8]}, which {why}" for run_id, why in waiting.items())
            raise PlainFailure(
                f"Waited {_MOST_HOURS} hours for {runs}. If it is stuck, terminate it; then"
                " re-execute this run.",
                allow_retries=False,
            )
        time.sleep(_POLL_SECONDS)


@dataclass(frozen=True)
class _Earlier:
    """What runs that started before this one do to its tables."""

    instance: dg.DagsterInstance
    run_id: str
    keys: Mapping[str, dg.AssetKey]
    crossing: Crossing
    ahead: bool
    _planned: dict[str, Collection[dg.AssetKey]] = field(default_factory=dict)

    def busy(self) -> Iterator[tuple[str, str]]:
        """Those to wait for, and why."""
        own = self.instance.get_run_record_by_id(self.run_id)
        if own is None:
            return
        # One that is being terminated may still send what it has begun.
        working = [dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING]
        started = dg.RunsFilter(statuses=working)
        for record in self.instance.get_run_records(started):
            run = record.dagster_run
            if _order(record) < _order(own) and (why := self._crossed(run) or self._why(run)):
                yield run.run_id, why

    def _crossed(self, run: dg.DagsterRun) -> str:
        if self.ahead or AHEAD_TAG in run.tags:
            done = built_by(self.instance, run)
            for name in self.crossing.shared(self._builds(run), done):
                return f"builds {name}"
        return ""

    def _why(self, run: dg.DagsterRun) -> str:
        shared = {u: key for u, key in self.keys.items() if key in self._builds(run)}
        if not shared:
            return ""
        if new := shared.keys() - read_built(self.instance, shared).keys():
            return f"creates {_name(shared, new)}"
        who, _, names = run.tags.get(RECREATES_TAG, "").partition(": ")
        if who != run.run_id[:8]:
            return f"has still to say what it does to {_name(shared, shared)}"
        if names == _NOTHING:
            return ""
        recreated = {
            u for u in shared if names == _TOO_MANY or _name(shared, [u]) in names.split(", ")
        }
        if recreated and (
            left := {u for u in recreated if shared[u] not in built_by(self.instance, run)}
        ):
            return f"recreates {_name(shared, left)}"
        return ""

    def _builds(self, run: dg.DagsterRun) -> Collection[dg.AssetKey]:
        if run.run_id not in self._planned:
            self._planned[run.run_id] = planned_by(self.instance, run)
        return self._planned[run.run_id]


def _order(record: dg.RunRecord) -> tuple[float, str]:
    return record.start_time or 0.0, record.dagster_run.run_id


def _name(keys: Mapping[str, dg.AssetKey], unique_ids: Collection[str]) -> str:
    return keys[min(unique_ids)].path[-1]
