"""What a run would do, for people: the plan is the one that the run itself would make."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import dagster as dg

from dbt_orchestration.assets.dbt_assets import DbtAssets
from dbt_orchestration.changes.policy import HistoryPolicy
from dbt_orchestration.history.rebuild import parents_first
from dbt_orchestration.ledger.costs import credits_of
from dbt_orchestration.ledger.due import minutes
from dbt_orchestration.runs.plan import Planner, RunPlan, batches_of
from dbt_orchestration.runs.request import BuildRequest
from dbt_orchestration.settings.types import named


def preview(
    dbt: DbtAssets,
    instance: dg.DagsterInstance,
    request: BuildRequest,
    attempts: Sequence[dg.RunRecord] = (),
) -> str:
    """A table of what is built, in Markdown, and what one should know of it.

    Args:
        attempts: that the run goes on from, the first one first.

    Raises:
        PartitionError: the request cannot be met; the run would say the same.
    """
    # As that run will have it, which is then the last attempt itself.
    chain = [*attempts[-1:], *reversed(attempts)]
    plan = Planner(dbt.env, instance, request, chain).plan(lambda _: True)
    anew = {u for u, node in plan.nodes.items() if request.config.full_refresh and _is_kept(node)}
    keys = {u: dbt.keys[u] for u in plan.nodes}
    cost = credits_of(instance, keys.values()) if dbt.env.environment.credits else {}
    rows, total, spent = [], 0.0, 0.0
    for u in parents_first(dbt.manifest, plan.nodes):
        last = plan.stands.built.get(u)
        count = 0 if u in plan.put_back else 1
        count = len(plan.partitions[u].keys) if u in plan.partitions else count
        seconds = last.seconds * count if last else 0.0
        total += seconds
        credits = cost.get(keys[u], 0.0) * count
        spent += credits
        about = [minutes(seconds) if last else "?"]
        about += [f"{credits:.3g}" if keys[u] in cost else "?"] if cost else []
        what = _what(plan, u, u in {*plan.rebuilt, *anew})
        rows.append(f"| {' | '.join([keys[u].path[-1], what, *about])} |")
    heads = ["model", "what is built", "about", *(["credits"] if cost else [])]
    headings = [f"| {' | '.join(heads)} |", f"|{' --- |' * len(heads)}"]
    lines = [*headings, *rows, ""] if rows else []
    lines += [f"{note}\n" for note in _notes(dbt, plan)]
    tests = f", and {len(plan.tests)} tests" if len(plan.tests) > 1 else ""
    lasts = f"About {minutes(total)} of the warehouse"
    lasts += f" and {spent:.3g} credits" if cost else ""
    lines.append(f"{lasts}, by what was recorded last{tests}.")
    return "\n".join(lines)


def _is_kept(node: Mapping[str, Any]) -> bool:
    """Whether a build without ``full_refresh`` leaves what is in a node's table."""
    kept = HistoryPolicy.of(node).incremental or node["resource_type"] == "seed"
    return kept and node["config"].get("full_refresh") is not False


def _what(plan: RunPlan, unique_id: str, whole: bool) -> str:
    back = plan.put_back.get(unique_id)
    if unique_id not in plan.partitions:
        if not back:
            return "from nothing" if whole else "as a whole"
        if was := back.table.former:
            return f"nothing: it is copied from {was}"
        return f"nothing: its table of {back.day} is put back"
    keys = plan.partitions[unique_id].keys
    count = f"{len(keys):,} partitions, {keys[0]} to {keys[-1]}"
    count = f"the partition {keys[0]}" if len(keys) == 1 else count
    if back and back.table.former:
        return f"{count}; {len(back.partitions):,} others are copied from {back.table.former}"
    if back:
        return f"{count}; {len(back.partitions):,} others are put back as of {back.day}"
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
