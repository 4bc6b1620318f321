"""``orchestration.yml``: what analysts say with a commit takes effect when it is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from dbt_orchestration.automation.outcome import Outcome, findings
from dbt_orchestration.location.project_file import with_project_file
from dbt_orchestration.settings.allowed import ProjectFileRules
from dbt_orchestration.settings.models import Environment, Job, Schedule, Settings, SettingsError
from dbt_orchestration.settings.notify import Email, Notify
from tests.automation.site import Site

FILE = """
full_build: {cron: "0 7 * * *"}
jobs:
  finance:
    select: customers
    schedule: {cron: "0 7 * * 1"}
environments:
  prod: {on_change: ask}
"""


def begin(site: Site) -> None:
    site.build_all()


def says(site: Site, text: str, message: str) -> str:
    site.clone.write("orchestration.yml", text)
    return site.clone.push(message)


def test_a_push_changes_jobs_and_schedules_and_a_wrong_file_changes_nothing(built: Site) -> None:
    built.load()
    says(built, FILE, "finance on Mondays")
    assert "nothing is due" in built.says()

    def schedules() -> dict[str, tuple[str, str]]:
        found = built.loaded["prod"].get_repository_def().schedule_defs
        return {
            s.name: (str(s.cron_schedule), str(s.execution_timezone))
            for s in found
            if isinstance(s, dg.ScheduleDefinition)
        }

    wanted = {
        "prod_finance_schedule": ("0 7 * * 1", "Asia/Seoul"),
        "prod_full_build_schedule": ("0 7 * * *", "Asia/Seoul"),
    }
    assert schedules() == wanted
    job = built.loaded["prod"].resolve_job_def("prod_finance")
    assert job.execute_in_process(instance=built.instance).success

    sha = says(built, FILE.replace("select: customers", "select: customer"), "a slip")
    said = built.says()
    assert "jobs.finance.select: there is no model 'customer': did you mean customers?" in said
    assert findings(built.cursors["prod"])[0].outcome is Outcome.BROKEN
    assert sha[:10] in said
    assert schedules() == wanted
    says(built, "", "no jobs")
    assert "nothing is due" in built.says()
    assert schedules() == {"prod_full_build_schedule": ("0 8 * * *", "Asia/Seoul")}


def test_a_job_is_chosen_with_a_selector_of_the_same_commit(built: Site) -> None:
    built.load()
    mine = "selectors: [{name: mine, definition: {method: fqn, value: customers}}]\n"
    built.clone.write("selectors.yml", mine)
    says(built, "jobs: {finance: {select: 'selector:mine'}}", "a selector, and its job")
    assert "nothing is due" in built.says()
    job = built.loaded["prod"].resolve_job_def("prod_finance")
    assert job.asset_layer.executable_asset_keys == {dg.AssetKey(["prod", "customers"])}


def test_a_change_of_history_is_asked_for_where_the_file_says_so(built: Site) -> None:
    built.load()
    built.clone.write("orchestration.yml", "environments: {prod: {on_change: ask}}")
    built.clone.edit("models/daily.sql", "sum(amount)", "sum(amount) * 2")
    built.clone.push("twice, and ask")
    assert "Waits for you: to rebuild daily" in built.says()


@pytest.fixture
def platform(tmp_path: Path) -> Settings:
    """Settings of which nothing is opened."""
    (tmp_path / "dbt_project.yml").touch()
    (tmp_path / "profiles.yml").touch()
    prod = Environment(branch="main", target="prod", jobs={"ours": Job(select="a")})
    return Settings(project_dir=tmp_path, profile="any", environments={"prod": prod})


def ruled(settings: Settings, **rules: Any) -> Settings:
    changed = {"project_file": ProjectFileRules(**rules)}
    prod = settings.environment("prod").model_copy(update=changed)
    return settings.model_copy(update={"environments": {"prod": prod}})


@pytest.mark.parametrize(
    ("text", "rules", "message"),
    [
        ("- a", {}, "orchestration.yml holds a list: write a mapping, `key: value`"),
        ("a: [", {}, "orchestration.yml:1 is not valid YAML"),
        ("job: {}", {}, "orchestration.yml: job: there is no such key: did you mean jobs?"),
        ("target: prod", {}, "orchestration.yml: target: there is no such key"),
        (
            "full_build: {cron: at eight}",
            {},
            "orchestration.yml: full_build.cron: 'at eight' is not a cron expression",
        ),
        (
            "jobs: {ours: {select: b}}",
            {},
            "jobs.ours: the settings have a job of that name: choose another name",
        ),
        (
            "jobs: {full_build: {select: b}}",
            {},
            "the name is taken by a job that is there already: choose another",
        ),
        (
            "jobs: {hold: {select: b}}",
            {},
            "the name is taken by a job that is there already: choose another",
        ),
        (
            "full_build: {cron: '* * * * *'}",
            {},
            "full_build.cron: '* * * * *' starts twice within 1 minute; 15 minutes",
        ),
        (
            "on_change: ask",
            {"allow": ["jobs"]},
            "on_change: the settings of the platform do not let a commit say that",
        ),
        (
            "environments: {prod: {on_change: forward_only}}",
            {"on_change": ["rebuild", "ask"]},
            "on_change: forward_only is not allowed here: say rebuild, ask",
        ),
        (
            "jobs: {a: {select: a}, b: {select: b}}",
            {"most_jobs": 1},
            "jobs: 2 are more than the 1 that are allowed",
        ),
        (
            "routes: {finance: {groups: [finance], email: [ann@example.com]}}",
            {},
            "routes: nobody is told anything here, as the settings of the platform have no notify",
        ),
        (
            "routes: {finance: {groups: [finance], teams: 'https://example.com/secret'}}",
            {},
            "routes.finance.teams: there is no such key",
        ),
    ],
)
def test_a_wrong_file_is_refused_in_one_line(
    platform: Settings, tmp_path: Path, text: str, rules: dict[str, Any], message: str
) -> None:
    (tmp_path / "orchestration.yml").write_text(text)
    with pytest.raises(SettingsError) as error:
        with_project_file(ruled(platform, **rules), "prod", tmp_path)
    assert message in str(error.value)
    assert "orchestration.yml" in str(error.value)
    assert "\n" not in str(error.value)


def test_routes_of_a_commit_go_where_the_platform_has_said_how(
    platform: Settings, tmp_path: Path
) -> None:
    mail = Email(host="mail.example.com", sender="d@example.com", to=["data@example.com"])
    told = platform.model_copy(update={"notify": Notify(email=mail)})
    route = "routes: {money: {groups: [finance], email: [ann@example.com]}}"
    (tmp_path / "orchestration.yml").write_text(route)
    notify = with_project_file(told, "prod", tmp_path).notify_of("prod")
    assert notify is not None
    assert notify.routes["money"].email == ["ann@example.com"]
    assert notify.email == mail
    with pytest.raises(SettingsError, match=r"ann@example\.com is not at corp\.example"):
        with_project_file(ruled(told, email_domains=["corp.example"]), "prod", tmp_path)


def test_an_environment_says_only_what_is_otherwise_there(
    platform: Settings, tmp_path: Path
) -> None:
    (tmp_path / "orchestration.yml").write_text(
        "full_build: {cron: 0 7 * * *}\n"
        "environments: {prod: {full_build: {timezone: Europe/Berlin}}}"
    )
    build = with_project_file(platform, "prod", tmp_path).environment("prod").full_build
    assert (build.cron, build.timezone) == ("0 7 * * *", "Europe/Berlin")


def test_what_another_commit_said_does_not_count(platform: Settings, tmp_path: Path) -> None:
    (tmp_path / "orchestration.yml").write_text("jobs: {theirs: {select: b}}\non_change: ask")
    first = with_project_file(platform, "prod", tmp_path)
    assert first.environment("prod").jobs.keys() == {"ours", "theirs"}
    assert first.environment("prod").full_build == Schedule()
    assert with_project_file(first, "prod", tmp_path) == first
    (tmp_path / "orchestration.yml").write_text("")
    assert with_project_file(first, "prod", tmp_path) == platform
