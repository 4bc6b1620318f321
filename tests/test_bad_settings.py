"""Wrong settings, and what is said of each: what is wrong, where (file and key), what to do."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError
from rich.console import Console

import dbt_orchestration
from dbt_orchestration.local.dagster_process import LaptopError
from dbt_orchestration.local.up import running
from dbt_orchestration.settings.models import Environment, SettingsError, load_settings
from dbt_orchestration.settings.types import OUR_JOBS, Branch
from tests.conftest import make_settings

ENVIRONMENT = "environments: {prod: {branch: b, target: t, %s}}"
TWO = "environments: {one: {branch: a, target: %s}, two: {branch: b, target: %s}}"
UUID = "3675b69e-8324-4110-bdca-059031aa8da3"
LIGHTDASH = f"{{url: 'https://bi.acme.com', project: {UUID}}}"

SETTINGS = {
    # the file
    "- a\n- b": "{file} holds a list: write a mapping, `key: value`",
    "prod": "{file} holds a single value: write a mapping, `key: value`",
    "5": "{file} holds a single value: write a mapping, `key: value`",
    "1: x": "{file}: 1 is no key: write a name",
    "a: [": "{file}:1 is not valid YAML: expected the node content",
    "a: 1\n\tb: 2": "{file}:2 is not valid YAML: found character '\\t' that cannot start any token",
    "profile: a\nload_raw: true\nprofile: b": "{file}:3 is not valid YAML: 'profile' stands twice",
    "environments:\n  prod: {branch: a, target: a}\n  prod: {branch: b, target: b}": (
        "{file}:3 is not valid YAML: 'prod' stands twice: keep one"
    ),
    # keys
    "profil: x": "profil: there is no such setting: did you mean profile?",
    "state_dri: x": "state_dri: there is no such setting: did you mean state_dir?",
    "xyz: x": "xyz: there is no such setting; there are: project_dir, profiles_dir, profile,",
    "git: {tokn: x}": "git.tokn: there is no such setting: did you mean token?",
    ENVIRONMENT % "on_chnge: ask": (
        "environments.prod.on_chnge: there is no such setting: did you mean on_change?"
    ),
    ENVIRONMENT % "push: {intervall_seconds: 5}": (
        "environments.prod.push.intervall_seconds: there is no such setting: did you mean interv"
    ),
    ENVIRONMENT % "jobs: {finance: {selct: x}}": (
        "environments.prod.jobs.finance.select: is required; environments.prod.jobs.finance.selct:"
        " there is no such setting: did you mean select?"
    ),
    # types and ranges
    "environments: [prod]": "environments: write a mapping: `key: value`",
    "environments: {}": "environments: name at least one",
    "environments: {prod: main}": "environments.prod: write a mapping: `key: value`",
    "environments: {prod: {target: t}}": "environments.prod.branch: is required",
    "environments: {prod: {branch: b}}": "environments.prod.target: is required",
    "environments: {prod: {branch: 1.0, target: t}}": (
        "environments.prod.branch: write a text, in quotes if it looks like a number"
    ),
    "environments: {prod: {branch: b, target: ''}}": "environments.prod.target: String should have",
    "environments: {Prod: {branch: b, target: t}}": "'Prod' must be lower-case letters, digits and",
    "pool_limit: 0": "pool_limit: Input should be greater than or equal to 1",
    "pool_limit: many": "pool_limit: Input should be a valid integer",
    "pool_limit: 1000000000000000000000": "pool_limit: Input should be less than or equal to 1000",
    "keep_revisions: 0": "keep_revisions: Input should be greater than or equal to 1",
    "load_raw: 5": "load_raw: Input should be a valid boolean",
    ENVIRONMENT % "push: {interval_seconds: 0}": "interval_seconds: Input should be greater than o",
    ENVIRONMENT % f"push: {{interval_seconds: {10**30}}}": (
        "environments.prod.push.interval_seconds: Input should be less than or equal to 86400"
    ),
    ENVIRONMENT
    % "push: {max_partitions: -1}": "max_partitions: Input should be greater than or eq",
    ENVIRONMENT % "lookback: -1": "prod.lookback: Input should be greater than or equal to 0",
    ENVIRONMENT % "on_change: rebuld": "on_change: Input should be 'rebuild', 'ask' or 'forward_on",
    ENVIRONMENT % "full_build: {cron: '0 8 * *'}": (
        "environments.prod.full_build.cron: '0 8 * *' is not a cron expression, for example '0 8 *"
    ),
    ENVIRONMENT % "full_build: {cron: '0 0 31 2 *'}": "'0 0 31 2 *' is not a cron expression",
    ENVIRONMENT % "full_build: {timezone: Seoul}": "'Seoul' is not an IANA time zone, for example",
    # names
    "environments: {prod: {branch: '', target: t}}": (
        "environments.prod.branch: '' cannot be a git branch: write the name of one, such as 'main'"
    ),
    "environments: {prod: {branch: '*', target: t}}": "prod.branch: '*' cannot be a git branch",
    "environments: {prod: {branch: '-d', target: t}}": "prod.branch: '-d' cannot be a git branch",
    "environments: {prod: {branch: 'a b', target: t}}": "prod.branch: 'a b' cannot be a git branch",
    **{
        ENVIRONMENT % f"jobs: {{{job}: {{select: x}}}}": (
            f"environments.prod.jobs.{job}: the name is taken by a job that is there already"
        )
        for job in OUR_JOBS
    },
    ENVIRONMENT % "jobs: {config: {select: x}}": "jobs.config: Dagster reserves the name: ch",
    ENVIRONMENT % "jobs: {class: {select: x}}": "jobs.class: Dagster reserves the name: choo",
    ENVIRONMENT % "jobs: {Fin-ance: {select: x}}": "'Fin-ance' must be lower-case letters, digits",
    # tickets
    "git: {ticket_pattern: '[A-Z'}": "git.ticket_pattern: '[A-Z' is no regular expression: unterm",
    "git: {ticket_pattern: 'A*'}": "git.ticket_pattern: 'A*' finds a ticket where there is none",
    "git: {ticket_url: 'https://acme.com/browse'}": (
        "git.ticket_url: 'https://acme.com/browse' is no address of a ticket: write one such as"
    ),
    # environments that do not go together
    TWO % ("t", "t"): (
        "environments.two.target: one has 't' already, and each would replace the other's"
        " tables: name another target of profiles.yml"
    ),
    TWO
    % ("s", "t, defer_to: two"): "environments.two.defer_to: two to two is a circle: remove one",
    TWO % ("s, defer_to: two", "t, defer_to: one"): (
        "environments.one.defer_to: one to two to one is a circle: remove one defer_to"
    ),
    TWO % ("s, defer_to: three", "t"): "environments.one.defer_to: there is no environment 'three'",
    TWO % (f"s, lightdash: {LIGHTDASH}", f"t, lightdash: {LIGHTDASH}"): (
        "environments.two.lightdash.project: one has the same, and a project of Lightdash shows the"
        " tables of one: name another project"
    ),
    # Lightdash
    ENVIRONMENT % "lightdash: {}": (
        "environments.prod.lightdash.url: is required; environments.prod.lightdash.project: is re"
    ),
    ENVIRONMENT % "lightdash: https://bi.acme.com": "prod.lightdash: write a mapping: `key: value`",
    ENVIRONMENT % f"lightdash: {{uri: x, url: 'https://bi', project: {UUID}}}": (
        "environments.prod.lightdash.uri: there is no such setting: did you mean url?"
    ),
    ENVIRONMENT % f"lightdash: {{url: bi.acme.com, project: {UUID}}}": (
        "prod.lightdash.url: 'bi.acme.com' is no address: write one such as https://lightdash.acme"
    ),
    ENVIRONMENT % f"lightdash: {{url: 'http://bi.acme.com', project: {UUID}}}": (
        "prod.lightdash.url: the token would be sent to http://bi.acme.com in the clear: write htt"
    ),
    ENVIRONMENT % f"lightdash: {{url: 'https://ann:pw@bi.acme.com', project: {UUID}}}": (
        "prod.lightdash.url: an address with a user or a password in it is shown in logs: use tok"
    ),
    ENVIRONMENT % "lightdash: {url: 'https://bi.acme.com', project: shop}": (
        "prod.lightdash.project: 'shop' is no UUID: copy it from the address of a page of the proj"
    ),
    ENVIRONMENT % f"lightdash: {{url: 'https://b', project: {UUID}, timeout_seconds: 0}}": (
        "environments.prod.lightdash.timeout_seconds: Input should be greater than or equal to 1"
    ),
    # files and folders
    "project_dir: nowhere": "project_dir: there is no {folder}/nowhere/dbt_project.yml",
    "profiles_dir: nowhere": "profiles_dir: there is no {folder}/nowhere/profiles.yml",
    "state_dir: a_file": "state_dir: {folder}/a_file is a file: name a folder",
    "state_dir: a_file/state": "state_dir: {folder}/a_file is a file: name a folder",
    "duckdb_path: a_folder": "duckdb_path: {folder}/a_folder is a folder: name a file",
    "git: {ssh_key: no/key}": "git.ssh_key: there is no file {folder}/no/key",
    "git: {known_hosts: no/hosts}": "git.known_hosts: there is no file {folder}/no/hosts",
    "git: {project_path: /dbt}": "git.project_path: '/dbt' is not inside the repository: write a",
    "git: {project_path: ../dbt}": "git.project_path: '../dbt' is not inside the repository",
    "git: {remote: 'https://u:p@example.com/r'}": "git.remote: a remote with a user or a password",
    # who is told
    "notify: {slak: {}}": "notify.slak: there is no such setting: did you mean slack?",
    "notify: {language: de}": "notify.language: Input should be 'en' or 'ko'",
    "notify: {slack: {}}": "notify.slack.channel: is required (docs/notifications.md)",
    "notify: {slack: {channel: 5}}": "notify.slack.channel: write a text, in quotes if it looks",
    "notify: {slack: {channel: c, api_url: 'http://slack.com/api'}}": (
        "notify.slack.api_url: a secret would be sent there in the clear: write https"
    ),
    "notify: {email: {host: h, sender: me}}": "notify.email.sender: 'me' is no e-mail address: wr",
    "notify: {email: {sender: a@b.org, to: [a@b.org]}}": "notify.email.host: is required",
    "notify: {email: {host: h, sender: a@b.org}}": "notify.email.to: name somebody",
    "notify: {email: {host: h, sender: a@b.org, to: [c@b.org], security: none, password: hidden"
    "}}": ("notify.email.password: would be sent in the clear: set email.security to starttls"),
    "notify: {teams: {url: hidden}}": "notify.teams.url: it is no web address: write one that beg",
    "notify: {webhook: {url: 'http://example.com/hidden'}}": (
        "notify.webhook.url: a secret would be sent there in the clear: write https"
    ),
    "notify: {webhook: {secret: hidden!}}": "notify.webhook.secret: it is not base64: make one wi",
    "notify: {quiet_hours: {begin: 22:00, end: '07:00'}}": (
        'notify.quiet_hours.begin: write a time of day in quotes: "22:00"'
    ),
    "notify: {routes: {a: {slack: c}}}": "notify.routes.a: name groups or owners",
    "notify: {routes: {a: {groups: [g]}}}": "notify.routes.a: say where to, with slack, email or",
    "notify: {routes: {a: {groups: [g], slack: c}}}": (
        "notify.routes.a.slack: there is no notify.slack: say how"
    ),
    ENVIRONMENT % "notify: {slack: {}}": "environments.prod.notify.slack.channel: is required",
    "git: {remote: --upload-pack=x}": "git.remote: '--upload-pack=x' is no remote: write an https",
}


@pytest.mark.parametrize(("text", "message"), SETTINGS.items(), ids=SETTINGS)
def test_a_wrong_setting(
    text: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "environments.yaml"
    file.write_text(text)
    for name in ("dbt_project.yml", "profiles.yml", "a_file"):
        (tmp_path / name).touch()
    (tmp_path / "a_folder").mkdir()
    monkeypatch.setenv("DBT_ORCHESTRATION_CONFIG", str(file))
    with pytest.raises(SettingsError) as error:
        load_settings()
    said = str(error.value)
    assert said.startswith(str(file))
    assert message.format(file=file, folder=tmp_path) in said
    assert "hidden" not in said


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("STATEDIR", "x", "DBT_ORCHESTRATION_STATEDIR: there is no such setting: did you mean D"),
        ("POOL_LIMIT", "many", "pool_limit: Input should be a valid integer"),
        ("ENVIRONMENTS", "[", "DBT_ORCHESTRATION_* variables: error parsing value for field"),
        ("ENVIRONMENTS__PROD__BRNCH", "x", "prod.brnch: there is no such setting: did you mean br"),
        ("CONFIG", "no/such.yaml", "DBT_ORCHESTRATION_CONFIG: there is no file"),
        ("CONFIG", "docs", "DBT_ORCHESTRATION_CONFIG: there is no file"),
        ("CONFIG", "docs/images/push.png", "push.png cannot be read: 'utf-8' codec can't decode"),
    ],
)
def test_a_wrong_variable(
    name: str, value: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"DBT_ORCHESTRATION_{name}", value)
    with pytest.raises(SettingsError) as error:
        load_settings()
    assert message in str(error.value)


def test_a_wrong_token_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DBT_ORCHESTRATION_ENVIRONMENTS__PROD__LIGHTDASH__TOKEN", "s3cret t0ken")
    with pytest.raises(SettingsError) as error:
        load_settings()
    assert "prod.lightdash.token: it has characters that no token has: copy it" in str(error.value)
    assert "s3cret" not in str(error.value)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"brnch": "main"}, "prod: brnch: there is no such setting: did you mean branch?"),
        (
            {"name": "dev", "xyz": 1},
            "dev: xyz: there is no such setting; there are: select, exclud",
        ),
        ({"name": "Prod"}, "Prod: name: 'Prod' must be lower-case letters, digits and '_', a lett"),
        ({"project_dir": None}, "prod: project_dir: write the path of a file or a folder"),
        ({"branch": 1.0}, "prod: branch: write a text, in quotes if it looks like a number"),
        ({"branch": "a b"}, "prod: branch: 'a b' cannot be a git branch: write the name of one"),
        ({"target": ""}, "prod: target: String should have at least 1 character"),
        ({"push": True}, "prod: push: write a mapping: `key: value`"),
        (
            {"push": {"enabld": True}},
            "prod: push.enabld: there is no such setting: did you mean en",
        ),
        ({"full_build": {"cron": "8"}}, "prod: full_build.cron: '8' is not a cron expression, for"),
        ({"jobs": {"a": {}}, "lookback": -1}, "prod: lookback: Input should be greater than or eq"),
        ({"jobs": {"a": {}}, "lookback": -1}, "; jobs.a.select: is required"),
        ({"on_change": "rebuld"}, "prod: on_change: Input should be 'rebuild', 'ask' or 'forward_"),
        ({"git": {"token": "t", "remote": "http://x/r"}}, "prod: git: git.token would be sent to"),
    ],
)
def test_a_wrong_argument_in_python(said: Mapping[str, Any], message: str) -> None:
    with pytest.raises(SettingsError) as error:
        dbt_orchestration.Environment(**{"project_dir": "dbt", **said})
    assert str(error.value).startswith("environment ")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_what_python_has_to_say() -> None:
    with pytest.raises(SettingsError, match=r"^environment prod: project_dir: is required$"):
        dbt_orchestration.Environment()  # type: ignore[call-arg]


@pytest.mark.parametrize(
    "branch",
    [
        *("", "-", "-d", "*", "a*", "@", "HEAD", "a@{1}", "a@b", ".a", "a/.b", "a.", "a.b", "a..b"),
        *("/a", "a/", "a//b", "a/b", "a.lock", "a.lock/b", "a.locks", "a b", "a~1", "a^", "a:b"),
        *(
            "a?",
            "a[b",
            "a\\b",
            "a\tb",
            "a\x7f",
            "é",
            "release/2024-01",
            "dependabot/npm_and_yarn/x",
        ),
    ],
)
def test_a_branch_is_what_git_takes_for_one(branch: str) -> None:
    git = subprocess.run(
        ["git", "check-ref-format", "--branch", branch], capture_output=True, check=False
    )
    try:
        ours = bool(TypeAdapter(Branch).validate_python(branch) == branch)
    except ValidationError:
        ours = False
    assert ours == (git.returncode == 0)


def test_yaml_keys_that_are_merged_stand_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "environments.yaml"
    file.write_text(
        "environments:\n  prod: &prod {branch: main, target: prod}\n"
        "  dev: {<<: *prod, branch: dev, target: dev}\n"
    )
    for name in ("dbt_project.yml", "profiles.yml"):
        (tmp_path / name).touch()
    monkeypatch.setenv("DBT_ORCHESTRATION_CONFIG", str(file))
    assert load_settings().environment("dev").branch == "dev"


def test_a_target_that_profiles_yml_does_not_have_stops_the_start(tmp_path: Path) -> None:
    stage = {"stage": Environment(branch="main", target="stage")}
    settings = make_settings(tmp_path, environments=stage)
    with (
        pytest.raises(LaptopError, match=r"^stage wants target 'stage'; .*yml has: prod, dev$"),
        running(settings, 0, Console(), {}),
    ):
        pass
