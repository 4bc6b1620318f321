"""The sensor that has dbt docs of each commit written once it is built, by the job of the form.

It remembers nothing: the runs of the job say which commit the docs are of, and what was tried.
"""

from __future__ import annotations

import dagster as dg

from dbt_orchestration import dagster_internals
from dbt_orchestration.automation.cursors import read_cursor
from dbt_orchestration.automation.outcome import Finding, Outcome
from dbt_orchestration.automation.tick import title
from dbt_orchestration.dbt.parse import Revision
from dbt_orchestration.ledger.attempts import UNFINISHED
from dbt_orchestration.ledger.held import held, paused
from dbt_orchestration.ledger.run_tags import DOCS_TAG, REVISION_TAG, run_tags
from dbt_orchestration.revisions.store import published
from dbt_orchestration.settings.types import named

_TICK_SECONDS = 15
# What the push sensor finds when nothing of a commit is built any more without a person.
_BUILT = {Outcome.NOTHING_DUE, Outcome.TRIED, Outcome.WAITS_FOR_APPROVAL}
_ENDED_BADLY = [dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]
# A build that waits in the queue comes before it.
_IN_ITS_TURN = {"dagster/priority": "0"}


def docs_sensor(environment: str, revision: Revision, job: dg.JobDefinition) -> dg.SensorDefinition:
    """The sensor of an environment that follows a branch.

    Args:
        revision: a commit.
        job: writes the docs, and leaves with its run which revision they are of.
    """

    @dg.sensor(
        name=named(environment, "docs"),
        job=job,
        minimum_interval_seconds=_TICK_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Has dbt docs of each commit written, once what is due is built.",
    )
    def look(context: dg.SensorEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        if waits := _waits(context, environment, revision):
            return dg.SkipReason(waits)
        instance, what = context.instance, title(revision)
        ended = dg.RunsFilter(job_name=job.name, statuses=[dg.DagsterRunStatus.SUCCESS])
        last = next(iter(instance.get_runs(ended, limit=1)), None)
        if last and last.tags.get(REVISION_TAG) == revision.digest:
            return dg.SkipReason(f"{what}: its dbt docs are written.")
        working = dg.RunsFilter(job_name=job.name, statuses=UNFINISHED)
        if runs := instance.get_runs(working, limit=1):
            return dg.SkipReason(f"{what}: run {runs[0].run_id[:8]} writes dbt docs.")
        # Once for a commit, and again if the docs have been of another one since.
        key = f"{revision.digest} {last.run_id if last else ''}".strip()
        asked = dg.RunsFilter(job_name=job.name, tags={DOCS_TAG: key}, statuses=_ENDED_BADLY)
        if tried := instance.get_runs(asked, limit=1):
            said = f"run {tried[0].run_id[:8]} did not write its dbt docs. Launch {job.name}"
            return dg.SkipReason(f"{what}: {said} when the cause is gone, or push a remedy.")
        tags = run_tags(environment, revision, "dbt docs of what was pushed")
        return dg.RunRequest(run_key=key, tags={**tags, **_IN_ITS_TURN, DOCS_TAG: key})

    return look


def _waits(context: dg.SensorEvaluationContext, environment: str, revision: Revision) -> str:
    """What has to be first; "" if nothing."""
    instance = context.instance
    if pause := paused(instance, environment):
        return str(pause)
    assert revision.commit is not None
    if (hold := held(instance, environment)) and hold.sha != revision.commit.sha:
        return str(hold)
    if published(environment, instance.defs_state_storage) != revision.digest:
        return "Waiting for another commit to be loaded."
    known = read_cursor(dagster_internals.sensor_cursor(context, named(environment, "push")))
    built = Finding.of(known.get("built")) if known.get("revision") == revision.digest else None
    if built is None or built.outcome not in _BUILT:
        return f"{title(revision)}: waiting for its build."
    return ""
