"""The sensor that tells people, and the check that is red while somebody cannot be told.

Dagster reads the annotations: they are no strings, as ``annotations`` of ``__future__`` would be.
"""

import time
from collections.abc import Mapping
from functools import partial
from time import thread_time
from typing import Any

import dagster as dg

from dbt_orchestration import dagster_internals
from dbt_orchestration.assets.dbt_assets import DbtAssets
from dbt_orchestration.automation.cursors import read_cursor, write_cursor
from dbt_orchestration.automation.jobs import daily_schedule
from dbt_orchestration.automation.outcome import findings
from dbt_orchestration.automation.telling.look import Look
from dbt_orchestration.automation.telling.memory import Memory
from dbt_orchestration.automation.telling.tell import Teller
from dbt_orchestration.automation.telling.tools import tools_of
from dbt_orchestration.changes.terms import digest_value
from dbt_orchestration.ledger.present import place_in_the_log
from dbt_orchestration.ledger.pushes import as_result
from dbt_orchestration.settings.models import Settings
from dbt_orchestration.settings.notify import Notify
from dbt_orchestration.settings.types import named

CHECK = "people_can_be_told"
_TICK_SECONDS = 10
# What is late, or out of date, comes without an event.
_SAME_SECONDS = 60.0
# While a run works something happens all the time. To look at 5,000 models takes more than a second
# of a processor: the pause after it is that many times as long.
_PAUSES = 20


def tell_sensor(
    settings: Settings, environment: str, notify: Notify, dbt: DbtAssets | None, asset: dg.AssetKey
) -> dg.SensorDefinition:
    """The sensor of an environment.

    Args:
        dbt: its assets; None while no commit is loaded.
        asset: the one that has the check.
    """

    @dg.sensor(
        name=named(environment, "tell"),
        minimum_interval_seconds=_TICK_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Tells people and other tools what goes wrong: see docs/notifications.md.",
    )
    def tell(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        now, instance, before = time.time(), context.instance, read_cursor(context.cursor)
        memory = Memory.read(instance, environment, now)
        looked = _look(settings, environment, dbt, context, before, memory=memory, now=now)
        tools, missing = tools_of(notify)
        said: list[str] = []
        timezone = settings.environment(environment).full_build.timezone
        keep = partial(memory.write, instance, environment)
        keep()  # before anything is sent: what is sent again is the same
        Teller(notify, environment, tools, timezone, keep, said.append).tell(memory, now)
        memory.forget()
        keep()
        for line in said:
            context.log.info(line)
        problems = {**missing, **memory.problems}
        checked = digest_value(problems)
        is_news = before.get("checked") != checked
        return dg.SensorResult(
            skip_reason="; ".join(said) or "There is nothing to tell.",
            asset_events=[_evaluation(asset, problems)] if is_news else [],
            cursor=write_cursor("tells" if said else "waits", {**looked, "checked": checked}),
        )

    return tell


def tell_check(environment: str, notify: Notify, asset: dg.AssetKey) -> dg.AssetChecksDefinition:
    """The check on ``asset``, asked for by hand; the sensor keeps it up to date by itself."""

    @dg.asset_check(
        asset=asset,
        name=CHECK,
        description="Slack, e-mail and the other tools took what they were last sent. The sensor"
        " looks by itself.",
    )
    def check(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        _, missing = tools_of(notify)
        memory = Memory.read(context.instance, environment, time.time())
        return as_result(_evaluation(asset, {**missing, **memory.problems}))

    return check


def _evaluation(asset: dg.AssetKey, problems: Mapping[str, str]) -> dg.AssetCheckEvaluation:
    return dg.AssetCheckEvaluation(
        asset_key=asset,
        check_name=CHECK,
        passed=not problems,
        metadata=problems,
        description="; ".join(problems.values()) or None,
    )


def _look(
    settings: Settings,
    environment: str,
    dbt: DbtAssets | None,
    context: dg.SensorEvaluationContext,
    before: Mapping[str, Any],
    *,
    memory: Memory,
    now: float,
) -> Mapping[str, Any]:
    """Look at what is wrong, unless nothing has happened; what the next tick has to know."""
    found = findings(dagster_internals.sensor_cursor(context, named(environment, "push")))
    happened = digest_value(
        [
            place_in_the_log(context.instance),
            dbt.env.revision.digest if dbt else None,
            [each.as_json() for each in found],
        ]
    )
    since = now - before.get("looked", 0.0)
    is_same = before.get("happened") == happened and since < _SAME_SECONDS
    if since >= 0 and (is_same or since < _PAUSES * before.get("took", 0.0)):
        return before
    is_on = settings.environment(environment).full_build.enabled
    on = dagster_internals.on_since(context, daily_schedule(environment), is_on)
    scheduled = None if on is None else max(on, memory.since)
    began = thread_time()
    look = Look(settings, environment, context.instance, dbt, found, scheduled, memory.open, now)
    memory.see(look.incidents(), look.there, now)
    return {"happened": happened, "looked": now, "took": round(thread_time() - began, 3)}
