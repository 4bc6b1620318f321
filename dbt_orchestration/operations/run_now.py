"""Running models at once, in an emergency: ahead of the queue, and beside a run that works."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from typing import Any

import dagster as dg
from pydantic import Field

from dbt_orchestration import dagster_internals
from dbt_orchestration.history.order import Order
from dbt_orchestration.ledger.attempts import built_by, planned_by, unfinished_runs
from dbt_orchestration.ledger.run_tags import AHEAD_TAG, FORM_TAG
from dbt_orchestration.markdown import inline
from dbt_orchestration.operations.asked import asked_sensor_name
from dbt_orchestration.operations.chosen import choose
from dbt_orchestration.operations.form import (
    AHEAD,
    DRY_RUN,
    Answer,
    form_job,
    only_shows,
    reason_of,
)
from dbt_orchestration.operations.loaded import Loaded
from dbt_orchestration.operations.preview import preview
from dbt_orchestration.runs.config import BuildConfig
from dbt_orchestration.runs.crossing import Crossing
from dbt_orchestration.runs.request import BuildRequest

_NAMED = 5


class RunNowForm(dg.Config):
    """What to run at once."""

    select: str = Field(
        default="", description="Names of models, or dbt's selection: fct_orders+ tag:finance"
    )
    exclude: str = Field(default="", description="But for these: likewise.")
    full_refresh: bool = Field(
        default=False,
        description="Rebuild whole tables of incremental models and seeds from nothing.",
    )
    vars: dict[str, Any] = Field(
        default={}, description="dbt vars for this run, for example {days: 3}."
    )
    exclude_tests: bool = Field(default=False, description="Build without running any test.")
    reason: str = Field(
        default="", description="Why it cannot wait. It stands on the run, for everybody."
    )
    dry_run: bool | None = Field(default=None, description=f"{DRY_RUN} a full refresh.")


def run_now_job(loaded: Loaded) -> dg.JobDefinition:
    """The form as a job."""

    def answer(instance: dg.DagsterInstance, form: RunNowForm) -> Answer:
        at = loaded.newest(instance)
        nodes = choose(at.dbt, form.select, form.exclude)
        reason = reason_of(form.reason)
        config = BuildConfig(
            full_refresh=form.full_refresh, vars=form.vars, exclude_tests=form.exclude_tests
        )
        request = BuildRequest.of_nodes(
            at.dbt, nodes, Order(), config=config, tags={**AHEAD, AHEAD_TAG: at.name}
        )
        text = "\n\n".join(
            [
                preview(at.dbt, instance, request),
                *_when(at, instance, nodes),
                f"Reason: {inline(reason)}",
            ]
        )
        if only_shows(form.dry_run, costly=form.full_refresh):
            return Answer(text, f"what it would take to run {form.select} now")
        return Answer(
            text,
            f"wants {form.select} at once: {reason}",
            f"The sensor {asked_sensor_name(at.name)} starts it within seconds as a run of its own,"
            " ahead of the queue: see Runs.",
            request.as_tags(at.dbt),
        )

    return form_job(
        loaded.name,
        "run_now",
        RunNowForm,
        answer,
        "Run models at once, on the newest commit that is loaded, ahead of the queue, with the"
        " reason on record. Works at the same time as other runs where they share no table.",
        op="now",
    )


def _when(at: Loaded, instance: dg.DagsterInstance, nodes: AbstractSet[str]) -> Iterator[str]:
    """When it starts, beside what works at this moment."""
    pool = at.settings.pool
    begun = [
        run for run in unfinished_runs(instance) if run.status is not dg.DagsterRunStatus.QUEUED
    ]
    working = [run for run in begun if FORM_TAG not in run.tags]
    crossing = Crossing(at.dbt.env, nodes)
    for run in working:
        who = f"Run {run.run_id[:8]}"
        if shared := crossing.shared(planned_by(instance, run), built_by(instance, run)):
            names = ", ".join(map(inline, shared[:_NAMED]))
            more = f" and {len(shared) - _NAMED} more" if len(shared) > _NAMED else ""
            yield f"{who} has still to build {names}{more}: this waits until that is built."
        else:
            yield f"{who} shares no table with this: neither waits for the other."
    in_pool = sum(pool in dagster_internals.pools_of(run) for run in begun)
    limit = dagster_internals.pool_limit(instance, pool)
    if limit is not None and in_pool >= limit:
        yield (
            f"The warehouse takes {limit} {'run' if limit == 1 else 'runs'} at once (pool {pool}),"
            " and it is busy: this is the next to start."
        )
    elif not working:
        yield "Nothing else works on the warehouse."
