"""What a run would do, for people: the plan is the one that the run itself would make."""

from __future__ import annotations

from collections.abc import Iterator

import dagster as dg

from dbt_orchestration.assets.dbt_assets import DbtAssets
from dbt_orchestration.history.rebuild import parents_first
from dbt_orchestration.ledger.due import minutes
from dbt_orchestration.runs.plan import Planner, RunPlan, batches_of
from dbt_orchestration.runs.request import BuildRequest
from dbt_orchestration.settings.types import named


def preview(dbt: DbtAssets, instance: dg.DagsterInstance, request: BuildRequest) -> str:
    """A table of what is built, in Markdown, and what one should know of it.

    Raises:
        PartitionError: the request cannot be met; the run would say the same.
    """
    plan = Planner(dbt.env, instance, request).plan(lambda _: False)
    rows, total = [], 0.0
    for u in parents_first(dbt.manifest, plan.nodes):
        last = plan.stands.built.get(u)
        count = len(plan.partitions[u].keys) if u in plan.partitions else 1
        seconds = last.seconds * count if last else 0.0
        total += seconds
        about = minutes(seconds) if last else "?"
        rows.append(f"| {dbt.keys[u].path[-1]} | {_what(plan, u)} | {about} |")
    lines = ["| model | what is built | about |", "| --- | --- | --- |", *rows, ""]
    lines += [f"{note}\n" for note in _notes(dbt, plan)]
    tests = f", and {len(plan.tests)} tests" if len(plan.tests) > 1 else ""
    lines.append(f"About {minutes(total)} of the warehouse, by what was recorded last{tests}.")
    return "\n".join(lines)


def _what(plan: RunPlan, unique_id: str) -> str:
    whole = unique_id in plan.rebuilt
    if unique_id not in plan.partitions:
        return "from nothing" if whole else "as a whole"
    keys = plan.partitions[unique_id].keys
    count = f"{len(keys):,} partitions, {keys[0]} to {keys[-1]}"
    count = f"the partition {keys[0]}" if len(keys) == 1 else count
    return f"from nothing: {count}" if whole else count


def _notes(dbt: DbtAssets, plan: RunPlan) -> Iterator[str]:
    names = {u: dbt.keys[u].path[-1] for u in plan.nodes}
    if plan.shadow:
        shown = ", ".join(sorted(names[u] for u in plan.shadow))
        yield f"{shown}: the old table stays until the new one has passed its tests."
    if waiting := sorted(names[u] for u in plan.waiting if u in names):
        yield (
            f"{', '.join(waiting)}: its change calls for a table that is built from nothing; that"
            f" still waits for somebody to launch {named(dbt.env.name, 'rebuild_history')}."
        )
    yield from batches_of(plan)
