"""The asset that says what Lightdash was told, the job that tells it, and the sensor that looks.

No build waits for Lightdash, or fails with it. Once the tables are there, a run of its own tells
it; what it could not be told is red in the asset's checks, and is told again, after twice as long
each time.
"""

import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Any

import dagster as dg

from dbt_orchestration.assets.dbt_assets import DbtAssets
from dbt_orchestration.assets.translator import ENVIRONMENT, exposure_key, group_of
from dbt_orchestration.automation.cursors import read_cursor, write_cursor
from dbt_orchestration.automation.lightdash import shown
from dbt_orchestration.automation.lightdash.news import Reporter
from dbt_orchestration.automation.lightdash.telling import Telling
from dbt_orchestration.automation.pauses import LONGEST_PAUSE, pause_after
from dbt_orchestration.dbt.parse import Revision
from dbt_orchestration.ledger.attempts import UNFINISHED
from dbt_orchestration.ledger.built import last_results
from dbt_orchestration.ledger.present import place_in_the_log
from dbt_orchestration.ledger.provenance import commit_metadata
from dbt_orchestration.ledger.run_tags import LIGHTDASH_TAG, run_tags
from dbt_orchestration.settings.lightdash import Lightdash
from dbt_orchestration.settings.models import Settings
from dbt_orchestration.settings.types import named

_TELL = "tell_lightdash"
_ASKED_BY = ".dagster/dbt_asked_by"
_TICK_SECONDS = 15
# A build may go on for hours. What it has built is not to be shown as it was for so long.
_WAIT_SECONDS = 600.0


def lightdash_definitions(
    settings: Settings, environment: str, lightdash: Lightdash, revision: Revision, dbt: DbtAssets
) -> tuple[dg.AssetsDefinition, Any, dg.SensorDefinition]:
    """The asset, the job and the sensor of an environment whose tables ``lightdash`` shows."""
    key = dg.AssetKey([environment, "lightdash"])
    reporter = Reporter(settings, environment, revision, dbt, key)
    exposures = _exposures(revision.manifest, environment, lightdash)
    checked = {
        dg.AssetCheckKey(key, shown.UP_TO_DATE): "Lightdash knows what was built.",
        dg.AssetCheckKey(key, shown.VALID): "Lightdash finds all that its charts and dashboards"
        " show.",
        **{
            dg.AssetCheckKey(each, shown.EXPOSURE_VALID): "Lightdash finds all that it shows."
            for each in exposures
        },
    }

    # Not named as the job is: Dagster takes both for graphs of one name.
    @dg.multi_asset(
        name=named(environment, "lightdash"),
        specs=[
            dg.AssetSpec(
                key,
                group_name=group_of(environment, "lightdash"),
                tags={ENVIRONMENT: environment},
                kinds={"lightdash"},
                description=f"What {lightdash.url} was told of the tables of {environment}.",
                skippable=True,
            )
        ],
        check_specs=[
            dg.AssetCheckSpec(check.name, asset=check.asset_key, description=said)
            for check, said in checked.items()
        ],
        can_subset=True,
        allow_arbitrary_check_specs=True,
    )
    def tell(context: dg.AssetExecutionContext) -> Iterator[Any]:
        by_hand = _ASKED_BY not in context.run.tags
        news = reporter.news(context.instance, everything=by_hand)
        telling = Telling(lightdash, news, context.log.info)
        if news:
            telling.tell()
        if telling.done and key in context.selected_asset_keys:
            yield dg.MaterializeResult(
                asset_key=key,
                metadata={
                    **shown.told(lightdash, telling),
                    "tables built": news.tables,
                    **commit_metadata(revision, ""),
                    **telling.told.metadata(),
                },
            )
        results = [shown.up_to_date(key, lightdash, telling)]
        if telling.broken is None:  # what was found last still stands
            others = [check for check in checked if check.name != shown.UP_TO_DATE]
            results += last_results(context.instance, others)
        else:
            results.append(shown.valid(key, shown.VALID, lightdash, telling.broken))
            for exposure, uuid in exposures.items():
                found = [each for each in telling.broken if each.uuid == uuid]
                results.append(shown.valid(exposure, shown.EXPOSURE_VALID, lightdash, found))
        wanted = {(check.asset_key, check.name) for check in context.selected_asset_check_keys}
        yield from (each for each in results if (each.asset_key, each.check_name) in wanted)

    job = dg.define_asset_job(
        named(environment, _TELL),
        dg.AssetSelection.assets(key) | dg.AssetSelection.checks(*checked),
        description="Tell Lightdash all of it again. What is new it is told without this.",
        tags={LIGHTDASH_TAG: environment},
        executor_def=dg.in_process_executor,
    )

    @dg.sensor(
        name=named(environment, _TELL),
        job=job,
        minimum_interval_seconds=_TICK_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Tells Lightdash what was built.",
    )
    def look(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        said, cursor = _look(context.instance, reporter, read_cursor(context.cursor))
        request = dg.RunRequest(
            asset_selection=[key],
            asset_check_keys=list(checked),
            tags={**run_tags(environment, revision), _ASKED_BY: named(environment, _TELL)},
        )
        return dg.SensorResult(
            run_requests=[] if said else [request],
            skip_reason=said or None,
            cursor=write_cursor("waits" if said else "tells", cursor),
        )

    return tell, job, look


def _look(
    instance: dg.DagsterInstance, reporter: Reporter, known: Mapping[str, Any]
) -> tuple[str, Mapping[str, Any]]:
    """Why a tick does not have Lightdash told, or ""; and what it leaves for the next."""
    now = time.time()
    seen = [place_in_the_log(instance), reporter.revision.digest]
    if known.get("seen") == seen:
        return known["said"], known
    tags = {LIGHTDASH_TAG: reporter.environment}
    if runs := instance.get_runs(dg.RunsFilter(tags=tags, statuses=UNFINISHED), limit=1):
        return f"Run {runs[0].run_id[:8]} tells Lightdash.", known
    news = reporter.news(instance)
    if not news:
        said = f"Waiting for {news.waits}." if news.waits else "Lightdash knows what was built."
        return said, {"seen": seen, "said": said}
    since = float(known.get("since", now))
    if news.building and since <= now < since + _WAIT_SECONDS:
        return f"Waiting for {news.waits}.", {**known, "since": since}
    # A build, or another commit, is a reason to try at once.
    matter = asdict(news.now)
    tries = int(known.get("tries", 0)) if known.get("matter") == matter else 0
    after = float(known.get("after", 0.0)) if tries else 0.0
    if now < after <= now + LONGEST_PAUSE:
        at = datetime.fromtimestamp(after).astimezone().strftime("%H:%M:%S")
        times = "once" if tries == 1 else f"{tries} times"
        return f"Lightdash could not be told, {times}; it is told again at {at}.", known
    return "", {"matter": matter, "tries": tries + 1, "after": now + pause_after(tries)}


def _exposures(
    manifest: Mapping[str, Any], environment: str, lightdash: Lightdash
) -> Mapping[dg.AssetKey, str]:
    """The exposures whose page is one of the project's, each with its UUID there."""
    page = re.compile(rf"/projects/{lightdash.project}/(?:saved|dashboards)/([0-9a-f-]{{36}})\b")
    return {
        exposure_key(environment, exposure): found[1]
        for exposure in (manifest.get("exposures") or {}).values()
        if (found := page.search((exposure.get("url") or "").lower()))
    }
