"""Going on with the daily build: what failed in it, and what was not reached because of that."""

from __future__ import annotations

import time
from datetime import datetime
from zoneinfo import ZoneInfo

import dagster as dg
from pydantic import Field

from dbt_orchestration.history.order import Order
from dbt_orchestration.ledger.attempts import is_going_on
from dbt_orchestration.ledger.unfinished import Left, Unfinished, last_attempts
from dbt_orchestration.operations.asked import asked_sensor_name
from dbt_orchestration.operations.form import Answer, RefusedError, form_job, reason_of
from dbt_orchestration.operations.left_shown import refuse_twice, what_happened
from dbt_orchestration.operations.loaded import Loaded
from dbt_orchestration.operations.preview import preview
from dbt_orchestration.runs.request import BuildRequest, ranges
from dbt_orchestration.settings.types import FULL_BUILD, named

_NAMED = 5


class ResumeForm(dg.Config):
    """Whether to go on."""

    reason: str = Field(default="", description="Why, for whoever looks at it later.")
    dry_run: bool = Field(
        default=False, description="True: only show what is left. False: build it."
    )


def resume_build_job(loaded: Loaded) -> dg.JobDefinition:
    """The form as a job."""

    def answer(instance: dg.DagsterInstance, form: ResumeForm) -> Answer:
        reason = reason_of(form.reason, needed=False)
        at = loaded.newest(instance)
        attempts = last_attempts(instance, named(at.name, FULL_BUILD))
        if not attempts:
            return _nothing(f"There was no daily build of {at.name} yet.")
        run, which = attempts[-1].dagster_run, _which(at, attempts[0])
        if is_going_on(instance, run, time.time()):
            raise RefusedError(f"{which} still goes on: wait for run {run.run_id[:8]}")
        if run.status is dg.DagsterRunStatus.SUCCESS:
            return _nothing(f"{which} has succeeded.")
        left = Unfinished(instance, at.dbt, attempts).left()
        if not left:
            return _nothing(f"All that {which} did not build was built since.")
        refuse_twice(at, instance, left)
        order = Order(partitions=ranges(at.dbt, left.partitions))
        request = BuildRequest.of_nodes(at.dbt, left.nodes, order, left.checks)
        text = "\n\n".join(
            [
                *what_happened(at, f"{which[0].upper()}{which[1:]}", left),
                preview(at.dbt, instance, request),
            ]
        )
        names = _names(at, left)
        why = ", ".join(names[:_NAMED])
        why += f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        first = attempts[0].dagster_run.run_id[:8]
        if form.dry_run:
            return Answer(text, f"what is left of the daily build {first}: {why}")
        return Answer(
            text,
            f"goes on with the daily build {first}{reason and f' ({reason})'}: {why}",
            f"The sensor {asked_sensor_name(at.name)} starts it within seconds as a run of its own:"
            " see Runs.",
            request.as_tags(at.dbt),
        )

    return form_job(
        loaded.name,
        "resume_daily_build",
        ResumeForm,
        answer,
        "Build what is left of the last daily build, on the newest commit that is loaded: what"
        " failed and what was not reached, without what was built since. One click.",
        op="resume_build",
    )


def _nothing(said: str) -> Answer:
    line = f"Nothing was started: nothing is left. {said}"
    return Answer(said, "nothing is left of the daily build", line)


def _which(at: Loaded, first: dg.RunRecord) -> str:
    zone = ZoneInfo(at.settings.environment(at.name).full_build.timezone)
    began = datetime.fromtimestamp(first.create_timestamp.timestamp(), zone)
    return f"the daily build of {began:%Y-%m-%d %H:%M} (run {first.dagster_run.run_id[:8]})"


def _names(at: Loaded, left: Left) -> list[str]:
    return [*sorted(at.dbt.keys[u].path[-1] for u in left.nodes), *(c.name for c in left.checks)]
