"""What a run was to do is done, or the run fails and says what is not."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import dagster as dg
import pytest

from tests.conftest import EVERY_NODE, Warehouse, failure, make_settings, materialized

UNIT_TESTS = """
unit_tests:
  - name: nobody_is_counted_twice
    model: customers
    given:
      - {input: ref('int_ephemeral'), format: sql, rows: "select 7 as customer_id, 3 as amount"}
    expect: {rows: [{customer_id: 7}]}
  - name: rated_is_doubled
    model: rated
    given:
      - {input: ref('stg_orders'), rows: [{order_id: 1, amount: 3}]}
      - {input: "source('outside', 'rates')", rows: [{rate: 2}]}
    expect: {rows: [{order_id: 1}]}
"""


@pytest.fixture
def make(tmp_path: Path, instance: dg.DagsterInstance) -> Callable[[], Warehouse]:
    """The code location of a copy of the project, as the test has edited that."""

    def make() -> Warehouse:
        return Warehouse(make_settings(tmp_path / "state", tmp_path / "project"), "prod", instance)

    shutil.copytree(EVERY_NODE, tmp_path / "project")
    return make


def edit(folder: Path, path: str, text: str) -> None:
    file = folder / "project" / "models" / path
    file.write_text(text)


def run(
    warehouse: Warehouse, *names: str, assets: tuple[str, ...] = (), **config: object
) -> dg.ExecuteInProcessResult:
    """A run of all checks of these names, and of assets without their checks."""
    graph = warehouse.definitions.resolve_asset_graph()
    keys = {key for key in graph.asset_check_keys if key.name in names}
    assert {key.name for key in keys} == set(names)
    job = warehouse.definitions.resolve_implicit_global_asset_job_def()
    job = job.get_subset(
        asset_selection={warehouse.key(name) for name in assets}, asset_check_selection=keys
    )
    return job.execute_in_process(
        instance=warehouse.instance,
        run_config={"ops": {"dbt_prod": {"config": config}}},
        raise_on_error=False,
    )


def found(result: dg.ExecuteInProcessResult) -> list[tuple[str, str, bool]]:
    return sorted(
        (check.asset_key.path[-1], check.check_name, check.passed)
        for check in result.get_asset_check_evaluations()
    )


def test_unit_tests_run_without_their_models_and_beside_others(
    tmp_path: Path, make: Callable[[], Warehouse]
) -> None:
    edit(tmp_path, "unit.yml", UNIT_TESTS)
    warehouse = make()
    versions = [
        ("customers_v1", "nobody_is_counted_twice", True),
        ("customers_v2", "nobody_is_counted_twice", True),
    ]
    assert warehouse.build("orders", "stg_orders").success
    alone = run(warehouse, "nobody_is_counted_twice")
    assert alone.success, failure(alone)
    assert found(alone) == versions
    assert materialized(alone) == []
    beside = run(
        warehouse, "nobody_is_counted_twice", "rated_is_doubled", assets=("merged", "customers_v1")
    )
    assert beside.success, failure(beside)
    assert found(beside) == [*versions, ("rated", "rated_is_doubled", True)]
    assert materialized(beside) == ["customers_v1", "merged"]


def test_a_unit_test_that_fails_alone_fails_the_run(
    tmp_path: Path, make: Callable[[], Warehouse]
) -> None:
    edit(tmp_path, "unit.yml", UNIT_TESTS.replace("[{order_id: 1}]", "[{order_id: 2}]"))
    warehouse = make()
    assert warehouse.build("orders", "stg_orders").success
    result = run(warehouse, "rated_is_doubled", assets=("merged",))
    assert "unit_test rated_is_doubled (models/unit.yml)" in failure(result)
    assert found(result) == [("rated", "rated_is_doubled", False)]
    assert materialized(result) == ["merged"]


def test_what_dbt_does_not_build_is_named(tmp_path: Path, make: Callable[[], Warehouse]) -> None:
    """Vars of a run may take a node out of the project, or make it one without batches."""
    edit(
        tmp_path,
        "marts/rated.sql",
        "{{ config(enabled=var('rated', true), materialized='table') }} select 1 as one",
    )
    daily = tmp_path / "project" / "models" / "marts" / "orders_daily.sql"
    strategy = "incremental_strategy=var('strategy', 'microbatch')"
    daily.write_text(daily.read_text().replace('incremental_strategy="microbatch"', strategy))
    warehouse = make()
    assert warehouse.build("orders", "stg_orders", "orders_daily", "rated").success
    gone = warehouse.build("merged", "rated", config={"vars": {"rated": False}})
    said = "dbt left out, wholly or in part, and without an error: model"
    assert failure(gone) == f"{said} rated (models/marts/rated.sql)."
    assert materialized(gone) == ["merged"]
    partly = warehouse.build("orders_daily", config={"vars": {"strategy": "append"}})
    assert failure(partly) == f"{said} orders_daily (models/marts/orders_daily.sql)."
