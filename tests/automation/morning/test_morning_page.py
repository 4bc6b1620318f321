"""The page says how an environment is: real git, dbt and DuckDB, and Dagster's own event log."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import dagster as dg
import pytest

from dbt_orchestration.automation.morning import definitions
from dbt_orchestration.settings.models import Environment, Schedule
from dbt_orchestration.settings.notify import Notify
from tests.automation.site import ALWAYS, Site
from tests.automation.telling.office import keep_cursor
from tests.conftest import Warehouse

KEY = dg.AssetKey(["prod", "morning_page"])
DAILY = {"dagster/schedule_name": "prod_full_build_schedule"}
WARNS = """models:
  - name: stg_orders
    columns:
      - name: customer_id
        data_tests: [{unique: {config: {severity: warn}}}]
  - name: customers
    columns:
      - name: customer_id
        data_tests: [unique]
"""


def begin(site: Site) -> None:
    site.build_all()


def daily(site: Site) -> dg.ExecuteInProcessResult:
    """What the schedule does at eight."""
    job = (site.loaded.get("prod") or site.load()).resolve_job_def("prod_full_build")
    return job.execute_in_process(instance=site.instance, tags=DAILY, raise_on_error=False)


def settle(site: Site) -> str:
    """What the push sensor says, and Dagster's daemon keeps."""
    said = site.says()
    keep_cursor(site.instance, "prod_push", site.cursors["prod"] or "")
    return said


def tick(site: Site, cursor: str | None = None) -> dg.SensorExecutionData:
    """One evaluation of the sensor that writes the page."""
    loaded = site.loaded.get("prod") or site.load()
    with dg.build_sensor_context(site.instance, cursor=cursor, definitions=loaded) as context:
        data = loaded.resolve_sensor_def("prod_morning_page").evaluate_tick(context)
    for event in data.asset_events:
        site.instance.report_runless_asset_event(event)
    return data


def now(site: Site) -> str:
    """The page as somebody gets it who materializes it."""
    if "prod" not in site.loaded:
        site.load()
    assert site.materialize("morning_page").success
    return page(site.instance)


def page(instance: dg.DagsterInstance) -> str:
    """As it reads: without what keeps texts of others from being markup."""
    return str(metadata(instance)["page"].value).replace("\\", "")


def metadata(instance: dg.DagsterInstance) -> Any:
    event = instance.get_latest_materialization_event(KEY)
    assert event
    assert event.asset_materialization
    return event.asset_materialization.metadata


def part(page: str, heading: str) -> str:
    """What stands under a heading."""
    [found] = [each for each in page.split("\n## ") if each.startswith(f"{heading}\n")]
    return found.removeprefix(heading).strip()


def test_it_is_written_once_after_each_daily_build_and_makes_nothing_due(built: Site) -> None:
    assert tick(built).skip_message == "There was no daily build yet."
    assert daily(built).success
    written = tick(built)
    assert written.skip_message == "The daily build has ended: the page is written."
    assert not tick(built, written.cursor).asset_events
    said = page(built.instance)
    assert " succeeded in " in said
    for heading in ("Failed", "Late", "Waits for you"):
        assert part(said, heading) == "Nothing."
    figures = {name: metadata(built.instance)[name].value for name in ("failed", "late")}
    assert figures == {"failed": 0, "late": 0}
    assert settle(built).endswith("nothing is due; all 7 nodes are as it says.")
    assert daily(built).success
    assert tick(built, written.cursor).asset_events


def test_it_says_what_failed_and_why_who_pushed_and_what_waits(built: Site) -> None:
    built.clone.edit("models/customers.sql", "sum(amount)", "error('no')")
    built.clone.push("break <b>it</b> | really\n\nfor DATA-55")
    failed = built.build()
    assert "tried already" in settle(built)
    said = now(built)
    culprit = part(said, "Failed")
    assert culprit.startswith("- **model customers failed** · [Run ")
    assert f"](</runs/{failed.run_id}>)" in culprit
    assert "](</assets/prod/customers>)" in culprit
    assert "Changed last by Ann <ann@example.com>: break <b>it</b> | really (DATA-55)" in culprit
    assert "break \\<b\\>it" in metadata(built.instance)["page"].value
    assert "Invalid Input Error: no" in culprit
    assert "tried already" in part(said, "Waits for you")
    first, *earlier = part(said, "Pushes of the last day").splitlines()[2:]
    assert "break <b>it</b> | really (DATA-55) | Ann <ann@example.com> | " in first
    assert f"big_customers, customers [Run {failed.run_id[:8]}]" in first
    assert len(earlier) == 1
    assert "| push | Ann <ann@example.com> | 2 | " in part(said, "Cost of the last 7 days")
    built.clone.edit("models/customers.sql", "error('no')", "sum(amount)")
    built.clone.push("DATA-56 as it was")
    settle(built)
    said = now(built)
    assert " “DATA-56 as it was” by Ann" in said
    assert part(said, "Failed") == part(said, "Waits for you") == "Nothing."
    assert "| nothing was due |" in part(said, "Pushes of the last day")


def test_history_that_waits_for_a_click_is_on_it(built: Site) -> None:
    prod = Environment(branch="main", target="prod", push=ALWAYS, on_change="ask")
    built.settings = built.settings.model_copy(update={"environments": {"prod": prod}})
    built.clone.edit("models/daily.sql", "sum(amount)", "max(amount)")
    built.clone.push("another sum")
    settle(built)
    assert "the rebuild of daily waits for you (partitions: 3)" in part(now(built), "Waits for you")


def test_what_is_late_is_on_it_and_a_new_installation_is_not_late(
    built: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert part(now(built), "Late") == "Nothing."
    tomorrow = time.time() + 30 * 3600
    monkeypatch.setattr(definitions, "time", SimpleNamespace(time=lambda: tomorrow))
    assert part(now(built), "Late").startswith("- **the daily build of ")
    stopped = Environment(branch="main", target="prod", full_build=Schedule(enabled=False))
    built.settings = built.settings.model_copy(update={"environments": {"prod": stopped}})
    built.load()
    assert part(now(built), "Late") == "Nothing."


def test_a_daily_build_that_has_not_ended_is_late_also_where_nobody_is_told(built: Site) -> None:
    [runs] = (built.clone.home / "dagster").rglob("runs.db")
    with closing(sqlite3.connect(runs)) as database, database:
        database.execute("update runs set create_timestamp = datetime('now', '-3 days')")
    due = datetime.now(UTC) - timedelta(hours=3)
    schedule = Schedule(cron=f"{due.minute} {due.hour} * * *", timezone="UTC")
    prod = Environment(branch="main", target="prod", push=ALWAYS, full_build=schedule)
    built.settings = built.settings.model_copy(update={"environments": {"prod": prod}})
    job = built.load().resolve_job_def("prod_full_build")
    started = dg.DagsterRunStatus.STARTED
    run = built.instance.create_run_for_job(job, tags=DAILY, status=started)
    late = part(now(built), "Late")
    assert " has not ended yet**" in late
    assert f"](</runs/{run.run_id}>)" in late
    assert tick(built).skip_message == f"The daily build goes on: run {run.run_id[:8]}."


def test_it_names_the_slowest_models_and_the_tables_that_grew(built: Site) -> None:
    assert daily(built).success
    seed = (built.clone.folder / "dbt/seeds/raw_orders.csv").read_text()
    built.clone.write("seeds/raw_orders.csv", f"{seed.rstrip()}\n5,40,20,2024-01-03\n")
    built.clone.push("one more order")
    built.build_all()
    assert daily(built).success
    models = part(now(built), "Models")
    slowest, grown = models.split("The fastest growing tables:")
    assert "| Model | Took | Before | Rows |" in slowest
    # Its three days are one model.
    assert slowest.count("/assets/prod/daily>") == 1
    assert "| [raw\\_orders]" not in grown
    assert "| [raw_orders](</assets/prod/raw_orders>) | 5 | 4 | 1 (25%) |" in grown
    assert "Before: the daily build of " in grown


def test_it_names_tests_that_flap_and_that_always_warn(built: Site) -> None:
    built.clone.write("models/models.yml", WARNS)
    for number in range(3):
        broken = number != 1
        built.clone.write(
            "models/customers.sql",
            f"select customer_id, amount, {number} as orders from {{{{ ref('stg_orders') }}}}"
            if broken
            else "select 1 as customer_id, 2 as amount, 3 as orders",
        )
        built.clone.push(f"change {number}")
        assert built.build().success != broken
        daily(built)
    shaky = part(now(built), "Tests that nobody can rely on").splitlines()
    flaps, warns = shaky
    assert "on [customers](</assets/prod/customers>) fails and passes by turns: it failed " in flaps
    assert "on [stg_orders](</assets/prod/stg_orders>) warned each of the last " in warns


def test_it_names_relations_whose_model_is_gone_until_it_is_back(built: Site) -> None:
    heading = "Relations without a model"
    assert part(now(built), heading) == "Nothing."
    # What is taken back is recorded as it was, without a build.
    built.clone.edit("models/totals.sql", "sum(orders)", "error('no')")
    built.clone.push("broken")
    assert not built.build().success
    built.clone.edit("models/totals.sql", "error('no')", "sum(orders)")
    built.clone.push("back")
    built.build_all()
    (built.clone.folder / "dbt/models/totals.sql").unlink()
    built.clone.push("no totals")
    built.build_all()
    assert part(now(built), heading).endswith("\n- warehouse.main.totals")
    built.clone.write(
        "models/totals.sql", "select sum(orders) as orders from {{ ref('customers') }}"
    )
    built.clone.push("totals again")
    built.build_all()
    assert part(now(built), heading) == "Nothing."


def test_it_is_korean_where_the_settings_say_so_also_if_nobody_is_told(built: Site) -> None:
    notify = Notify(enabled=False, language="ko")
    built.settings = built.settings.model_copy(update={"notify": notify})
    assert part(now(built), "실패") == "없음."
    assert "지난 7일 동안 일일 빌드가 없었습니다." in page(built.instance)


def test_it_is_written_where_nothing_was_built_yet(warehouse: Warehouse) -> None:
    assert warehouse.build("morning_page").success
    said = page(warehouse.instance)
    assert "There was no daily build in the last 7 days." in said
    assert said.count("Nothing.") == 8


def test_who_materializes_everything_gets_the_page_too(built: Site) -> None:
    job = built.load().resolve_implicit_global_asset_job_def()
    days = {"dagster/asset_partition_range_start": "2024-01-02"}
    days["dagster/asset_partition_range_end"] = "2024-01-03"
    for tags in ({}, days):
        result = job.execute_in_process(instance=built.instance, tags=tags)
        written = {event.asset_key for event in result.get_asset_materialization_events()}
        assert {KEY, dg.AssetKey(["prod", "daily"])} <= written
