"""An environment inside a Dagster project that has assets, jobs and sensors of its own."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from textwrap import dedent
from typing import Any

import dagster as dg
import duckdb
import pytest

from dbt_orchestration import DefaultTranslator, Environment, build_defs
from dbt_orchestration.settings.models import SettingsError
from tests.automation.lightdash_server import PROJECT, LightdashServer
from tests.automation.site import git
from tests.conftest import REPOSITORY
from tests.location.conftest import DefsYaml
from tests.test_docs import blocks

_SENSORS = ("push", "rebuild", "morning_page")


@dg.asset(key=["imported", "people"])
def people() -> None:
    """An asset of the user's own, which a dbt source is."""


def environment(home: Path, name: str = "prod", **more: Any) -> Environment:
    values = {"target": name, "state_dir": home / f"state_{name}", **more}
    return Environment(name=name, project_dir=home / "dbt", **values)


def test_two_environments_live_beside_what_is_there(home: Path) -> None:
    @dg.sensor(name="push", target=people)
    def push() -> None:
        """Called as one of ours would be."""

    @dg.job(name="full_build")
    def full_build() -> None:
        """The same."""

    theirs = dg.Definitions(
        assets=[people], jobs=[full_build], sensors=[push], executor=dg.multiprocess_executor
    )
    git(home, "branch", "dev")
    defs = dg.Definitions.merge(
        theirs,
        build_defs(environment(home)),
        build_defs(environment(home, "dev", branch="dev")),
    )
    dg.Definitions.validate_loadable(defs)
    repository = defs.get_repository_def()
    sensors = {sensor.name for sensor in repository.sensor_defs}
    ours = {f"{name}_{what}" for name in ("prod", "dev") for what in _SENSORS}
    assert sensors == {"push", *ours}
    graph = defs.resolve_asset_graph()
    assert graph.get(dg.AssetKey(["prod", "callers"])).parent_keys == {people.key}
    assert graph.get(dg.AssetKey(["dev", "callers"])).parent_keys == {people.key}
    assert graph.get(people.key).is_materializable


def test_an_environment_without_a_branch_has_nothing_to_materialize(home: Path) -> None:
    defs = build_defs(environment(home, "dev", branch="dev"))
    dg.Definitions.validate_loadable(defs)
    graph, pushes = defs.resolve_asset_graph(), dg.AssetKey(["dev", "pushes"])
    assert graph.get_all_asset_keys() == {pushes}
    assert not graph.materializable_asset_keys
    assert "first commit of the branch dev" in (graph.get(pushes).description or "")
    assert [sensor.name for sensor in defs.sensors or ()] == ["dev_push"]
    git(home, "branch", "dev")
    assert (
        build_defs(environment(home, "dev", branch="dev"))
        .resolve_asset_graph()
        .get(dg.AssetKey(["dev", "customers"]))
    )


def test_groups_of_two_environments_are_apart(home: Path) -> None:
    git(home, "branch", "dev")
    groups = [
        {s.group_name for s in build_defs(each).resolve_all_asset_specs() if s.key != people.key}
        for each in (environment(home), environment(home, "dev", branch="dev"))
    ]
    assert groups[0].isdisjoint(groups[1])
    assert "prod_pushes" in groups[0]


def test_a_sensor_says_in_a_few_words_what_it_may_start(home: Path) -> None:
    git(home, "branch", "dev")
    defs = dg.Definitions.merge(
        dg.Definitions(assets=[people]),
        build_defs(environment(home)),
        build_defs(environment(home, "dev", branch="dev")),
    )
    sensor, graph = defs.resolve_sensor_def("prod_push"), defs.resolve_asset_graph()
    selection = sensor.asset_selection
    assert selection is not None
    told = selection.to_serializable_asset_selection(graph)  # to the webserver
    assert str(told) == 'tag:"dbt/environment"="prod"'
    assert {key.path[0] for key in selection.resolve(graph)} == {"prod"}
    assert dg.AssetKey(["prod", "customers"]) in selection.resolve(graph)


def test_a_run_of_the_merged_project_builds(home: Path) -> None:
    with duckdb.connect(str(home / "warehouse.duckdb")) as connection:
        connection.execute("create table people as select 'Ann' as name")
    defs = dg.Definitions.merge(
        dg.Definitions(assets=[people]), build_defs(environment(home, push={"enabled": False}))
    )
    with dg.DagsterInstance.ephemeral() as instance:
        job = defs.resolve_implicit_global_asset_job_def()
        assert job.execute_in_process(instance=instance).success
    assert "DBT_PROFILE" not in os.environ  # which dbt had, and nobody else's code needs
    with duckdb.connect(str(home / "warehouse.duckdb")) as connection:
        assert connection.execute("select name from callers").fetchall() == [("Ann",)]
        assert connection.execute("select orders from totals").fetchall() == [(4,)]


def test_a_translator_says_how_assets_look(home: Path) -> None:
    class Ours(DefaultTranslator):
        def get_group_name(
            self,
            dbt_resource_props: Mapping[str, Any],  # noqa: ARG002
        ) -> str:
            return "warehouse"

        def get_automation_condition(
            self,
            dbt_resource_props: Mapping[str, Any],  # noqa: ARG002
        ) -> dg.AutomationCondition[Any]:
            return dg.AutomationCondition.eager()

    defs = build_defs(environment(home), translator=Ours(["shop", "gold"]))
    graph = defs.resolve_asset_graph()
    customers = graph.get(dg.AssetKey(["shop", "gold", "customers"]))
    assert customers.group_name == "warehouse"
    assert customers.automation_condition is not None
    assert customers.code_version
    # What an environment needs of its assets is not for a translator to say.
    assert graph.get(dg.AssetKey(["shop", "gold", "daily"])).partitions_def is not None
    assert customers.parent_keys == {dg.AssetKey(["shop", "gold", "stg_orders"])}


@pytest.mark.parametrize(
    ("select", "message"),
    [
        ("tag:finanec", r"environments\.prod\.select: 'tag:finanec' matches no model"),
        ("nomethod:x", r"environments\.prod: dbt does not understand 'nomethod:x'"),
    ],
)
def test_an_environment_that_selects_nothing_is_refused(
    home: Path, select: str, message: str
) -> None:
    with pytest.raises(SettingsError, match=message):
        build_defs(environment(home, select=select))


def test_git_does_not_see_what_is_kept(home: Path) -> None:
    build_defs(environment(home, state_dir=None))
    assert (home / "dbt" / ".dbt-orchestration").is_dir()
    assert ".dbt-orchestration" not in git(home, "status", "--porcelain", "--untracked-files=all")


def test_what_is_wrong_is_said_with_its_environment(home: Path) -> None:
    (home / "dbt" / "dbt_project.yml").unlink()
    with pytest.raises(SettingsError, match="environment prod: project_dir: there is no "):
        build_defs(environment(home))


def test_the_example_builds(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    example = home / "example"
    shutil.copytree(REPOSITORY / "examples" / "dagster_project", example)
    git(example, "init", "--quiet", "--initial-branch=main")
    git(example, "add", "--all")
    git(example, "commit", "--quiet", "-m", "first")
    monkeypatch.setenv("WAREHOUSE", str(home / "orders.duckdb"))
    monkeypatch.syspath_prepend(str(example / "src"))
    for module in [name for name in sys.modules if name.startswith("warehouse")]:
        monkeypatch.delitem(sys.modules, module)
    defs = dg.load_from_defs_folder(path_within_project=example / "src" / "warehouse")
    with dg.DagsterInstance.ephemeral() as instance:
        job = defs.resolve_implicit_global_asset_job_def()
        result = job.execute_in_process(instance=instance)
    assert result.success
    [best] = result.asset_materializations_for_node("best_customer")
    assert best.metadata["customer"].value == "Ann"


_THEIRS = """\
    type: dagster_dbt.DbtProjectComponent
    attributes:
      project:
        project_dir: "{{ project_root }}/dbt"
        profiles_dir: "{{ project_root }}/dbt"
        target: prod
      exclude: kept
      translation:
        group_name: gold
        owners: [team:shop]
    """


def test_history_stays_where_the_type_of_a_defs_yaml_is_changed(
    defs_yaml: DefsYaml, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAGSTER_IS_DEV_CLI", "1")  # dagster-dbt then has the project parsed
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
    before = defs_yaml(_THEIRS).resolve_asset_graph()
    after = defs_yaml(_THEIRS.replace("dagster_dbt.DbtProject", "dbt_orchestration.DbtEnvironment"))
    graph = after.resolve_asset_graph()
    more = {dg.AssetKey(["prod", name]) for name in ("pushes", "morning_page")}
    assert graph.get_all_asset_keys() - more == before.get_all_asset_keys()
    for key in before.materializable_asset_keys:
        mine, theirs = graph.get(key), before.get(key)
        assert (mine.group_name, mine.owners, mine.parent_keys) == (
            *(theirs.group_name, theirs.owners, theirs.parent_keys),
        )
    ours = {"all_partitions_built", "newest_commit_can_be_built", "not_held_or_paused"}
    checks = {key for key in graph.asset_check_keys if key.name not in ours}
    assert checks == before.asset_check_keys
    assert {s.name for s in after.sensors or ()} == {f"prod_{what}" for what in _SENSORS}


@pytest.mark.parametrize(
    ("attribute", "message"),
    [
        ("cli_args: [run]", "cli_args: each run finds out what dbt needs; remove it"),
        (
            "include_metadata: [row_count]",
            "include_metadata: row_count: remove it: of a table and a seed it is",
        ),
        ("include_metadata: [insights]", "include_metadata: insights: remove it: what runs cost"),
        (
            "translation_settings: {enable_asset_checks: false}",
            "translation_settings: enable_asset_checks: remove it: each test is a check here",
        ),
        ("op: {name: dbt}", "op: remove it; name the environment with name"),
        ("environment: {on_chnge: ask}", "on_chnge: there is no such"),
    ],
)
def test_what_cannot_be_kept_is_refused(defs_yaml: DefsYaml, attribute: str, message: str) -> None:
    text = dedent(_THEIRS.replace("dagster_dbt.DbtProject", "dbt_orchestration.DbtEnvironment"))
    with pytest.raises(Exception, match="Error while building definitions") as raised:
        defs_yaml(text.replace("  exclude: kept", f"  {attribute}"))
    causes: list[BaseException] = [raised.value]
    while cause := causes[-1].__cause__:
        causes.append(cause)
    assert any(message in str(each) for each in causes), causes


def test_a_token_comes_from_a_variable(
    defs_yaml: DefsYaml, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = LightdashServer(token="s3cret")
    monkeypatch.setenv("LIGHTDASH_TOKEN", server.token)
    defs = defs_yaml(
        f"""\
        type: dbt_orchestration.DbtEnvironmentComponent
        attributes:
          project: "{{{{ project_root }}}}/dbt"
          environment:
            lightdash:
              url: {server.url}
              project: {PROJECT}
              token: "{{{{ env.LIGHTDASH_TOKEN }}}}"
        """
    )
    with dg.DagsterInstance.ephemeral() as instance:
        job = defs.resolve_job_def("prod_tell_lightdash")
        assert job.execute_in_process(instance=instance).success
    server.stop()
    assert set(server.signed) == {"ApiKey s3cret"}


@pytest.mark.parametrize("page", ["README.md", "README.ko.md"])
def test_the_lines_of_the_readme_make_a_dagster_project(
    home: Path, monkeypatch: pytest.MonkeyPatch, page: str
) -> None:
    [lines] = blocks(REPOSITORY / page, "python")
    monkeypatch.chdir(home)
    made: dict[str, dg.Definitions] = {}
    exec(lines, made)
    keys = {key.to_user_string() for key in made["defs"].resolve_asset_graph().get_all_asset_keys()}
    assert {"prod/customers", "prod/raw_orders"} <= keys
    assert made["defs"].resolve_sensor_def("prod_push").default_status.value == "RUNNING"
