"""``orchestration.yml``: what analysts say with a commit takes effect when it is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from dbt_orchestration.automation.outcome import Outcome, findings
from dbt_orchestration.dbt.selection import Parsed
from dbt_orchestration.doctor import examine
from dbt_orchestration.location.environment import Environment as Described
from dbt_orchestration.revisions.project_file import remarks, with_project_file
from dbt_orchestration.settings.allowed import ProjectFileRules
from dbt_orchestration.settings.models import Environment, Job, Schedule, Settings, SettingsError
from dbt_orchestration.settings.notify import Email, Notify, Slack
from tests.automation.site import Site

SLACK = Slack.model_validate({"token": "xoxb-1", "channel": "#data"})
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


def schedules_of(site: Site) -> list[dg.ScheduleDefinition]:
    found = site.loaded["prod"].get_repository_def().schedule_defs
    return [each for each in found if isinstance(each, dg.ScheduleDefinition)]


def test_a_push_changes_jobs_and_schedules_and_a_wrong_file_changes_nothing(built: Site) -> None:
    built.load()
    says(built, FILE, "finance on Mondays")
    assert "nothing is due" in built.says()

    def schedules() -> dict[str, tuple[str, str]]:
        return {
            s.name: (str(s.cron_schedule), str(s.execution_timezone)) for s in schedules_of(built)
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
            "environments: {prodd: {on_change: ask}}",
            {},
            "environments.prodd: there is no such environment: did you mean prod?",
        ),
        (
            "full_build: {enabled: false}",
            {"may_disable_full_build": False},
            "full_build.enabled: the daily build may not be switched off here: remove it",
        ),
        (
            "routes: {finance: {groups: [finance], slack: '#else'}}",
            {"slack_channels": ["#data"]},
            "routes.finance.slack: #else is not allowed here: say #data",
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


def test_a_file_of_another_ending_is_not_left_unread(platform: Settings, tmp_path: Path) -> None:
    (tmp_path / "orchestration.yaml").write_text("on_change: ask")
    with pytest.raises(SettingsError) as error:
        with_project_file(platform, "prod", tmp_path)
    assert str(error.value) == "orchestration.yaml is not read: rename it to orchestration.yml"


def test_environments_of_others_may_be_spoken_of(platform: Settings, tmp_path: Path) -> None:
    (tmp_path / "orchestration.yml").write_text("environments: {staging: {on_change: ask}}")
    assert with_project_file(ruled(platform, other_environments=["staging"]), "prod", tmp_path)
    # Another code location may have it.
    described = Described(project_dir=tmp_path, profile="any", branch="main").as_settings()
    assert with_project_file(described, "prod", tmp_path)
    project = Parsed({"nodes": {}, "sources": {}}, tmp_path)
    [said] = remarks(described, "prod", project)
    assert "environments.staging: it says nothing here, where there is only prod" in said


def test_a_route_to_nobody_is_remarked_on(built: Site) -> None:
    prod = built.settings.environment("prod").model_copy(update={"notify": Notify(slack=SLACK)})
    environments = {**built.settings.environments, "prod": prod}
    settings = built.settings.model_copy(update={"environments": environments})
    built.clone.write(
        "models/owned.yml",
        "models: [{name: totals, config: {meta: {dagster: {owners: [Ann Lee], group: money}}}}]",
    )
    says(
        built,
        "routes: {a: {groups: [money, mony], owners: ['team:ann_lee', bob], slack: '#a'}}",
        "routes",
    )
    found = [each for each in examine(settings) if each.what == "prod: project"]
    assert [(each.ok, each.message) for each in found[1:]] == [
        (
            False,
            "orchestration.yml: routes.a.groups: no model is in the group 'mony': did you mean"
            " money?",
        ),
        (
            False,
            "orchestration.yml: routes.a.owners: no model has the owner 'bob'; there are:"
            " team:Ann_Lee",
        ),
    ]
    assert found[0].ok


def test_a_model_says_no_more_of_changes_than_the_file_may(built: Site) -> None:
    prod = ruled(built.settings, on_change=["rebuild"]).environment("prod")
    environments = {**built.settings.environments, "prod": prod}
    built.settings = built.settings.model_copy(update={"environments": environments})
    built.load()
    meta = "{{ config(meta={'dagster': {'on_change': 'forward_only'}}) }}\n"
    file = built.clone.folder / "dbt" / "models" / "kept.sql"
    file.write_text(meta + file.read_text())
    built.clone.push("only new rows")
    said = built.says()
    assert "models/kept.sql: meta.dagster of kept: on_change: forward_only is not allowed" in said
    assert "say rebuild" in said


def test_a_job_runs_in_the_time_zone_of_the_full_build(built: Site) -> None:
    built.load()
    says(
        built,
        "full_build: {timezone: Europe/Berlin}\n"
        "jobs:\n"
        "  here: {select: customers, schedule: {cron: 0 7 * * *}}\n"
        "  there: {select: customers, schedule: {cron: 0 7 * * *, timezone: Asia/Tokyo}}\n",
        "in Berlin",
    )
    assert "nothing is due" in built.says()
    assert {s.name: s.execution_timezone for s in schedules_of(built)} == {
        "prod_full_build_schedule": "Europe/Berlin",
        "prod_here_schedule": "Europe/Berlin",
        "prod_there_schedule": "Asia/Tokyo",
    }


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
