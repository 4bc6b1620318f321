"""Each form that people use instead of a terminal, opened in the Launchpad, right and wrong.

The tests are in the order of a story, on the server of test_ui.py: what one of them holds or
pauses, it lets go again.
"""

from __future__ import annotations

import re
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Ui

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]

# A form's own run refuses these: (form, fields, what it says). Each run is a process, so there are
# few for each form; tests/operations and tests/automation have all that is refused.
_WRONG: list[tuple[str, dict[str, Any], str]] = [
    ("roll_forward", {}, "prod is not held: it follows main as it is"),
    ("pause", {"reason": " "}, "reason: say why, for everybody whose push will wait"),
    ("resume", {}, "prod is not paused"),
    ("resume_daily_build", {}, "nothing is left"),
    ("rebuild_history", {"models": ["custmers"]}, "there is no model 'custmers'"),
    ("rebuild", {"model": "custmers"}, "there is no model 'custmers'"),
    ("rebuild", {"model": "daily", "dry_run": False}, "reason: say in a few words why"),
    ("drop_orphans", {"names": ["main.*"]}, "names: 'main.*' is no whole name"),
    ("dbt", {"command": "list", "arguments": ["--target dev"]}, "arguments: --target is not taken"),
    ("dbt", {"command": "clone", "copy_from": "prd"}, "copy_from: no commit of prd was prepared"),
    ("run_now", {"select": "custmers+", "reason": "x"}, "select: there is no model 'custmers'"),
    ("roll_back", {"commit": "SHOP-99"}, "commit: none of the last"),
    ("adopt", {"dry_run": False}, "reason: say why, for whoever looks at it later"),
]
# What the Launchpad itself knows to be wrong, a mistake in each field: it cannot be launched.
_NOT_LAUNCHED: list[tuple[str, dict[str, Any]]] = [
    ("docs", {"katalog": True, "catalog": "no", "select": "x"}),
    ("resume_daily_build", {"dry_run": "perhaps", "model": "customers"}),
    ("roll_forward", {"dry_run": "perhaps", "commit": "SHOP-1"}),
    ("resume", {"reason": 1, "dry_run": True}),
    ("pause", {"reason": 1, "until": "noon"}),
    ("roll_back", {"until": "noon", "ticket": "SHOP-1"}),
    ("run_now", {"models": "customers", "vars": "days"}),
    ("dbt", {"arguments": "--limit 20", "target": "dev"}),
    ("adopt", {"compare_rows": "all", "ticket": "SHOP-1"}),
    ("rebuild_history", {"dry_run": "perhaps", "model": "daily"}),
    ("rebuild", {"full_refresh": "yes please", "models": "daily"}),
    ("drop_orphans", {"names": "main.totals", "relation": "totals"}),
]
_JOBS = """\
jobs:
  finance: {select: customers, schedule: {cron: "0 7 * * 1"}}
"""


def _built_since(ui: Ui, name: str, before: str) -> None:
    """Wait until another run than this has built the model, and has ended."""
    ui.site.until(lambda: True if ui.last_run(name) != before else None)
    assert ui.site.up.finished(ui.last_run(name))["status"] == "SUCCESS"


def _says(ui: Ui, what: str) -> None:
    """Wait until the push sensor says so."""
    ui.site.until(lambda: True if what in ui.site.says() else None)


def test_each_form_is_a_job_that_says_what_its_fields_mean(ui: Ui) -> None:
    ui.menu("Jobs")
    ui.sees("prod_roll_back")
    ui.picture("jobs", height=700)
    ui.clicks("prod_run_now", "Launchpad")
    ui.sees("select: ''", "reason: ''")
    ui.page.get_by_text("reason", exact=True).first.click()
    ui.sees(re.compile("Why it cannot wait"))
    # The Launchpad keeps what a person has written last: only now it shows how a form begins.
    for form in ("adopt", "drop_orphans", "rebuild", "rebuild_history", "roll_back"):
        ui.clicks("Jobs", f"prod_{form}", "Launchpad")
        ui.sees("dry_run: true")


def test_what_is_wrong_is_refused_in_one_line_on_the_page_of_the_run(ui: Ui) -> None:
    runs = []
    for form, fields, said in _WRONG:
        ui.fill_in(form, **fields)
        runs.append((ui.launch(), said))
    for form, fields in _NOT_LAUNCHED:
        ui.fill_in(form, **fields)
        for field in fields:
            ui.sees(re.compile(rf"unexpected config entr.*\b{field}\b|config:{field}\b"))
        expect(ui.button("Launch Run")).to_be_disabled()
    ui.refused(runs)


def test_a_model_is_run_at_once_and_a_dbt_command_without_a_terminal(ui: Ui) -> None:
    before = ui.last_run("customers")
    ui.site.up.rows("update main.customers set amount = 0")
    ui.fill_in("run_now", select="customers", reason="the board meets at nine")
    ui.launch()
    ui.reads()
    ui.sees("as a whole", re.compile("Reason: the board meets at nine"))
    ui.picture("run-now", height=520)
    ui.fill_in("docs")
    docs = ui.launch()
    ui.fill_in("dbt", command="show", select="customers", arguments=["--limit 2"])
    ui.launch()
    ui.reads("result")
    ui.sees("customer_id", re.compile("2 rows"))
    ui.picture("dbt-show", height=520)
    _built_since(ui, "customers", before)
    assert ui.site.up.finished(docs)["status"] == "SUCCESS"
    assert "customers" in (ui.site.up.state / "docs" / "prod" / "index.html").read_text()
    assert ui.site.up.rows("select sum(amount) from main.customers") == [(425,)]


def test_the_daily_build_goes_on_with_what_is_left(ui: Ui) -> None:
    locked, before = ui.site.clone.home / "locked", ui.last_run("forecast")
    locked.touch()
    assert ui.site.up.finished(ui.site.up.launch(job="prod_full_build"))["status"] == "FAILURE"
    locked.unlink()
    ui.fill_in("resume_daily_build")
    ui.launch()
    ui.reads()
    ui.sees(re.compile("did not build all"), re.compile("failed: .*locked"), "not reached")
    ui.picture("resume", height=620)
    _built_since(ui, "forecast", before)
    assert ui.last_run("totals") == ui.last_run("forecast") != ui.last_run("customers")


def test_what_a_run_did_not_build_is_tried_again(ui: Ui) -> None:
    locked, before = ui.site.clone.home / "locked", ui.last_run("forecast")
    locked.touch()
    assert ui.site.up.finished(ui.site.up.launch("totals", "forecast"))["status"] == "FAILURE"
    locked.unlink()
    ui.fill_in("dbt", command="retry", reason="it is open again")
    ui.launch()
    ui.reads()
    ui.sees(re.compile("failed: .*locked"), "not reached", re.compile("Reason: it is open again"))
    ui.picture("dbt-retry", height=620)
    _built_since(ui, "forecast", before)


def test_days_are_rebuilt(ui: Ui) -> None:
    before = ui.last_run("daily")
    ui.site.up.rows("update main.daily set amount = 0 where day_at < '2024-01-03'")
    fields = {"since": "2024-01-01", "until": "2024-01-02", "reason": "a bad day"}
    ui.fill_in("rebuild", model="daily", **fields, dry_run=False)
    ui.launch()
    ui.reads()
    ui.sees("2 partitions, 2024-01-01 to 2024-01-02")
    _built_since(ui, "daily", before)
    assert ui.site.up.rows("select count(*) from main.daily where amount = 0") == [(0,)]


def test_what_is_there_is_adopted_while_pushes_pause(ui: Ui) -> None:
    """A pause starts nothing, so nobody has built what a push brings then."""
    before = ui.last_run("forecast")
    ui.fill_in("pause", reason="the warehouse is moved")
    ui.launch()
    _says(ui, "Paused by somebody")
    ui.site.clone.write("models/moved.sql", "select 1 as one")
    ui.site.clone.edit("models/forecast.sql", "orders * 2", "orders * 3")
    ui.site.clone.write("orchestration.yml", _JOBS)
    ui.site.clone.push("SHOP-5: moved, and jobs for finance")
    ui.site.up.rows("create table main.moved as select 1 as one")
    ui.site.until(lambda: True if "moved" in ui.site.models() else None)
    ui.fill_in("adopt", reason="it was moved", dry_run=False)
    ui.launch()
    ui.reads()
    ui.sees("moved", re.compile("1 of 1 are there and fit"))
    ui.menu("Automation")
    ui.sees("prod_finance_schedule")
    ui.picture("schedules", height=600)
    ui.site.until(lambda: ui.last_run("moved") or None)
    ui.asset("moved", "events")
    ui.sees(re.compile("adopts 1 of 1: it was moved"))
    assert ui.last_run("forecast") == before
    ui.fill_in("resume", reason="it was moved")
    ui.launch()
    _built_since(ui, "forecast", before)
    assert ui.site.up.rows("select orders from main.forecast") == [(12,)]


def test_an_environment_is_rolled_back_and_forward(ui: Ui) -> None:
    good, before = ui.site.clone.head(1), ui.last_run("forecast")
    ui.fill_in("roll_back")
    ui.launch()
    ui.reads()
    ui.sees("subject", re.compile("^SHOP-5: moved"))
    ui.picture("roll-back", height=720)
    ui.fill_in("roll_back", commit=good[:10], reason="wrong totals", dry_run=False)
    ui.launch()
    _says(ui, f"Held at {good[:10]} by somebody")
    ui.asset("pushes", "checks")
    ui.page.get_by_text("not_held_or_paused").first.click()
    ui.sees(re.compile("wrong totals"))
    _built_since(ui, "forecast", before)
    assert ui.site.up.rows("select orders from main.forecast") == [(8,)]
    before = ui.last_run("forecast")
    ui.fill_in("roll_forward")
    ui.launch()
    _built_since(ui, "forecast", before)
    assert ui.site.up.rows("select orders from main.forecast") == [(12,)]


def test_what_is_left_of_a_model_that_is_gone_is_shown_and_dropped_by_name(ui: Ui) -> None:
    (ui.site.clone.folder / "dbt" / "models" / "moved.sql").unlink()
    ui.site.clone.push("SHOP-6: without moved")
    ui.site.until(lambda: True if "moved" not in ui.site.models() else None)
    ui.fill_in("drop_orphans")
    ui.launch()
    ui.reads()
    ui.sees(re.compile(r"main\.moved$"), "deleted")
    ui.fill_in("drop_orphans", names=["main.moved"], reason="nobody reads it", dry_run=False)
    assert ui.site.up.finished(ui.launch())["status"] == "SUCCESS"
    there = "select count(*) from information_schema.tables where table_name = 'moved'"
    assert ui.site.up.rows(there) == [(0,)]
