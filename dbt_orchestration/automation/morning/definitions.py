"""The asset with the morning page, and the sensor that writes it after each daily build.

Dagster reads the annotations: they are no strings, as ``annotations`` of ``__future__`` would be.
"""

import time
from typing import Any

import dagster as dg

from dbt_orchestration import dagster_internals
from dbt_orchestration.assets.dbt_assets import DbtAssets
from dbt_orchestration.assets.translator import ENVIRONMENT, group_of
from dbt_orchestration.automation.jobs import daily_schedule, daily_tags
from dbt_orchestration.automation.morning.page import Page
from dbt_orchestration.automation.morning.read import Reader
from dbt_orchestration.automation.outcome import findings
from dbt_orchestration.automation.telling.texts import TEXTS
from dbt_orchestration.ledger.attempts import is_going_on
from dbt_orchestration.settings.models import Settings
from dbt_orchestration.settings.types import named

PAGE = "morning_page"
_TICK_SECONDS = 30


def morning_definitions(
    settings: Settings, environment: str, dbt: DbtAssets
) -> tuple[dg.AssetsDefinition, dg.SensorDefinition]:
    """The asset and the sensor of an environment.

    Nothing reads the page and it reads no asset, so it is never out of date, and nothing is due
    because of it.
    """
    key = dg.AssetKey([environment, PAGE])

    @dg.asset(
        key=key,
        group_name=group_of(environment, "pushes"),
        tags={ENVIRONMENT: environment},
        kinds={"markdown"},
        description=f"How {environment} is: what failed, what is late, what waits for a person,"
        " what pushes built, what it cost. Written after each daily build; materialize it for a"
        " page of now.",
    )
    def write(context: dg.AssetExecutionContext) -> dg.MaterializeResult[Any]:
        return dg.MaterializeResult(metadata=_written(settings, environment, dbt, context))

    @dg.sensor(
        name=named(environment, PAGE),
        minimum_interval_seconds=_TICK_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Writes the morning page when the daily build has ended.",
    )
    def look(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        instance = context.instance
        runs = instance.get_runs(dg.RunsFilter(tags=daily_tags(environment)), limit=1)
        if not runs:
            return dg.SkipReason("There was no daily build yet.")
        if is_going_on(instance, runs[0], time.time()):
            return dg.SkipReason(f"The daily build goes on: run {runs[0].run_id[:8]}.")
        if context.cursor == runs[0].run_id:
            return dg.SkipReason("The page of the last daily build is written.")
        page = dg.AssetMaterialization(key, metadata=_written(settings, environment, dbt, context))
        said = "The daily build has ended: the page is written."
        return dg.SensorResult(asset_events=[page], skip_reason=said, cursor=runs[0].run_id)

    return write, look


def _written(
    settings: Settings, environment: str, dbt: DbtAssets, context: dagster_internals.Context
) -> dict[str, Any]:
    """The page, and its figures, which Dagster plots."""
    build, notify = settings.environment(environment).full_build, settings.notify_of(environment)
    morning = Reader(
        settings,
        environment,
        context.instance,
        dbt,
        findings(dagster_internals.sensor_cursor(context, named(environment, "push"))),
        dagster_internals.on_since(context, daily_schedule(environment), build.enabled),
        time.time(),
    ).morning()
    texts = TEXTS[settings.language_of(environment)]
    url = (notify.dagster_url if notify else None) or ""
    return {
        "page": dg.MetadataValue.md(Page(texts, build.timezone, url).write(morning)),
        "failed": len(morning.failed),
        "late": len(morning.late),
        "waits for you": len(morning.waits) + morning.tried,
        "pushes": len(morning.pushes),
        "seconds in 7 days": round(sum(each.seconds for each in morning.spent), 1),
    }
