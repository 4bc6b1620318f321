"""Builds that people ask for in a form, and the sensor that starts them."""

import json
from datetime import UTC, datetime, timedelta

import dagster as dg

from dbt_orchestration.assets.dbt_assets import DbtAssets, of_environment
from dbt_orchestration.ledger.run_tags import FORM_TAG, USER_TAG, WHY_TAG, shortened
from dbt_orchestration.operations.form import Answer
from dbt_orchestration.revisions.store import published
from dbt_orchestration.runs.request import BuildRequest
from dbt_orchestration.settings.types import named

_TICK_SECONDS = 5
# The daemon may have been down for so long. Dagster starts each only once, by its run key.
_LOOK_BACK = timedelta(days=1)
_TWICE = "asks for what another one asked for at the same time: only one of them is started"


def asked_sensor_name(environment: str) -> str:
    """What the sensor is called."""
    return named(environment, "rebuild")


def asks_for(
    dbt: DbtAssets, request: BuildRequest, plan: str, said: str, reason: str, *, only_shows: bool
) -> Answer:
    """What a form answers that asks for a run, or only shows what it would do.

    Args:
        said: what is wanted, in words.
    """
    if only_shows:
        return Answer(plan, f"what {said} would do")
    sensor = asked_sensor_name(dbt.env.name)
    return Answer(
        plan,
        f"wants {said}: {reason}",
        f"The sensor {sensor} starts it within seconds as a run of its own: see Runs.",
        request.as_tags(dbt),
    )


def asked_sensor(environment: str, dbt: DbtAssets) -> dg.SensorDefinition:
    """Starts what the run of a form asks for with ``BuildRequest.as_tags``."""

    @dg.sensor(
        name=asked_sensor_name(environment),
        asset_selection=of_environment(dbt),
        minimum_interval_seconds=_TICK_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Starts the builds that people asked for in a form.",
    )
    def start(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        forms = context.instance.get_runs(
            dg.RunsFilter(
                tags={FORM_TAG: environment},
                statuses=[dg.DagsterRunStatus.SUCCESS],
                updated_after=datetime.now(UTC) - _LOOK_BACK,
            )
        )
        newest = published(environment, context.instance.defs_state_storage)
        asked = [
            run
            for run in forms
            if BuildRequest.is_in(run.tags)
            # A form may know of a commit that this code location has still to load.
            if BuildRequest.revision_in(run.tags) != newest or newest == dbt.env.revision.digest
        ]
        done = set(json.loads(context.cursor or "[]"))
        requests, said, wanted = [], [], []
        for run in reversed(asked):  # the one that was asked first
            if run.run_id in done:
                continue
            try:
                request = BuildRequest.of_tags(dbt, run.tags)
                problem = _TWICE if request in wanted else ""
            except KeyError as error:
                problem = f"cannot be done any more: {error} is gone"
            if problem:
                context.instance.add_run_tags(run.run_id, {WHY_TAG: shortened(problem)})
                said.append(f"Run {run.run_id[:8]} {problem}.")
                continue
            wanted.append(request)
            why = f"run {run.run_id[:8]} {run.tags.get(WHY_TAG, 'asks to rebuild it')}"
            who = {tag: run.tags[tag] for tag in (USER_TAG,) if tag in run.tags}
            requests.append(request.run_request(dbt, f"rebuild {run.run_id}", why, who))
        return dg.SensorResult(
            run_requests=requests,
            skip_reason=None if requests else " ".join(said) or "Nobody has asked for anything.",
            cursor=json.dumps(sorted(run.run_id for run in asked)),
        )

    return start
