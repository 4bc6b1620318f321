"""Whatever a dbt project calls its nodes and tests, Dagster shows them, apart from each other."""

from __future__ import annotations

import shutil
from pathlib import Path

import dagster as dg
import pytest

from dbt_orchestration.dbt.groups import valid_name
from dbt_orchestration.revisions.working_tree import prepare
from tests.conftest import EVERY_NODE, Warehouse, checks, failure, make_settings, materialized

PROPERTIES = """\
models:
  - name: 주문
    description: 하루의 주문
    config: {tags: [일별], meta: {dagster: {owners: [매출팀]}}}
    data_tests:
      - holds: {expression: "금액 > 0"}
      - holds: {expression: "금액 < 100"}
    columns:
      - name: 상태
        data_tests:
          - accepted_values: {arguments: {values: [완료]}}
  - name: users
    columns: [{name: id, data_tests: [not_null]}]
sources:
  - name: crm
    schema: raw
    tables: [{name: users, identifier: rates, columns: [{name: rate, data_tests: [not_null]}]}]
"""


@pytest.fixture(scope="module")
def korean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    project = tmp_path_factory.mktemp("names") / "project"
    shutil.copytree(EVERY_NODE, project)
    folder = project / "models" / "매출 보고서"
    folder.mkdir()
    (folder / "주문.sql").write_text("select 1 as 금액, '완료' as 상태")
    (folder / "고객.sql").write_text("select * from {{ ref('주문') }}")
    (folder / "users.sql").write_text(
        "{{ config(schema='crm') }} select rate as id from {{ source('crm', 'users') }}"
    )
    (folder / "모델.yml").write_text(PROPERTIES)
    (project / "macros").mkdir(exist_ok=True)
    (project / "macros" / "holds.sql").write_text(
        "{% test holds(model, expression) %}"
        "select * from {{ model }} where not ({{ expression }}){% endtest %}"
    )
    (project / "tests").mkdir(exist_ok=True)
    for name in ("주문,검사", "orders-are-there"):
        (project / "tests" / f"{name}.sql").write_text("select * from {{ ref('주문') }} limit 0")
    return project


@pytest.fixture
def warehouse(korean: Path, tmp_path: Path, instance: dg.DagsterInstance) -> Warehouse:
    settings = make_settings(tmp_path / "state", korean)
    prepare(settings, "prod")
    return Warehouse(settings, "prod", instance)


def test_every_name_is_built_and_tested(warehouse: Warehouse) -> None:
    result = warehouse.build("주문", "고객", "crm/users")
    assert result.success, failure(result)
    assert materialized(result) == ["crm/users", "고객", "주문"]
    assert warehouse.execute('select * from main."고객"') == [(1, "완료")]
    found = checks(result)
    assert all(check.passed for check in found.values())
    assert len(found) == 6
    assert len([name for name in found if name.startswith("holds_")]) == 2


def test_what_stands_for_a_name_says_the_name(warehouse: Warehouse) -> None:
    assert warehouse.key("주문") in warehouse.definitions.resolve_asset_graph().get_all_asset_keys()
    specs = {
        spec.name: spec.description
        for definition in warehouse.definitions.resolve_asset_graph().assets_defs
        for spec in definition.check_specs
    }
    name = valid_name("주문,검사")
    assert specs[name] == "dbt test 주문,검사, tests/주문,검사.sql"


def test_a_source_and_a_model_of_one_name_are_two_assets(warehouse: Warehouse) -> None:
    keys = warehouse.definitions.resolve_asset_graph().get_all_asset_keys()
    assert {warehouse.key("crm/users"), warehouse.key("crm/users/source")} <= keys


@pytest.mark.parametrize("name", ["orders", "Orders_2", "_", "0"])
def test_a_name_that_dagster_takes_stays(name: str) -> None:
    assert valid_name(name) == name


def test_two_names_never_become_one() -> None:
    names = ["a b", "a-b", "a,b", "주문", "고객", "", "📦", "a_b"]
    assert len({valid_name(name) for name in names}) == len(names)
    assert all(valid_name(name).isascii() for name in names)
