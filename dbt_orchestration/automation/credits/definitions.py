"""The job that writes down what runs cost, and the sensor that starts it when Snowflake knows.

Dagster reads the annotations: they are no strings, as ``annotations`` of ``__future__`` would be.
"""

import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

import dagster as dg

from dbt_orchestration.assets.dbt_assets import DbtAssets
from dbt_orchestration.automation.credits.query import Credits, CreditsError, ask
from dbt_orchestration.dagster_internals import PlainFailure
from dbt_orchestration.ledger.attempts import UNFINISHED
from dbt_orchestration.ledger.costs import CREDITS, CREDITS_OF_TESTS
from dbt_orchestration.ledger.run_tags import COMMIT_TAG, CREDITS_TAG, ENVIRONMENT_TAG, WHY_TAG
from dbt_orchestration.markdown import table
from dbt_orchestration.settings.types import named

JOB = "credits"
# Snowflake's view is up to so many hours behind.
_LAG = timedelta(hours=8)
_LOOK_BACK = timedelta(days=14)
_MOST_RUNS = 1_000
_TICK_SECONDS = 300
# The question wakes a warehouse, which costs more than what it answers if it is asked all the time.
_PAUSE_SECONDS = 6 * 3600.0
_ASKS_TAG = ".dagster/dbt_asks_for_credits"


def credits_definitions(
    environment: str, dbt: DbtAssets
) -> tuple[dg.JobDefinition, dg.SensorDefinition]:
    """The job and the sensor of an environment on Snowflake."""
    op = named(environment, "ask_for_credits")

    @dg.op(name=op, description="Asks Snowflake what the queries of runs cost.")
    def read(context: dg.OpExecutionContext) -> None:
        records = _unknown(context.instance, environment, time.time())
        if not records:
            context.log.info("There is no run of which Snowflake would know by now.")
            return
        runs = {each.dagster_run.run_id: each.dagster_run for each in records}
        since = min(each.create_timestamp for each in records)
        until = datetime.fromtimestamp(max(each.end_time or 0.0 for each in records), UTC)
        try:
            found = ask(dbt.env.target.credentials(), since, until, runs)
        except CreditsError as error:
            raise PlainFailure(str(error), allow_retries=False) from None
        if not found:
            context.log.warning(
                "No query of these runs has a tag that names its run: see docs/morning.md."
            )
        for event in _observations(dbt, found, runs):
            context.log_event(event)
        lines = []
        for run in runs.values():
            total = sum(credits for (run_id, _), credits in found.items() if run_id == run.run_id)
            # Last: what dies before is asked again.
            context.instance.add_run_tags(run.run_id, {CREDITS_TAG: f"{total:.9f}"})
            lines.append((run.run_id[:8], run.tags.get(COMMIT_TAG, ""), f"{total:.6f}"))
        by_run = table(("run", "commit", "credits"), lines)
        context.add_output_metadata(
            {CREDITS: sum(found.values()), "runs": dg.MetadataValue.md(by_run)}
        )

    @dg.job(
        name=named(environment, JOB),
        description="Write down what runs cost. Snowflake knows that after 8 hours.",
        tags={_ASKS_TAG: environment, WHY_TAG: "what runs cost"},
        executor_def=dg.in_process_executor,
    )
    def job() -> None:
        read()

    @dg.sensor(
        name=named(environment, JOB),
        job=job,
        minimum_interval_seconds=_TICK_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Has it written down what runs cost, once Snowflake knows.",
    )
    def look(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        now, asked = time.time(), float(context.cursor or 0.0)
        if asked <= now < asked + _PAUSE_SECONDS:
            return dg.SkipReason("Snowflake was asked less than 6 hours ago.")
        asking = dg.RunsFilter(tags={_ASKS_TAG: environment}, statuses=UNFINISHED)
        if context.instance.get_runs(asking, limit=1):
            return dg.SkipReason("Snowflake is being asked.")
        if not _unknown(context.instance, environment, now):
            return dg.SkipReason("There is no run of which Snowflake would know by now.")
        return dg.SensorResult(run_requests=[dg.RunRequest()], cursor=str(now))

    return job, look


def _unknown(instance: dg.DagsterInstance, environment: str, now: float) -> Sequence[dg.RunRecord]:
    """Runs that ended so long ago that Snowflake knows what they cost, and Dagster does not."""
    begin = datetime.fromtimestamp(now, UTC) - _LOOK_BACK
    wanted = dg.RunsFilter(tags={ENVIRONMENT_TAG: environment}, created_after=begin)
    return [
        record
        for record in instance.get_run_records(wanted, limit=_MOST_RUNS)
        if record.end_time
        and record.end_time < now - _LAG.total_seconds()
        and CREDITS_TAG not in record.dagster_run.tags
    ]


def _observations(
    dbt: DbtAssets, found: Credits, runs: Mapping[str, dg.DagsterRun]
) -> Sequence[dg.AssetObservation]:
    """For each run and asset what its queries cost, and those of the tests on it."""
    tests = {test: check.asset_key for check, test in dbt.checks.items()}
    costs: dict[tuple[str, dg.AssetKey], dict[str, float]] = {}
    for (run_id, node), credits in found.items():
        key = dbt.nodes.get(node) or tests.get(node)
        if key:
            cost = costs.setdefault((run_id, key), {CREDITS: 0.0})
            name = CREDITS_OF_TESTS if node in tests else CREDITS
            cost[name] = cost.get(name, 0.0) + credits
    return [
        dg.AssetObservation(
            key,
            metadata={
                **cost,
                "run": dg.MetadataValue.dagster_run(run_id),
                "commit": runs[run_id].tags.get(COMMIT_TAG, ""),
            },
        )
        for (run_id, key), cost in costs.items()
    ]
