"""The columns of every asset: name, type, description, what is tested, and what each is made of."""

from __future__ import annotations

import shutil
from pathlib import Path

import dagster as dg
import pytest

from dbt_orchestration.assets.columns import asset_page
from dbt_orchestration.revisions.working_tree import prepare
from tests.conftest import EVERY_NODE, Warehouse, failure, make_settings

PROPERTIES = """\
models:
  - name: priced
    config: {materialized: table, contract: {enforced: true}}
    constraints: [{type: check, columns: [id, cents], expression: "id < cents"}]
    columns:
      - name: id
        description: Of the order.
        data_type: integer
        constraints: [{type: primary_key}]
      - name: cents
        data_type: bigint
        data_tests:
          - accepted_values: {arguments: {values: [100, 200], quote: false}}
          - not_null: {config: {where: "id > 1"}}
  - name: wide
    columns: [{name: total, description: What was paid.}]
    data_tests:
      - holds: {arguments: {expression: "total > 0"}}
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    project = tmp_path_factory.mktemp("columns") / "project"
    shutil.copytree(EVERY_NODE, project)
    folder = project / "models" / "columns"
    folder.mkdir()
    (folder / "priced.sql").write_text(
        "select 1::integer as id, 100::bigint as cents union all select 2, 200"
    )
    (folder / "wide.sql").write_text(
        "select p.cents * rates.rate as total, upper('x') as kind from {{ ref('priced') }} as p"
        " cross join {{ source('outside', 'rates') }} as rates"
    )
    (folder / "columns.yml").write_text(PROPERTIES)
    (project / "macros").mkdir()
    (project / "macros" / "holds.sql").write_text(
        "{% test holds(model, expression) %}"
        "select * from {{ model }} where not ({{ expression }}){% endtest %}"
    )
    return project


@pytest.fixture
def warehouse(project: Path, tmp_path: Path, instance: dg.DagsterInstance) -> Warehouse:
    settings = make_settings(tmp_path / "state", project)
    prepare(settings, "prod")
    return Warehouse(settings, "prod", instance)


def shown(warehouse: Warehouse, name: str) -> dg.TableSchema:
    """The columns that Dagster's UI shows: those of the last materialization."""
    event = warehouse.instance.get_latest_materialization_event(warehouse.key(name))
    assert event is not None
    assert event.asset_materialization is not None
    value = event.asset_materialization.metadata["dagster/column_schema"]
    assert isinstance(value, dg.TableSchemaMetadataValue)
    return value.schema


def test_columns_say_what_the_project_says_of_them(warehouse: Warehouse) -> None:
    result = warehouse.build("priced")
    assert result.success, failure(result)
    schema = shown(warehouse, "priced")
    assert schema.constraints.other == ["check: id < cents: id, cents"]
    assert list(schema.columns) == [
        dg.TableColumn(
            "id",
            "integer",
            "Of the order.",
            dg.TableColumnConstraints(nullable=False, unique=True, other=["primary_key"]),
        ),
        dg.TableColumn(
            "cents",
            "bigint",
            constraints=dg.TableColumnConstraints(
                other=["accepted_values: 100, 200", "not_null where id > 1"]
            ),
        ),
    ]


def test_a_column_links_to_what_it_is_made_of(warehouse: Warehouse) -> None:
    warehouse.build("priced", "wide")
    schema = shown(warehouse, "wide")
    assert schema.constraints.other == ["holds: total > 0"]
    total, kind = schema.columns
    assert total.description == (
        "What was paid.\n\nfrom [priced](/assets/prod/priced) `cents`,"
        " [rates](/assets/prod/outside/rates) `rate`"
    )
    assert (kind.name, kind.description) == ("kind", None)


def test_types_are_those_of_the_warehouse_once_it_can_have_been_asked(warehouse: Warehouse) -> None:
    warehouse.build("priced", "wide")
    assert [column.type for column in shown(warehouse, "wide").columns] == ["?", "?"]
    warehouse.build("priced", "wide")
    assert [column.type for column in shown(warehouse, "wide").columns] == ["BIGINT", "VARCHAR"]
    assert [column.type for column in shown(warehouse, "priced").columns] == ["INTEGER", "BIGINT"]


def test_a_source_shows_its_columns_although_nobody_materializes_it(warehouse: Warehouse) -> None:
    [spec] = [
        spec
        for spec in warehouse.definitions.resolve_all_asset_specs()
        if spec.key == warehouse.key("outside/rates")
    ]
    value = spec.metadata["dagster/column_schema"]
    assert isinstance(value, dg.TableSchemaMetadataValue)
    [rate] = value.schema.columns
    assert (rate.name, rate.constraints.nullable) == ("rate", False)


def test_the_page_of_an_asset_is_the_uis_whatever_it_is_called() -> None:
    assert asset_page(dg.AssetKey(["prod", "a b/c", "주문"])) == (
        "/assets/prod/a%20b%2Fc/%EC%A3%BC%EB%AC%B8"
    )
