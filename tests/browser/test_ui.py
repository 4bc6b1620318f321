"""Each thing that the guides say one sees, seen in a browser."""

from __future__ import annotations

import re

import pytest

from tests.browser.conftest import Ui

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]


_BUILDS = """query { runsOrError(filter: {pipelineName: "prod_full_build"}) { ... on Runs {
    results { runId } } } }"""

_BUILT = """query($name: String!) { assetOrError(assetKey: {path: ["prod", $name]}) { ... on Asset {
    assetMaterializations(limit: 1) { runId } } } }"""


def _last_run(ui: Ui, name: str) -> str:
    """The run that built an asset last; "" if none did."""
    built = ui.site.up.query(_BUILT, name=name)["assetMaterializations"]
    return str(built[0]["runId"]) if built else ""


def _builds(ui: Ui) -> int:
    return len(ui.site.up.query(_BUILDS)["results"])


def _failed(ui: Ui, sha: str) -> None:
    """Wait until the push runs of a commit have failed."""

    def look() -> bool | None:
        runs = ui.site.runs(sha)
        return True if runs and all(run["status"] == "FAILURE" for run in runs) else None

    ui.site.until(look)


def test_columns_have_types_and_tests_and_lead_to_what_they_are_made_of(ui: Ui) -> None:
    ui.asset("customers")
    ui.sees("Columns", "customer_id", "unique")
    ui.picture("columns")
    ui.page.get_by_role("link", name="stg_orders", exact=True).first.click()
    ui.page.wait_for_url("**/assets/prod/stg_orders**")
    ui.sees("ordered_at")


def test_environments_are_apart(ui: Ui) -> None:
    ui.open("/assets")
    ui.sees("prod_models", re.compile("customers"))
    ui.open("/locations/prod/sensors/prod_push")
    ui.sees(re.compile("dbt/environment"))


def test_the_runs_list_says_which_commit_and_why(ui: Ui) -> None:
    ui.open("/runs")
    ui.sees("dbt/environment: prod", re.compile("dbt/commit: .* first"), re.compile("dbt/why: 7 "))


def test_a_push_that_cannot_be_built_is_red(ui: Ui) -> None:
    clone = ui.site.clone
    clone.edit("models/customers.sql", "{{ ref(", "{{ ref((")
    broken = clone.push("SHOP-1: typo")
    said = f"main at {broken[:10]} cannot be prepared"
    ui.site.until(lambda: True if ui.site.says().startswith(said) else None)
    ui.asset("pushes", "checks")
    ui.sees("newest_commit_can_be_built", "Failed", re.compile("models/customers.sql"))
    ui.sees(re.compile("SHOP-1: typo"), re.compile("cannot be built"))
    ui.sees(re.compile("Compilation Error in model customers .models/customers.sql"))
    ui.picture("broken-push")
    clone.edit("models/customers.sql", "{{ ref((", "{{ ref(")
    assert ui.site.settled(clone.push("SHOP-1: mended")) == []
    ui.asset("pushes", "checks")
    ui.sees("Passed")


def test_a_model_that_failed_says_why_with_the_line(ui: Ui) -> None:
    clone = ui.site.clone
    clone.edit("models/customers.sql", "sum(amount)", "sum(cast('12 EUR' as integer))")
    _failed(ui, clone.push("SHOP-2: in euro"))
    ui.asset("customers", "events")
    ui.sees("Failed: Conversion Error: Could not convert string '12 EUR' to INT32")
    ui.sees(re.compile("◀ fails here"), re.compile("SHOP-2: in euro .Ann"))
    ui.picture("failed-model")
    ui.asset("big_customers", "events")
    ui.sees(re.compile("Skipped, because this failed: .*customers"))
    clone.edit("models/customers.sql", "sum(cast('12 EUR' as integer))", "sum(amount)")
    assert ui.site.settled(clone.push("SHOP-2: as it was")) == []
    ui.asset("customers", "events")
    ui.sees(re.compile("As it was, built in run .*was taken back"))
    ui.asset("customers")
    ui.sees("Materialized")


def test_a_test_that_failed_shows_the_rows(ui: Ui) -> None:
    clone = ui.site.clone
    clone.edit("models/customers.sql", "group by 1", "group by 1 union all select 10, 0, 0")
    _failed(ui, clone.push("SHOP-3: a customer twice"))
    ui.asset("customers", "checks")
    ui.sees("unique_customers_customer_id", "Failed", re.compile("SHOP-3: a customer twice"))
    ui.sees("unique_field", "n_records")
    ui.picture("failed-test")
    clone.edit("models/customers.sql", "group by 1 union all select 10, 0, 0", "group by 1")
    ui.site.settled(clone.push("SHOP-3: once"))


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
    ui.open("/")
    ui.page.get_by_role("link", name="Automation").click()
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
    before = _last_run(ui, "daily")
    ui.page.locator("button").filter(has_text=re.compile("^Launch ")).last.click()
    ui.site.until(lambda: True if _last_run(ui, "daily") != before else None)
    ui.asset("daily", "partitions")
    ui.sees("2024-01-03")


def test_history_that_waits_is_said_on_its_asset(ui: Ui) -> None:
    clone = ui.site.clone
    clone.edit("models/daily.sql", '{"partitions"', '{"on_change": "ask", "partitions"')
    clone.edit("models/daily.sql", "sum(amount)", "sum(amount) * 10")
    clone.push("SHOP-4: in pence")
    ui.site.until(lambda: True if "Waits for you: to rebuild daily" in ui.site.says() else None)
    ui.asset("daily", "events")
    ui.sees(re.compile("Built by older code, and waits for you: 3 partitions, about "))
    ui.picture("waiting-history")
    ui.open("/locations/prod/jobs/prod_rebuild_history/playground")
    ui.sees("dry_run: false", "models: []")
    ui.button("Launch Run").click()
    ui.page.wait_for_url("**/runs/**")
    ui.site.until(lambda: True if "nothing is due" in ui.site.says() else None)


def test_numbers_of_each_build_are_plotted(ui: Ui) -> None:
    ui.asset("customers")
    ui.page.get_by_text("Plots", exact=True).first.click()
    ui.sees("rows affected", "seconds")
    ui.page.get_by_text("seconds", exact=True).last.scroll_into_view_if_needed()
    ui.picture("plots")


def test_the_morning_page_is_written_when_somebody_wants_it(ui: Ui) -> None:
    ui.asset("morning_page")
    ui.button("Materialize").click()
    ui.site.until(lambda: _last_run(ui, "morning_page") or None)
    ui.asset("morning_page", "events")
    ui.sees(re.compile("Materialized in run"))
    ui.page.get_by_text("[Show Markdown]").first.click()
    ui.sees(re.compile("Pushes of the last day"))
    ui.picture("morning-page")
