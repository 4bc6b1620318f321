"""What goes wrong is told once, to whom it concerns: real git, dbt, DuckDB and protocols."""

from __future__ import annotations

import json
import logging
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import jsonschema
import pytest
from dagster._core.definitions.freshness import FreshnessState, FreshnessStateChange

from dbt_orchestration.automation.telling.memory import Memory
from dbt_orchestration.settings.models import Environment, Git, Schedule
from tests.automation.site import ALWAYS, Site, git
from tests.automation.telling.office import CHECK, Office
from tests.automation.telling.stubs import (
    HOOK_TOKEN,
    PASSWORD,
    SECRET,
    TEAMS_SIGNATURE,
    TOKEN,
)
from tests.automation.test_held import order
from tests.conftest import REPOSITORY
from tests.instances import dagster_in

FAILS = ("models/customers.sql", "sum(amount)", "error('no')")
WORKS = ("models/customers.sql", "error('no')", "sum(amount)")
DAILY = {"dagster/schedule_name": "prod_full_build_schedule"}


def begin(site: Site) -> None:
    site.build_all()


def break_customers(site: Site) -> None:
    site.clone.edit(*FAILS)
    site.clone.push("broken at run time")
    assert not site.build().success


def repair_customers(site: Site) -> None:
    site.clone.edit(*WORKS)
    site.clone.push("remedy")
    site.build_all()


def set_environment(office: Office, **changes: Any) -> None:
    prod = Environment(branch="main", target="prod", push=ALWAYS, **changes)
    environments = {"environments": {"prod": prod}}
    office.site.settings = office.site.settings.model_copy(update=environments)


def test_a_failure_is_one_message_a_retry_follows_it_and_so_does_the_recovery(
    office: Office,
) -> None:
    site, slack = office.site, office.slack
    office.told(office.slack_alone())
    assert office.tick() == "There is nothing to tell."
    break_customers(site)
    assert office.tick() == "slack #data: prod: model customers failed"
    office.tick()
    assert slack.shown() == [":red_circle: *prod: model customers failed*"]
    text = slack.posts[0].text
    run_id = site.instance.get_runs(limit=1)[0].run_id
    assert f"<https://dagster.example.com/runs/{run_id}|Run {run_id[:8]}>" in text
    assert "<https://dagster.example.com/assets/prod/customers|Asset>" in text
    assert "Changed last by Ann &lt;ann@example.com&gt;: broken at run time" in text
    assert "Invalid Input Error: no" in text
    assert not site.materialize("customers").success
    office.tick()
    office.tick()
    assert slack.shown() == [
        ":red_circle: *prod: model customers failed*",
        "  :repeat: *prod: again: model customers failed*",
    ]
    repair_customers(site)
    office.tick()
    office.tick(later=3600)
    assert slack.shown() == [
        ":white_check_mark: *prod: model customers works again*",
        "  :repeat: *prod: again: model customers failed*",
        "  :white_check_mark: *prod: model customers works again*",
    ]
    assert ":red_circle: *prod: model customers failed*" in slack.posts[0].text
    assert office.check == "green"


def test_a_failure_is_told_with_who_changed_the_model_last_not_with_who_pushed(
    office: Office,
) -> None:
    site = office.site
    office.told(office.slack_alone())
    office.tick()
    site.clone.edit(*FAILS)
    site.clone.commit("broken at run time")
    git(
        site.clone.folder, "commit", "-q", "--allow-empty", "-m", "more", "--author=Eve <eve@x.org>"
    )
    git(site.clone.folder, "push", "-q", "origin", "main")
    assert not site.build().success
    office.tick()
    text = office.slack.posts[0].text
    assert "Changed last by Ann &lt;ann@example.com&gt;: broken at run time" in text
    assert "Eve" not in text


def test_a_push_whose_hook_failed_is_told(office: Office) -> None:
    site = office.site
    office.told(office.slack_alone())
    office.tick()
    site.clone.edit("dbt_project.yml", "name: shop", "name: shop\non-run-start: select no_such")
    site.clone.edit("models/totals.sql", "sum(orders)", "sum(orders) + 1")
    site.clone.push("a hook")
    assert not site.build().success
    assert office.tick() == "slack #data: prod: the build of a push failed"
    assert "no_such" in office.slack.posts[0].text


def test_a_tool_that_is_away_for_months_is_told_when_it_is_back(office: Office) -> None:
    office.told(office.slack_alone())
    office.tick()
    break_customers(office.site)
    office.slack.down = True
    office.tick()
    memory = Memory.read(office.site.instance, "prod", office.now)
    memory.channels["slack #data"].tries = 5_000
    memory.write(office.site.instance, "prod")
    office.tick(later=3600)
    assert "upstream connect error" in office.check
    office.slack.down = False
    office.tick(later=3600)
    assert office.slack.shown() == [":red_circle: *prod: model customers failed*"]
    assert office.check == "green"


def test_a_project_that_is_in_no_repository_any_more_is_told_of_all_the_same(
    office: Office, tmp_path: Path
) -> None:
    office.told(office.slack_alone())
    break_customers(office.site)
    gone = {"git": Git(), "project_dir": tmp_path}
    office.site.settings = office.site.settings.model_copy(update=gone)
    office.site.load()
    office.tick()
    assert office.slack.shown() == [":red_circle: *prod: model customers failed*"]


def test_nobody_is_named_whose_commit_is_not_here(office: Office) -> None:
    office.told(office.slack_alone())
    office.site.clone.edit("models/customers.sql", "{{ ref(", "{{ ref((")
    office.site.clone.push("half done")
    office.site.says()
    shutil.rmtree(office.site.settings.state_dir / "git")
    office.tick()
    assert "cannot be built" in office.slack.posts[0].text
    assert "somebody" not in office.slack.posts[0].text


def test_a_message_that_somebody_deleted_holds_up_nothing(office: Office) -> None:
    office.told(office.slack_alone())
    break_customers(office.site)
    office.tick()
    office.slack.posts.clear()
    assert not office.site.materialize("customers").success
    office.tick()
    assert office.slack.shown() == [":repeat: *prod: again: model customers failed*"]
    repair_customers(office.site)
    office.tick()
    assert len(office.slack.shown()) == 2
    assert office.check == "green"


def test_a_model_that_is_built_again_with_other_code_has_recovered(office: Office) -> None:
    office.told(office.slack_alone())
    break_customers(office.site)
    office.tick()
    office.site.clone.edit(WORKS[0], WORKS[1], "max(amount)")
    office.site.clone.push("another way")
    request = office.site.request()
    office.tick(later=60)
    assert len(office.slack.posts) == 1  # nothing is known before the run has ended
    assert office.site.run(request).success
    office.tick()
    assert office.slack.shown()[1:] == ["  :white_check_mark: *prod: model customers works again*"]


def test_a_model_that_failed_and_was_removed_is_not_said_to_work(office: Office) -> None:
    office.told(office.slack_alone())
    office.site.clone.edit("models/totals.sql", "sum(orders)", "error('no')")
    office.site.clone.push("broken")
    assert not office.site.build().success
    office.tick()
    (office.site.clone.folder / "dbt/models/totals.sql").unlink()
    office.site.clone.push("not needed")
    office.site.says()
    office.tick()
    said = "  :white_check_mark: *prod: model totals is not in the project any more*"
    assert office.slack.shown()[1:] == [said]


def test_a_tool_that_is_down_holds_up_nothing_and_is_told_once_when_it_is_back(
    office: Office,
) -> None:
    office.told(office.slack_alone())
    office.tick()
    assert office.check == "green"
    office.slack.down = True
    break_customers(office.site)
    office.tick()
    assert "upstream connect error" in office.check
    job = office.site.loaded["prod"].resolve_implicit_global_asset_job_def()
    by_hand = job.get_subset(asset_check_selection={CHECK}).execute_in_process(
        instance=office.site.instance
    )
    [found] = by_hand.get_asset_check_evaluations()
    assert not found.passed
    assert office.slack.asked == 1
    office.tick(later=5)
    assert office.slack.asked == 1
    office.tick(later=30)
    office.tick(later=30)
    assert office.slack.asked == 2  # each time it waits longer
    repaired = office.site
    office.slack.down = False
    office.tick(later=60)
    office.tick(later=3600)
    assert office.slack.shown() == [":red_circle: *prod: model customers failed*"]
    assert office.check == "green"
    repair_customers(repaired)
    office.tick()
    assert len(office.slack.shown()) == 2


def test_what_failed_and_recovered_while_a_tool_was_down_is_told_once(office: Office) -> None:
    office.told(office.slack_alone())
    office.slack.down = True
    break_customers(office.site)
    office.tick()
    repair_customers(office.site)
    office.tick()
    office.slack.down = False
    office.tick(later=60)
    office.tick(later=60)
    assert office.slack.shown() == [":white_check_mark: *prod: model customers works again*"]
    assert office.check == "green"


def test_many_failures_of_a_run_are_one_message_and_the_daily_build_its_title(
    office: Office,
) -> None:
    office.told(office.slack_alone())
    break_customers(office.site)
    office.site.clone.edit("models/daily.sql", "sum(amount)", "error('no')::int")
    office.site.clone.write("models/peak.sql", "select error('no') as amount")
    office.site.clone.push("all is broken")
    office.site.request()
    job = office.site.loaded["prod"].resolve_job_def("prod_full_build")
    run = job.execute_in_process(
        instance=office.site.instance, tags=DAILY, raise_on_error=False
    ).dagster_run
    office.tick()
    assert office.slack.shown() == [":red_circle: *prod: the daily build failed, and 3 more*"]
    for name in ("customers", "daily", "peak"):
        assert f"• model {name} failed" in office.slack.posts[0].text
    assert "totals" not in office.slack.posts[0].text  # which was only skipped
    assert run.run_id[:8] in office.slack.posts[0].text
    (office.site.clone.folder / "dbt/models/peak.sql").unlink()
    repair_customers(office.site)
    office.tick()
    assert office.slack.shown()[0] == ":red_circle: *prod: the daily build failed, and 3 more*"
    assert office.slack.shown()[1:] == [
        "  :repeat: *prod: again: model daily failed*",
        "  :white_check_mark: *prod: model customers works again, and 1 more*",
    ]


def test_the_author_of_a_commit_that_cannot_be_built_is_told(office: Office) -> None:
    site, mail = office.site, office.mail
    office.told(office.everything())
    site.clone.edit("models/customers.sql", "{{ ref(", "{{ ref((")
    sha = site.clone.push("half done")
    site.says()
    office.tick()
    title = f"prod: main at {sha[:10]} cannot be built"
    assert office.slack.shown() == [f":red_circle: *{title}*"]
    assert mail.to("data@example.com") == mail.to("ann@example.com") == [title]
    body = mail.mails[0].get_content()
    assert "models/customers.sql" in body
    assert "By Ann <ann@example.com>: half done" in body
    [card] = office.teams.bodies
    content = card["attachments"][0]["content"]
    assert content["type"] == "AdaptiveCard"
    assert content["body"][0]["inlines"][0]["text"] == title
    git(
        site.clone.folder, "commit", "-q", "--allow-empty", "-m", "more", "--author=Eve <eve@x.org>"
    )
    site.clone.push("and more")
    site.says()
    office.tick()
    assert len(office.slack.shown()) == 2
    assert mail.to("eve@x.org") == []  # at no domain of ours
    site.clone.edit("models/customers.sql", "{{ ref((", "{{ ref(")
    site.clone.push("done")
    site.says()
    office.tick()
    office.tick(later=120)
    assert office.slack.shown()[-1] == "  :white_check_mark: *prod: main can be built again*"
    assert mail.to("ann@example.com")[0] == title
    assert mail.to("ann@example.com")[-1] == f"Re: {title}"
    assert mail.mails[-1]["In-Reply-To"] == mail.mails[0]["Message-ID"]
    assert len(office.teams.bodies) == 2  # nothing follows there but the end
    assert [body["event"] for body in office.hook.bodies] == ["opened", "updated", "closed"]
    assert len({headers["webhook-id"] for headers in office.hook.headers}) == 3
    schema = json.loads((REPOSITORY / "docs" / "notifications.schema.json").read_text())
    for body in office.hook.bodies:
        jsonschema.validate(body, schema)
    assert office.check == "green"


def test_a_first_commit_that_cannot_be_built_is_told(
    office: Office, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "new").mkdir()
    with dagster_in(tmp_path / "new") as instance:
        office.site = Site.of(tmp_path / "new", instance)
        office.site.clone.edit("models/customers.sql", "{{ ref(", "{{ ref((")
        office.site.clone.push("broken from the start")
        office.told(office.slack_alone())
        office.site.says()
        office.tick()
        assert office.check == "green"
    assert len(office.slack.shown()) == 1


def test_in_quiet_hours_only_webhooks_are_told(office: Office) -> None:
    hours = {"begin": "22:00", "end": "07:00", "timezone": "Asia/Seoul"}
    set_environment(office, full_build=Schedule(cron="0 12 * * *", timezone="Asia/Seoul"))
    office.told(office.everything(quiet_hours=hours))
    office.now = datetime(2024, 5, 1, 14, 30, tzinfo=UTC).timestamp()  # 23:30 in Seoul
    break_customers(office.site)
    office.tick()
    assert (office.slack.posts, office.mail.mails, office.teams.bodies) == ([], [], [])
    assert [body["kind"] for body in office.hook.bodies] == ["model_failed"]
    office.tick(later=7 * 3600)
    assert office.slack.posts == []
    office.tick(later=1800)
    assert office.slack.shown() == [":red_circle: *prod: model customers failed*"]
    assert office.mail.to("data@example.com") == ["prod: model customers failed"]
    assert len(office.hook.bodies) == 1


def test_what_is_over_when_quiet_hours_end_is_not_told(office: Office) -> None:
    set_environment(office, full_build=Schedule(cron="0 20 * * *", timezone="Asia/Seoul"))
    office.told(office.slack_alone(quiet_hours={"begin": "10:00", "end": "11:00"}))
    office.now = datetime(2024, 5, 1, 1, 30, tzinfo=UTC).timestamp()  # in the zone of the build
    break_customers(office.site)
    office.tick()
    repair_customers(office.site)
    office.tick()
    office.tick(later=3600)
    assert office.slack.posts == []


def test_news_go_to_the_channel_of_a_group_or_an_owner(office: Office) -> None:
    site = office.site
    routes = {
        "finance": {"groups": ["finance"], "slack": "#finance"},
        "bob": {"owners": ["bob@example.com"], "email": ["bob@example.com"]},
    }
    office.told(office.everything(routes=routes))
    site.clone.write(
        "models/models.yml",
        "groups: [{name: finance, owner: {email: finance@example.com}}]\n"
        "models:\n"
        "  - {name: customers, config: {group: finance}}\n"
        "  - {name: peak, config: {meta: {dagster: {owners: bob@example.com}}}}\n",
    )
    site.clone.edit(*FAILS)
    site.clone.write("models/peak.sql", "select error('no') as amount")
    site.clone.edit("models/daily.sql", "sum(amount)", "error('no')::int")
    site.clone.push("all is broken")
    assert not site.build().success
    office.tick()
    assert office.slack.shown("#finance") == [":red_circle: *prod: model customers failed*"]
    assert office.slack.shown("#data") == [":red_circle: *prod: model daily failed*"]
    assert office.mail.to("bob@example.com") == ["prod: model peak failed"]
    assert office.mail.to("data@example.com") == ["prod: model daily failed"]
    assert {body["facts"]["what"] for body in office.hook.bodies} == {"customers", "daily", "peak"}


def test_a_test_that_fails_is_told_with_its_rows_and_when_it_passes(office: Office) -> None:
    office.told(office.slack_alone())
    office.site.clone.edit(
        "models/customers.sql", "select customer_id,", "select 1 as customer_id,"
    )
    office.site.clone.edit("models/customers.sql", "group by 1", "group by customer_id")
    office.site.clone.push("all customers are one")
    assert not office.site.build().success
    office.tick()
    title = "prod: test unique_customers_customer_id on customers failed, failing rows: 1"
    assert office.slack.shown() == [f":red_circle: *{title}*"]
    text = office.slack.posts[0].text
    assert "Got 1 result, configured to fail if != 0" in text
    assert "Changed last by Ann &lt;ann@example.com&gt;: all customers are one" in text
    office.site.clone.edit(
        "models/customers.sql", "select 1 as customer_id,", "select customer_id,"
    )
    office.site.clone.push("they are not")
    office.site.build_all()
    office.tick()
    assert office.slack.shown()[1:] == [
        "  :white_check_mark: *prod: test unique_customers_customer_id on customers passes again*"
    ]


@pytest.fixture
def due(office: Office) -> datetime:
    """When the daily build was to start: hours ago. The sensor has been looking for longer."""
    due = datetime.now(UTC).replace(second=0, microsecond=0) - timedelta(hours=3)
    cron = f"{due.minute} {due.hour} * * *"
    set_environment(office, full_build=Schedule(cron=cron, timezone="UTC"))
    office.told(office.slack_alone())
    now, office.now = office.now, due.timestamp() - 600
    office.tick()
    assert office.slack.posts == []
    office.now = now
    return due


def test_a_daily_build_that_has_not_started_is_told(office: Office, due: datetime) -> None:
    office.tick()
    time = due.strftime("%Y-%m-%d %H:%M")
    assert office.slack.shown() == [
        f":red_circle: *prod: the daily build of {time} has not started*"
    ]
    job = office.site.loaded["prod"].resolve_job_def("prod_full_build")
    assert job.execute_in_process(instance=office.site.instance, tags=DAILY).success
    office.tick()
    assert office.slack.shown()[1:] == [
        f"  :white_check_mark: *prod: the daily build of {time} has started*"
    ]


def test_a_daily_build_that_is_late_and_then_fails_is_told(office: Office, due: datetime) -> None:
    instance = office.site.instance
    run = instance.create_run_for_job(
        office.site.loaded["prod"].resolve_job_def("prod_full_build"),
        tags=DAILY,
        status=dg.DagsterRunStatus.STARTED,
    )
    office.tick()
    time = due.strftime("%Y-%m-%d %H:%M")
    late = f":red_circle: *prod: the daily build of {time} has not ended yet*"
    assert office.slack.shown() == [late]
    instance.report_run_failed(run)
    office.tick()
    assert office.slack.shown()[1:] == [
        ":red_circle: *prod: the daily build failed*",
        f"  :white_check_mark: *prod: the daily build of {time} has ended*",
    ]


def test_a_daily_build_that_is_switched_off_is_not_missed(office: Office) -> None:
    set_environment(office, full_build=Schedule(cron="* * * * *", enabled=False))
    office.told(office.slack_alone())
    office.tick()
    office.tick(later=3600)
    assert office.slack.posts == []


def test_a_push_whose_run_died_is_told(office: Office) -> None:
    office.told(office.slack_alone())
    office.site.clone.edit("models/customers.sql", "sum(amount)", "max(amount)")
    office.site.clone.push("largest")
    request = office.site.request()
    run = office.site.instance.create_run_for_job(
        office.site.loaded["prod"].resolve_job_def("prod_full_build"),
        tags=dict(request.tags),
        status=dg.DagsterRunStatus.STARTED,
    )
    office.tick()
    assert office.slack.posts == []
    office.site.instance.report_run_failed(run)
    office.tick()
    assert office.slack.shown() == [":red_circle: *prod: the build of a push failed*"]
    assert office.site.run(request).success
    office.tick()
    assert office.slack.shown()[1:] == ["  :white_check_mark: *prod: pushes are built again*"]


def test_a_model_that_is_not_fresh_is_told(office: Office) -> None:
    site = office.site
    office.told(office.slack_alone())
    site.clone.edit(
        "models/models.yml",
        "name: customers\n",
        "name: customers\n    config: {meta: {dagster: {freshness: {fail_after_hours: 1}}}}\n",
    )
    site.clone.push("fresh")
    site.build_all()

    def becomes(state: FreshnessState) -> None:
        change = FreshnessStateChange(
            key=dg.AssetKey(["prod", "customers"]),
            new_state=state,
            previous_state=FreshnessState.UNKNOWN,
            state_change_timestamp=office.now,
        )
        site.instance._report_runless_asset_event(change)

    becomes(FreshnessState.FAIL)
    office.tick()
    office.tick(later=60)
    assert office.slack.shown() == [":red_circle: *prod: model customers is out of date*"]
    becomes(FreshnessState.PASS)
    office.tick()
    assert office.slack.shown()[1:] == [
        "  :white_check_mark: *prod: model customers is up to date again*"
    ]


def test_history_that_waits_for_a_click_is_told(office: Office) -> None:
    set_environment(office, on_change="ask")
    office.told(office.slack_alone())
    office.site.clone.edit("models/daily.sql", "sum(amount)", "max(amount)")
    office.site.clone.push("another sum")
    assert "Waits for you" in office.site.says()
    office.tick()
    office.tick()
    assert office.slack.shown() == [
        ":red_circle: *prod: the rebuild of daily waits for you (partitions: 3): launch the job"
        " prod_rebuild_history*"
    ]
    office.site.clone.edit("models/daily.sql", "max(amount)", "sum(amount)")
    office.site.clone.push("back")
    office.site.says()
    office.tick()
    assert office.slack.shown()[1:] == [
        "  :white_check_mark: *prod: no rebuild of daily waits any more*"
    ]


def test_a_roll_back_and_a_pause_are_told_until_they_are_over(office: Office) -> None:
    site = office.site
    office.told(office.slack_alone())
    office.tick()
    sha = git(site.clone.folder, "rev-parse", "HEAD")[:10]
    order(site, "roll_back", "ann", commit=sha, reason="wrong totals.", dry_run=False)
    order(site, "pause", reason="the warehouse is moved")
    office.tick()
    held, paused = sorted(office.slack.shown())
    assert held.startswith(f":red_circle: *prod: it is held at {sha} by ann since 20")
    assert held.endswith("UTC: wrong totals. The job prod_roll_forward releases it*")
    assert paused.startswith(
        ":red_circle: *prod: no push and no schedule starts anything: paused by somebody since 20"
    )
    assert paused.endswith("the warehouse is moved. The job prod_resume lets it go on*")
    order(site, "roll_forward")
    order(site, "resume")
    office.tick()
    assert sorted(said for said in office.slack.shown() if said.startswith("  ")) == [
        "  :white_check_mark: *prod: it follows its branch again*",
        "  :white_check_mark: *prod: pushes and schedules start runs again*",
    ]


def test_a_tick_that_dies_after_a_message_says_it_again_with_the_same_id(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    office.told(office.everything())
    break_customers(office.site)

    write = Memory.write
    written: list[Memory] = []

    def die_the_second_time(memory: Memory, *where: Any) -> None:
        if written:
            raise KeyboardInterrupt
        written.append(memory)
        write(memory, *where)

    with monkeypatch.context() as patch:
        patch.setattr(Memory, "write", die_the_second_time)
        with pytest.raises(KeyboardInterrupt):
            office.tick()
    assert office.mail.to("data@example.com") == ["prod: model customers failed"]
    office.tick()
    office.tick()
    first, second = office.mail.mails
    assert first["Message-ID"] == second["Message-ID"]
    assert len(office.slack.posts) == len(office.teams.bodies) == len(office.hook.bodies) == 1


def test_no_secret_is_stored_or_logged(
    office: Office, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    office.told(office.everything())
    break_customers(office.site)
    office.slack.down = True
    office.teams.status, office.hook.status = 500, 302
    office.tick()
    assert set(office.check.split("; ")) == {"Teams answers 500", "the webhook answers 302"} | {
        said for said in office.check.split("; ") if said.startswith("Slack says")
    }
    office.slack.down = False
    office.teams.status = office.hook.status = 202
    office.tick(later=60)
    assert office.check == "green"
    wrong = office.everything()
    wrong["email"]["password"] = f"not {PASSWORD}"
    wrong["slack"]["token"] = f"not {TOKEN}"
    office.told(wrong)
    repair_customers(office.site)
    office.tick(later=60)
    assert f"localhost:{office.mail.port} does not take mail: SMTP" in office.check
    assert "Slack says invalid_auth (C0DATA): check notify.slack.token" in office.check
    secrets = (TOKEN, PASSWORD, TEAMS_SIGNATURE, SECRET, HOOK_TOKEN)
    said = caplog.text + "".join(capfd.readouterr())
    kept = [file for file in office.site.clone.home.rglob("*") if file.is_file()]
    assert any(file.suffix == ".db" for file in kept)
    for secret in secrets:
        assert secret not in said
        assert [file for file in kept if secret.encode() in file.read_bytes()] == []


def test_a_secret_that_is_not_set_is_red(office: Office) -> None:
    settings = office.everything()
    del settings["slack"]["token"], settings["webhook"]["secret"]
    office.told(settings)
    office.tick()
    assert (
        "notify.slack.token is not set: DBT_ORCHESTRATION_NOTIFY__SLACK__TOKEN sets" in office.check
    )
    assert "notify.webhook.secret is not set" in office.check


def test_in_korean(office: Office) -> None:
    office.told(office.slack_alone(language="ko"))
    break_customers(office.site)
    office.tick()
    assert office.slack.shown() == [":red_circle: *prod: 모델 실패: customers*"]
    assert "마지막 변경: Ann" in office.slack.posts[0].text
