"""What nobody has set: a stranger's dbt project is served as dbt and git know it."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import pytest
from typer.testing import CliRunner

from dbt_orchestration import Environment, build_defs
from dbt_orchestration.cli import app
from dbt_orchestration.settings.models import Settings, SettingsError, load_settings
from tests.automation.site import git

_PROFILES = """\
coffee:
  target: here
  outputs:
    here: {type: duckdb, path: coffee.duckdb, schema: shop}
    there: {type: duckdb, path: coffee.duckdb, schema: other}
"""


def make_project(folder: Path) -> Path:
    """A dbt project that knows nothing of us."""
    (folder / "models").mkdir(parents=True)
    (folder / "seeds").mkdir()
    (folder / "dbt_project.yml").write_text("name: coffee\nprofile: coffee\n")
    (folder / "profiles.yml").write_text(_PROFILES)
    (folder / "seeds" / "raw_sales.csv").write_text("id,cents\n1,300\n2,250\n")
    (folder / "models" / "sales.sql").write_text(
        "select id, cents / 100 as euros from {{ ref('raw_sales') }}"
    )
    return folder


def commit_all(folder: Path, message: str = "first") -> str:
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", message)
    return git(folder, "rev-parse", "HEAD")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that somebody stands in."""
    folder = tmp_path / "repository"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return folder


def only(settings: Settings) -> tuple[str, str, bool]:
    assert list(settings.environments) == ["prod"]
    environment = settings.environment("prod")
    return environment.branch, environment.target, environment.push.enabled


def test_the_branch_that_is_checked_out_is_followed(here: Path) -> None:
    make_project(here / "dbt")
    git(here, "init", "--quiet", "--initial-branch=trunk")
    commit_all(here)
    settings = load_settings()
    assert only(settings) == ("trunk", "here", True)
    assert settings.project_dir == settings.profiles_dir == here / "dbt"
    assert settings.profile == "coffee"
    assert settings.state_dir == here / ".dbt-orchestration"
    assert not settings.load_raw


def test_of_a_remote_it_is_the_default_branch(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote = tmp_path / "remote.git"
    git(tmp_path, "init", "--quiet", "--bare", "--initial-branch=release", str(remote))
    make_project(here)
    git(here, "init", "--quiet", "--initial-branch=mine")
    commit_all(here)
    git(here, "push", "--quiet", str(remote), "HEAD:release")
    monkeypatch.setenv("DBT_ORCHESTRATION_GIT__REMOTE", str(remote))
    assert only(load_settings()) == ("release", "here", True)


def test_outside_git_nothing_is_followed(here: Path) -> None:
    make_project(here)
    assert only(load_settings()) == ("main", "here", False)


@pytest.mark.parametrize("stated", ["", "environments: {prod: {branch: main, target: here}}"])
def test_outside_git_up_says_that_no_push_is_followed(here: Path, stated: str) -> None:
    project = make_project(here)
    (here / "environments.yaml").write_text(stated)
    # It then stops before it has started anything.
    (project / "models" / "broken.sql").write_text("{% if %}")
    said = f"\nPushes are not followed: {here} is in no git repository. Run git init there, commit"
    assert said in f"\n{CliRunner().invoke(app, ['up']).output}"
    git(here, "init", "--quiet", "--initial-branch=trunk")
    commit_all(here)
    assert "not followed" not in CliRunner().invoke(app, ["up"]).output


def test_outside_git_the_daily_build_says_that_no_push_is_followed(here: Path) -> None:
    make_project(here)
    told = {"webhook": {"url": "https://example.com/hook"}}
    outside = build_defs(Environment(project_dir=here, notify=told))
    said = f"Pushes are not followed: {here} is in no git repository"
    schedule = outside.resolve_schedule_def("prod_full_build_schedule")
    pushes = outside.resolve_asset_graph().get(dg.AssetKey(["prod", "pushes"]))
    job = outside.resolve_job_def("prod_full_build")
    for each in (schedule, pushes, job):
        assert said in (each.description or "")
    git(here, "init", "--quiet", "--initial-branch=trunk")
    commit_all(here)
    inside = build_defs(Environment(project_dir=here, push={"enabled": False}))
    assert said not in (inside.resolve_job_def("prod_full_build").description or "")


def test_profiles_are_found_in_the_home_folder(here: Path, tmp_path: Path) -> None:
    project, folder = make_project(here), tmp_path / "home" / ".dbt"
    folder.mkdir(parents=True)
    (project / "profiles.yml").rename(folder / "profiles.yml")
    assert load_settings().profiles_dir == folder


def test_dbts_own_variable_says_where_profiles_are(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = make_project(here)
    (project / "profiles.yml").rename(tmp_path / "profiles.yml")
    monkeypatch.setenv("DBT_PROFILES_DIR", str(tmp_path))
    assert load_settings().profiles_dir == tmp_path


@pytest.mark.parametrize("command", ["up", "doctor"])
def test_an_option_says_where_profiles_are(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    project, folder = make_project(here), tmp_path / "secrets"
    folder.mkdir()
    (project / "profiles.yml").unlink()
    # A file of which both say something, so that nothing has to be started.
    (folder / "profiles.yml").write_text(_PROFILES.replace("duckdb,", "bigquery,"))
    monkeypatch.setenv("DBT_ORCHESTRATION_PROFILES_DIR", "elsewhere")  # the option is stronger
    done = CliRunner().invoke(app, [command, "--profiles-dir", "../secrets"])
    assert f"{folder}/profiles.yml: the profile coffee needs dbt-bigquery" in done.output
    # What is started reads the settings itself.
    assert load_settings().profiles_dir == folder


def test_relative_paths_start_at_the_settings_file(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_project(tmp_path / "elsewhere" / "dbt")
    file = tmp_path / "elsewhere" / "environments.yaml"
    file.write_text("project_dir: dbt\nstate_dir: kept\n")
    monkeypatch.setenv("DBT_ORCHESTRATION_CONFIG", "../elsewhere/environments.yaml")
    settings = load_settings()
    assert settings.project_dir == tmp_path / "elsewhere" / "dbt"
    assert settings.state_dir == tmp_path / "elsewhere" / "kept"


def test_no_project_and_several_projects_say_so(here: Path) -> None:
    with pytest.raises(SettingsError, match=f"project_dir: there is no {here}/dbt_project.yml"):
        load_settings()
    make_project(here / "one")
    make_project(here / "two")
    with pytest.raises(SettingsError, match=r"several dbt projects \(one, two\): name one"):
        load_settings()


def test_an_adapter_that_is_not_installed_is_named(here: Path) -> None:
    project = make_project(here)
    profiles = project / "profiles.yml"
    profiles.write_text(profiles.read_text().replace("duckdb,", "bigquery,"))
    done = CliRunner().invoke(app, ["doctor"])
    assert done.exit_code == 1
    assert "the profile coffee needs dbt-bigquery: pip install dbt-bigquery" in done.output


@pytest.mark.parametrize(
    ("file", "text", "place"),
    [
        ("dbt_project.yml", "- a\n", ""),
        ("profiles.yml", "- a\n", ""),
        ("profiles.yml", "coffee: [a]\n", " coffee:"),
        ("profiles.yml", "coffee: {outputs: 3}\n", " coffee: outputs:"),
    ],
)
@pytest.mark.parametrize("command", ["up", "doctor"])
def test_a_file_of_dbt_that_is_something_else_is_named(
    here: Path, command: str, file: str, text: str, place: str
) -> None:
    (make_project(here) / file).write_text(text)
    done = CliRunner().invoke(app, [command])
    assert (done.exit_code, type(done.exception)) == (1, SystemExit)
    said = f"{here / file}:{place} it is no mapping of keys to values, as dbt wants it"
    assert said in done.output


def test_init_writes_what_goes_without_saying_and_overwrites_nothing(here: Path) -> None:
    make_project(here)
    git(here, "init", "--quiet", "--initial-branch=trunk")
    commit_all(here)
    before = load_settings()
    assert CliRunner().invoke(app, ["init"]).exit_code == 0
    assert load_settings() == before
    (here / "environments.yaml").write_text("environments: {live: {branch: b, target: there}}\n")
    assert "was there, and stays" in CliRunner().invoke(app, ["init"]).output
    assert list(load_settings().environments) == ["live"]
    assert git(here, "status", "--porcelain", "--", ".dbt-orchestration") == ""
