"""Lightdash is told what was built: real git, dbt and DuckDB, and a server of its protocol."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from pydantic import SecretStr

from dbt_orchestration.automation.lightdash import client
from dbt_orchestration.settings.lightdash import Lightdash
from dbt_orchestration.settings.models import Git, Push, load_settings
from tests.automation.lightdash_server import (
    CHART,
    DASHBOARD,
    PROJECT,
    TOKEN,
    LightdashServer,
)
from tests.automation.site import Site

ALL = ["refresh", "results-cache/invalidate", "validate"]
CACHE = ["results-cache/invalidate"]
EXPOSURES = """\
exposures:
  - name: sales
    type: dashboard
    url: https://bi.acme.com/projects/{project}/dashboards/{dashboard}/view
    owner: {{name: Ann}}
    depends_on: [ref('customers')]
  - name: orders
    type: dashboard
    url: https://bi.acme.com/projects/{project}/saved/{chart}/view?a=b
    owner: {{name: Ann}}
  - name: elsewhere
    type: notebook
    url: https://notebooks.acme.com/{chart}
    owner: {{name: Ann}}
"""


def begin(site: Site) -> None:
    text = EXPOSURES.format(project=PROJECT, dashboard=DASHBOARD, chart=CHART)
    site.clone.write("models/exposures.yml", text)
    site.clone.push("with exposures")
    assert "nothing is due" in site.build_all()


@dataclass
class Told:
    """A site with a Lightdash that shows it."""

    site: Site
    server: LightdashServer
    cursor: str | None = None
    token: SecretStr | None = field(default_factory=lambda: SecretStr(TOKEN))
    timeout: int = 60

    def __post_init__(self) -> None:
        lightdash = Lightdash(
            url=self.server.url, project=PROJECT, token=self.token, timeout_seconds=self.timeout
        )
        prod = self.site.settings.environment("prod").model_copy(update={"lightdash": lightdash})
        environments = {**self.site.settings.environments, "prod": prod}
        self.site.settings = self.site.settings.model_copy(update={"environments": environments})
        self.site.load()

    @property
    def definitions(self) -> dg.Definitions:
        return self.site.loaded["prod"]

    def look(self) -> dg.SensorExecutionData:
        """A tick of the sensor."""
        with dg.build_sensor_context(
            self.site.instance, cursor=self.cursor, definitions=self.definitions
        ) as context:
            sensor = self.definitions.resolve_sensor_def("prod_tell_lightdash")
            data = sensor.evaluate_tick(context)
        self.cursor = data.cursor
        return data

    def says(self) -> str:
        """Why a tick tells nothing."""
        data = self.look()
        assert not data.run_requests
        return data.skip_message or ""

    def tell(self) -> dg.ExecuteInProcessResult:
        """The run that a tick asks for."""
        data = self.look()
        assert data.run_requests, data.skip_message
        [request] = data.run_requests
        job = self.definitions.resolve_job_def("prod_tell_lightdash").get_subset(
            asset_selection=set(request.asset_selection or ()),
            asset_check_selection=set(request.asset_check_keys or ()),
        )
        result = job.execute_in_process(
            instance=self.site.instance, tags=dict(request.tags), raise_on_error=False
        )
        assert result.success  # whatever Lightdash does
        return result

    def settle(self) -> list[str]:
        """Tell it all that is new; what it was told."""
        assert not problem(self.tell())
        assert self.says() == "Lightdash knows what was built."
        return self.server.told()

    def last(self) -> Mapping[str, Any]:
        """What the asset says that Lightdash was told last."""
        event = self.site.instance.get_latest_materialization_event(KEY)
        assert event is not None
        assert event.asset_materialization is not None
        return {k: v.value for k, v in event.asset_materialization.metadata.items()}


KEY = dg.AssetKey(["prod", "lightdash"])


@pytest.fixture(autouse=True)
def _without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "_PAUSES", (0.0,))
    monkeypatch.setattr(client, "_FIRST_LOOK", 0.01)


@pytest.fixture
def server() -> Iterator[LightdashServer]:
    server = LightdashServer()
    yield server
    server.stop()


@pytest.fixture
def told(built: Site, server: LightdashServer) -> Told:
    """One that knows all that was built so far."""
    told = Told(built, server)
    assert told.settle() == ALL
    return told


def checks(result: dg.ExecuteInProcessResult) -> dict[str, dg.AssetCheckEvaluation]:
    return {
        "/".join([*each.asset_key.path[1:], each.check_name]): each
        for each in result.get_asset_check_evaluations()
    }


def problem(result: dg.ExecuteInProcessResult) -> str:
    """What keeps Lightdash from being up to date; "" if nothing does."""
    check = checks(result)["lightdash/is_up_to_date"]
    said = check.metadata.get("problem")
    assert check.passed is (said is None)
    return str(said.value) if said else ""


def test_what_was_built_is_told(built: Site, server: LightdashServer) -> None:
    told = Told(built, server)
    result = told.tell()
    assert {name: check.passed for name, check in checks(result).items()} == {
        "lightdash/is_up_to_date": True,
        "lightdash/charts_are_valid": True,
        "exposure/sales/is_valid_in_lightdash": True,
        "exposure/orders/is_valid_in_lightdash": True,
    }
    last = told.last()
    assert last["fields"] == "refreshed"
    assert last["results cache"] == "emptied"
    assert last["charts"] == "validated"
    assert last["tables built"] == 7
    assert "| Compiling | done |  |" in last["steps"]
    assert last["lightdash"] == f"{server.url}/projects/{PROJECT}/home"
    assert last["commit"].endswith(" with exposures")
    assert server.told() == ALL
    assert set(server.signed) == {f"ApiKey {TOKEN}"}
    assert told.says() == "Lightdash knows what was built."
    assert server.asked == []


def by_hand(told: Told) -> None:
    assert told.site.materialize("customers").success


def all_of_it(told: Told) -> None:
    job = told.definitions.resolve_job_def("prod_full_build")
    assert job.execute_in_process(instance=told.site.instance).success


def some_days(told: Told) -> None:
    key = dg.AssetKey(["prod", "daily"])
    job = told.definitions.resolve_implicit_global_asset_job_def().get_subset(asset_selection={key})
    assert job.execute_in_process(
        instance=told.site.instance, partition_key="2024-01-02", raise_on_error=False
    ).success


def other_rows(told: Told) -> None:
    told.site.clone.edit("models/big_customers.sql", "amount >", "amount < 1000 and amount >")
    told.site.clone.push("other rows, the same columns")
    assert told.site.build().success


@pytest.mark.parametrize("build", [by_hand, all_of_it, some_days, other_rows])
def test_each_build_that_changes_tables_only_empties_the_results_cache(
    told: Told, build: Callable[[Told], None]
) -> None:
    build(told)
    assert told.settle() == CACHE
    # Not asked for anything, Lightdash is told nothing.
    assert told.says() == "Lightdash knows what was built."
    assert told.server.asked == []


YAML = "models:\n  - name: customers\n    columns:\n      - name: customer_id\n"


@pytest.mark.parametrize(
    ("file", "text"),
    [
        (
            "models/models.yml",
            f"{YAML}        config: {{meta: {{metrics: {{n: {{type: max}}}}}}}}\n",
        ),
        ("models/exposures.yml", EXPOSURES.format(project=PROJECT, dashboard=CHART, chart=CHART)),
        ("lightdash.config.yml", "spotlight: {default_visibility: hide}\n"),
    ],
    ids=["metric", "exposure", "config"],
)
def test_a_commit_that_builds_nothing_is_told_if_lightdash_reads_what_it_changed(
    told: Told, file: str, text: str
) -> None:
    told.site.clone.write(file, text)
    told.site.clone.push("only YAML")
    assert "nothing is due" in told.site.build_all()
    assert told.settle() == ["refresh", "validate"]


def test_a_comment_is_not_told(told: Told) -> None:
    told.site.clone.edit("models/customers.sql", "select", "-- all of them\nselect")
    told.site.clone.push("explain")
    assert "nothing is due" in told.site.says()
    assert told.says() == "Lightdash knows what was built."


def test_columns_are_told_when_they_are_there(told: Told) -> None:
    told.site.clone.edit("models/customers.sql", "sum(amount)", "max(amount)")
    told.site.clone.push("largest")
    request = told.site.request()
    assert told.says() == "Waiting for 2 nodes to be built."
    job = told.definitions.resolve_implicit_global_asset_job_def()
    run = told.site.instance.create_run_for_job(
        job,
        asset_selection=frozenset(request.asset_selection or ()),
        status=dg.DagsterRunStatus.STARTED,
    )
    assert told.says() == f"Waiting for run {run.run_id[:8]} to end."
    told.site.instance.delete_run(run.run_id)
    assert told.site.run(request).success
    assert told.settle() == ALL


def test_where_nothing_is_built_by_itself_nothing_is_waited_for(told: Told) -> None:
    site = told.site
    prod = site.settings.environment("prod").model_copy(update={"push": Push(enabled=False)})
    lying = {"project_dir": site.clone.folder / "dbt", "git": Git(), "environments": {"prod": prod}}
    site.settings = site.settings.model_copy(update=lying)
    site.clone.edit("models/customers.sql", "sum(amount)", "max(amount)")
    site.load()
    assert told.settle() == ["refresh", "validate"]
    assert site.materialize("customers", "big_customers").success
    assert told.settle() == ALL


def test_tables_of_a_build_that_goes_on_for_long_are_told(
    told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_hand(told)
    job = told.definitions.resolve_implicit_global_asset_job_def()
    key = dg.AssetKey(["prod", "totals"])
    told.site.instance.create_run_for_job(
        job, asset_selection=frozenset({key}), status=dg.DagsterRunStatus.STARTED
    )
    assert told.says().startswith("Waiting for run ")
    later = time.time() + 601
    monkeypatch.setattr(time, "time", lambda: later)
    assert not problem(told.tell())
    assert told.server.told() == CACHE


def test_what_could_not_be_built_is_told_when_it_is(told: Told) -> None:
    told.site.clone.write("models/one.sql", "select 1 as one")
    told.site.clone.write("models/late.sql", "select n from main.not_loaded_yet")
    told.site.clone.push("half of it cannot be built")
    assert "tried already" in told.site.build_all()
    assert told.settle() == ALL
    told.site.query("create table main.not_loaded_yet as select 1 as n")
    assert told.site.materialize("late").success
    assert told.settle() == ALL


def test_a_lightdash_that_is_down_is_told_later(
    told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    told.server.stop()
    told.site.clone.edit("models/customers.sql", "sum(amount)", "max(amount)")
    told.site.clone.push("largest")
    assert "nothing is due" in told.site.build_all()
    refused = f"{told.server.url} does not answer: [Errno 111] Connection refused"
    result = told.tell()
    assert problem(result) == refused
    # What it said of its charts stands.
    assert checks(result)["lightdash/charts_are_valid"].passed
    assert told.says().startswith("Lightdash could not be told, once; it is told again at ")
    later = time.time() + 31
    monkeypatch.setattr(time, "time", lambda: later)
    assert problem(told.tell()) == refused
    assert told.says().startswith("Lightdash could not be told, 2 times; it is told again at ")
    told.server.start()
    much_later = later + 61
    monkeypatch.setattr(time, "time", lambda: much_later)
    assert told.settle() == ALL


def test_a_refresh_that_fails_in_lightdash_is_red_and_the_rest_is_told(
    told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    told.server.step_error = "Compilation Error\n  in model customers | unknown macro"
    told.site.clone.edit("models/customers.sql", "sum(amount)", "max(amount)")
    told.site.clone.push("largest")
    assert "nothing is due" in told.site.build_all()
    result = told.tell()
    said = "Compilation Error in model customers | unknown macro"
    assert problem(result) == f"the refresh failed in Lightdash: Compiling: {said}"
    steps = str(checks(result)["lightdash/is_up_to_date"].metadata["steps"].value)
    assert "| Compiling | error | Compilation Error in model customers \\| unknown macro |" in steps
    assert told.server.told() == ["refresh", "results-cache/invalidate"]
    told.server.step_error = ""
    later = time.time() + 31
    monkeypatch.setattr(time, "time", lambda: later)
    # The cache is emptied already.
    assert told.settle() == ["refresh", "validate"]


def test_a_project_without_a_dbt_connection_is_explained_once(
    built: Site, server: LightdashServer
) -> None:
    server.connection = "none"
    told = Told(built, server)
    result = told.tell()
    assert "has no dbt connection, because `lightdash deploy` made it" in problem(result)
    check = checks(result)["lightdash/is_up_to_date"]
    assert check.severity is dg.AssetCheckSeverity.WARN
    assert server.told() == ["results-cache/invalidate", "validate"]
    assert told.says() == "Lightdash knows what was built."


def test_broken_charts_are_red_with_links(built: Site, server: LightdashServer) -> None:
    common = {"projectUuid": PROJECT, "createdAt": "2026-11-26T08:00:00Z", "validationId": 1}
    server.broken = [
        {
            **common,
            "source": "chart",
            "chartUuid": CHART,
            "name": "Orders | week",
            "error": "Dimension error: the field 'customers_x' no longer exists",
            "errorType": "dimension",
        },
        {
            **common,
            "source": "dashboard",
            "dashboardUuid": None,
            "name": "Private content",
            "error": "Filter error: the field 'customers_x' no longer exists",
            "errorType": "filter",
        },
        {
            **common,
            "source": "table",
            "name": "totals",
            "error": "no dimensions",
            "errorType": "model",
        },
    ]
    told = Told(built, server)
    result = told.tell()
    assert not problem(result)
    found = checks(result)
    assert {name: check.passed for name, check in found.items() if not check.passed} == {
        "lightdash/charts_are_valid": False,
        "exposure/orders/is_valid_in_lightdash": False,
    }
    listed = str(found["lightdash/charts_are_valid"].metadata["list"].value)
    chart = f"{server.url}/projects/{PROJECT}/saved/{CHART}/view"
    gone = "error: the field 'customers_x' no longer exists"
    assert listed.splitlines()[2:] == [
        f"| chart | [Orders \\| week]({chart}) | Dimension {gone} |",
        f"| dashboard | Private content | Filter {gone} |",
        "| table | totals | no dimensions |",
    ]
    # They are as broken after a build that changes no fields.
    by_hand(told)
    assert not checks(told.tell())["exposure/orders/is_valid_in_lightdash"].passed


def test_a_job_that_does_not_end_is_given_up(built: Site, server: LightdashServer) -> None:
    server.looks = None
    told = Told(built, server, timeout=1)
    assert "has not ended within 1 s" in problem(told.tell())


def test_something_else_answers(built: Site, server: LightdashServer) -> None:
    told = Told(built, server)
    for page, said in {
        (200, "<html>"): "what answers at {url} is no Lightdash: check lightdash.url",
        (302, ""): "what answers at {url} is no Lightdash: check lightdash.url",
        (503, "down"): "{url} is not there: it answers 503",
        (200, '{"status": "ok", "results": [1]}'): "{url} answers what no Lightdash does: ",
    }.items():
        server.page, told.cursor = page, None
        assert problem(told.tell()).startswith(said.format(url=server.url))


def test_a_wrong_token_says_what_to_check(built: Site, server: LightdashServer) -> None:
    server.token = "another"
    said = problem(Told(built, server).tell())
    assert said.startswith("Lightdash refuses to show the project (401): Failed to authorize user:")
    assert said.endswith(": check lightdash.token (docs/lightdash.md)")
    said = problem(Told(built, server, token=None).tell())
    assert said == "lightdash.token is not set (docs/lightdash.md)"


def test_a_token_that_may_not_empty_the_cache_is_enough(
    built: Site, server: LightdashServer
) -> None:
    server.admin = False
    told = Told(built, server)
    assert told.settle() == ALL
    assert told.last()["results cache"] == "not emptied: it takes a project admin's token"


def test_the_token_of_a_service_account(built: Site, server: LightdashServer) -> None:
    server.token = "ldsvc_0123"
    Told(built, server, token=SecretStr(server.token)).settle()
    assert set(server.signed) == {"Bearer ldsvc_0123"}


def test_a_person_has_all_of_it_told_again(told: Told) -> None:
    job = told.definitions.resolve_job_def("prod_tell_lightdash")
    result = job.execute_in_process(instance=told.site.instance)
    assert len(checks(result)) == 4
    assert told.server.told() == ALL
    materialize = told.definitions.resolve_implicit_global_asset_job_def()
    alone = materialize.get_subset(asset_selection={KEY})
    assert alone.execute_in_process(instance=told.site.instance).success
    assert told.server.told() == ALL
    assert told.says() == "Lightdash knows what was built."


def test_a_push_does_not_wait_for_lightdash(told: Told) -> None:
    job = told.definitions.resolve_job_def("prod_tell_lightdash")
    run = told.site.instance.create_run_for_job(
        job, tags=job.run_tags, status=dg.DagsterRunStatus.STARTED
    )
    told.site.clone.edit("models/customers.sql", "sum(amount)", "max(amount)")
    told.site.clone.push("largest")
    assert told.site.build().success
    assert told.says() == f"Run {run.run_id[:8]} tells Lightdash."


def test_the_token_is_kept_nowhere(
    built: Site, server: LightdashServer, capfd: pytest.CaptureFixture[str]
) -> None:
    told = Told(built, server)
    told.tell()
    server.step_error = f"could not use ApiKey {TOKEN}"
    told.site.clone.write("models/models.yml", f"{YAML}        description: Who buys.\n")
    told.site.clone.push("only YAML")
    assert "nothing is due" in told.site.build_all()
    assert "could not use ApiKey …" in problem(told.tell())
    server.token = "another"  # Lightdash says which one it got
    by_hand(told)
    assert "Failed to authorize user: ApiKey …" in problem(told.tell())
    kept = [path for path in built.clone.home.rglob("*") if path.is_file()]
    assert any("dagster" in str(path) for path in kept)
    assert [path for path in kept if TOKEN.encode() in path.read_bytes()] == []
    for record in built.instance.get_run_records():
        run = record.dagster_run
        assert TOKEN not in json.dumps([run.run_config, dict(run.tags)])
    assert TOKEN not in "".join(capfd.readouterr())
    assert TOKEN not in repr(built.settings)


def test_it_is_off_unless_configured(built: Site) -> None:
    repository = built.load().get_repository_def()
    assert "prod_tell_lightdash" not in {sensor.name for sensor in repository.sensor_defs}
    assert KEY not in repository.asset_graph.get_all_asset_keys()


def test_a_token_in_a_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("dbt_project.yml", "profiles.yml"):
        (tmp_path / name).touch()
    file = tmp_path / "environments.yaml"
    file.write_text(
        "environments: {prod: {branch: main, target: prod, lightdash:"
        f" {{url: https://bi.acme.com/, project: {PROJECT}}}}}}}\n"
    )
    monkeypatch.setenv("DBT_ORCHESTRATION_CONFIG", str(file))
    variable = "DBT_ORCHESTRATION_ENVIRONMENTS__PROD__LIGHTDASH__TOKEN"
    for value, token in ((f" {TOKEN}\n", TOKEN), ("", None)):
        monkeypatch.setenv(variable, value)
        lightdash = load_settings().environment("prod").lightdash
        assert lightdash is not None
        assert lightdash.url == "https://bi.acme.com"
        assert (lightdash.token and lightdash.token.get_secret_value()) == token
