"""Each thing that the guides say one sees, seen in a browser; each label in them, clicked.

The tests are in the order of a story: what one of them pushes, the next ones look at. So one server
and few builds do for all of them.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Ui

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]

_BUILDS = """query { runsOrError(filter: {pipelineName: "prod_full_build"}) { ... on Runs {
    results { runId } } } }"""

# Each day takes a while as long as there is a file.
_VISITS = """\
{{ config(
    materialized="incremental", incremental_strategy="microbatch", event_time="day_at",
    batch_size="day", begin="2024-01-01", lookback=0,
    meta={"dagster": {"partitions": {"chunk": 1, "end": "2024-01-15"}}}
) }}
select day_at, (select count(sleep_ms(5000 * files)) from (select count(*) as files
    from glob('FILE'))) as visits
from {{ ref("calendar") }}
"""
_CALENDAR = """\
{{ config(materialized="view", event_time="day_at") }}
select range as day_at
from range(timestamp '2024-01-01', timestamp '2024-01-15', interval 1 day)
"""


def _builds(ui: Ui) -> int:
    return len(ui.site.up.query(_BUILDS)["results"])


def _ended(ui: Ui, sha: str, *statuses: str) -> list[str]:
    """Wait until the push runs of a commit have ended so, the newest first; their ids."""

    def look() -> list[str] | None:
        runs = ui.site.runs(sha)
        return [r["runId"] for r in runs] if _statuses(runs) == statuses else None

    return ui.site.until(look)


def _statuses(runs: Collection[Mapping[str, Any]]) -> tuple[str, ...]:
    return tuple(run["status"] for run in runs)


def test_columns_have_types_and_tests_and_lead_to_what_they_are_made_of(ui: Ui) -> None:
    ui.asset("customers")
    ui.sees("Columns", "customer_id", "unique")
    ui.picture("columns")
    own = ui.site.clone.folder / "dbt" / "models" / "customers.sql"
    expect(ui.page.locator(f"a[href*='{own}']")).to_contain_text("in editor")
    ui.page.get_by_role("link", name="stg_orders", exact=True).first.click()
    ui.page.wait_for_url("**/assets/prod/stg_orders**")
    ui.sees("ordered_at")


def test_lineage_leads_from_the_seed_to_the_dashboard(ui: Ui) -> None:
    ui.asset("stg_orders", "lineage&lineageDepth=4")
    ui.sees("raw_orders", "big_customers", "sales")
    ui.picture("lineage")


def test_environments_are_apart(ui: Ui) -> None:
    ui.menu("Catalog")
    ui.sees("prod_models", re.compile("customers"))
    ui.menu("Automation")
    ui.page.get_by_text("prod_push").first.click()
    ui.sees(re.compile("dbt/environment"))
    ui.button("0 runs requested").click()
    ui.sees(re.compile("nothing is due"))


def test_the_runs_list_says_which_commit_and_why(ui: Ui) -> None:
    ui.menu("Runs")
    ui.sees("dbt/environment: prod", re.compile("dbt/commit: [0-9a-f]{10} "))
    ui.sees(re.compile(r"dbt/why: \d+ nodes? .*of \d+: "))


def test_a_push_that_cannot_be_built_is_red(ui: Ui) -> None:
    clone = ui.site.clone
    clone.edit("models/customers.sql", "{{ ref(", "{{ ref((")
    broken = clone.push("SHOP-1: typo")
    said = f"main at {broken[:10]} cannot be prepared"
    ui.site.until(lambda: True if ui.site.says().startswith(said) else None)
    ui.asset("pushes", "checks")
    ui.page.get_by_text("newest_commit_can_be_built").first.click()
    ui.sees("newest_commit_can_be_built", "Failed", re.compile("models/customers.sql"))
    ui.sees(re.compile("SHOP-1: typo"), re.compile("cannot be built"))
    ui.sees(re.compile("Compilation Error in model customers .models/customers.sql"))
    ui.picture("broken-push")


def test_a_model_that_failed_says_why_with_the_line(ui: Ui) -> None:
    clone = ui.site.clone
    clone.edit("models/customers.sql", "{{ ref((", "{{ ref(")
    clone.edit("models/customers.sql", "sum(amount)", "sum(cast('12 EUR' as integer))")
    (clone.folder / "dbt" / "tests").mkdir()
    clone.write(
        "tests/orders_are_small.sql",
        "select order_id, doubled from {{ ref('kept') }} where doubled > 200",
    )
    [run] = _ended(ui, clone.push("SHOP-2: in euro"), "FAILURE")
    ui.asset("pushes", "checks")
    ui.sees("Passed")
    ui.asset("customers", "events")
    ui.sees("Failed: Conversion Error: Could not convert string '12 EUR' to INT32")
    ui.sees(re.compile("◀ fails here"), re.compile("SHOP-2: in euro .Ann"))
    ui.sees(re.compile("^On the run's page: Re-execute all"))
    ui.picture("failed-model")
    ui.asset("big_customers", "events")
    ui.sees(re.compile("Skipped, because this failed: .*customers"))
    ui.menu("Runs", run[:8])
    ui.sees("Re-execute all (*)", re.compile("2 failed, 1 skipped"))


def test_a_test_that_failed_shows_the_rows(ui: Ui) -> None:
    ui.asset("kept", "checks")
    ui.sees("orders_are_small", "Failed", re.compile("SHOP-2: in euro"))
    ui.sees("order_id", "doubled")
    ui.picture("failed-test")


def test_what_was_taken_back_is_green(ui: Ui) -> None:
    clone = ui.site.clone
    clone.edit("models/customers.sql", "sum(cast('12 EUR' as integer))", "sum(amount)")
    (clone.folder / "dbt" / "tests" / "orders_are_small.sql").unlink()
    assert ui.site.settled(clone.push("SHOP-2: as it was")) == []
    ui.asset("customers", "events")
    ui.sees(re.compile("As it was, built in run .*was taken back"))
    ui.asset("customers")
    ui.sees("Materialized")


def test_a_run_is_stopped_and_goes_on_where_it_was(ui: Ui) -> None:
    clone = ui.site.clone
    slow = clone.home / "slow"
    slow.touch()
    clone.write("models/calendar.sql", _CALENDAR)
    clone.write("models/visits.sql", _VISITS.replace("FILE", str(slow)))
    clone.write("models/busiest.sql", "select max(visits) as visits from {{ ref('visits') }}")
    sha = clone.push("SHOP-3: visits")
    ui.site.until(lambda: True if len(ui.built("visits")) > 2 else None)
    [run] = ui.site.runs(sha)
    other = ui.site.up.launch("customers")
    ui.menu("Runs")
    ui.sees("Queued")  # the other run uses the DuckDB file
    ui.clicks(run["runId"][:8])
    ui.button("Terminate").click()
    ui.button("Terminate 1 run").click()
    _ended(ui, sha, "SUCCESS", "CANCELED")
    assert ui.site.up.finished(other)["status"] == "SUCCESS"  # it was next
    slow.unlink()
    ui.asset("visits", "partitions")
    ui.sees(re.compile(r"Missing \([1-9]"), re.compile(r"Materialized \([1-9]"))
    ui.picture("partitions")
    ui.open(f"/runs/{run['runId']}")
    ui.button("Re-execute all (*)").locator("xpath=following::button[1]").click()
    ui.page.get_by_text("From asset failure", exact=True).click()
    _ended(ui, sha, "SUCCESS", "SUCCESS", "CANCELED")
    assert len({each["partition"] for each in ui.built("visits")}) == len(ui.built("visits")) == 14


def test_history_that_waits_is_said_on_its_asset(ui: Ui) -> None:
    clone = ui.site.clone
    clone.edit("models/daily.sql", '{"partitions"', '{"on_change": "ask", "partitions"')
    clone.edit("models/daily.sql", "sum(amount)", "sum(amount) * 10")
    clone.push("SHOP-4: in pence")
    ui.site.until(lambda: True if "Waits for you: to rebuild daily" in ui.site.says() else None)
    ui.asset("daily", "events")
    ui.sees(re.compile("Built by older code, and waits for you: 3 partitions, about "))
    ui.picture("waiting-history")
    ui.fill_in("rebuild_history", reason="in pence", dry_run=False)
    ui.launch()
    ui.site.until(lambda: True if "nothing is due" in ui.site.says() else None)
    ui.asset("daily", "events")
    ui.sees(re.compile("materialized in run"), re.compile("SHOP-4: in pence"), re.compile("amount"))
    ui.picture("push")


def test_a_rebuild_is_looked_at_before_it_is_started(ui: Ui) -> None:
    ui.fill_in("rebuild", model="visits", since="2024-01-03", until="2024-01-08")
    ui.launch()
    ui.reads()
    ui.sees(re.compile("6 partitions, 2024-01-03 to 2024-01-08"), re.compile("The same with dbt"))
    ui.picture("rebuild")


def test_the_launchpad_shows_what_a_person_sets(ui: Ui) -> None:
    ui.asset("customers")
    ui.button("Materialize").locator("xpath=following::button[1]").click()
    ui.page.get_by_text("Open launchpad").click()
    ui.sees("full_refresh: false", "exclude_tests: false", "vars: {}")
    assert "reasons" not in ui.page.locator("body").inner_text()
    ui.picture("launchpad")
    ui.page.keyboard.press("Escape")


def test_the_daily_build_is_started_by_the_buttons_of_the_readme(ui: Ui) -> None:
    before = _builds(ui)
    ui.menu("Automation")
    ui.page.get_by_text("prod_full_build_schedule").first.click()
    ui.button("Preview tick result").click()
    ui.button("Continue").click()
    ui.button("Launch all & commit tick result").click()
    ui.site.until(lambda: True if _builds(ui) > before else None)


def test_a_person_materializes_some_days(ui: Ui) -> None:
    ui.asset("daily")
    ui.button("Materialize…").click()
    ui.sees("Launch runs to materialize", "Missing", "All time", "2024-01-03")
    ui.picture("materialize-days")
    ui.button("Latest").click()
    before = ui.last_run("daily")
    ui.page.locator("button").filter(has_text=re.compile("^Launch ")).last.click()
    ui.site.until(lambda: True if ui.last_run("daily") != before else None)
    ui.asset("daily", "partitions")
    ui.sees("2024-01-03")


def test_a_full_refresh_of_some_days_is_refused(ui: Ui) -> None:
    day = {"dagster/partition": "2024-01-02"}
    run = ui.site.up.launch("daily", config={"full_refresh": True}, tags=day)
    ui.menu("Runs", run[:8])
    ui.sees(re.compile("full_refresh would drop all 3 partitions of model.shop.daily"))


def test_a_code_location_is_reloaded(ui: Ui) -> None:
    ui.menu("Deployment")
    ui.button("Reload").click()
    ui.sees("Loaded")


def test_numbers_of_each_build_are_plotted(ui: Ui) -> None:
    ui.asset("customers")
    ui.page.get_by_text("Plots", exact=True).first.click()
    ui.sees("rows affected", "seconds")
    ui.page.get_by_text("seconds", exact=True).last.scroll_into_view_if_needed()
    ui.picture("plots")


def test_the_morning_page_is_written_when_somebody_wants_it(ui: Ui) -> None:
    ui.asset("morning_page")
    ui.button("Materialize").click()
    ui.site.until(lambda: ui.last_run("morning_page") or None)
    ui.asset("morning_page", "events")
    ui.sees(re.compile("Materialized in run"))
    ui.page.get_by_text("[Show Markdown]").first.click()
    ui.sees(re.compile("Pushes of the last day"))
    ui.picture("morning-page")
