"""Numbers of what was built: what the warehouse answered, and no query of ours."""

from __future__ import annotations

from typing import Any

import dagster as dg
import pytest

from dbt_orchestration.runs.figures import node_figures
from tests.conftest import Warehouse

ROWS, ROW_COUNT = "rows affected", "dagster/row_count"
NAMES = ("orders", "stg_orders", "customers_v2", "merged", "orders_daily", "orders_window")


def figures(result: dg.ExecuteInProcessResult, label: str) -> dict[tuple[str, str | None], object]:
    """What each materialization says under ``label``, by asset and partition."""
    return {
        (event.materialization.asset_key.path[-1], event.materialization.partition): value.value
        for event in result.get_asset_materialization_events()
        if (value := event.materialization.metadata.get(label))
    }


def test_each_materialization_says_how_many_rows_were_written(warehouse: Warehouse) -> None:
    result = warehouse.build(*NAMES)
    assert result.success
    rows = figures(result, ROWS)
    for seed_or_table in ("orders", "customers_v2", "merged"):
        [(count,)] = warehouse.execute(f"select count(*) from main.{seed_or_table}")
        assert rows[seed_or_table, None] == count > 0
    per_day = warehouse.execute(
        "select day_at::date::varchar, count(*) from main.orders_daily group by 1"
    )
    assert {day: rows["orders_daily", day] for day, _ in per_day} == dict(per_day)
    # A day without orders, and a view, which writes none.
    assert rows["orders_daily", "2024-01-04"] == 0
    assert ("stg_orders", None) not in rows


def test_one_statement_for_many_partitions_is_counted_once(warehouse: Warehouse) -> None:
    result = warehouse.build(*NAMES)
    [(count,)] = warehouse.execute("select count(*) from main.orders_window")
    rows, together = figures(result, ROWS), figures(result, "partitions")
    assert {at: n for at, n in rows.items() if at[0] == "orders_window"} == {
        ("orders_window", "2024-01-04"): count
    }
    assert together["orders_window", "2024-01-04"] == 4


def test_only_a_table_that_was_made_whole_says_how_many_rows_it_has(warehouse: Warehouse) -> None:
    result = warehouse.build(*NAMES)
    known = {name for name, _ in figures(result, ROW_COUNT)}
    assert known == {"orders", "customers_v2"}


def answered(kind: str, **response: object) -> dict[str, Any]:
    info = {"unique_id": "model.shop.orders", "materialized": kind}
    return {"node_info": info, "execution_time": 2.0, "outcome": {"adapter_response": response}}


@pytest.mark.parametrize(
    ("kind", "response", "rows"),
    [
        # `create table`, as newer versions of the connector tell it, and as older ones do.
        ("table", {"rows_affected": 7, "rows_inserted": 7, "query_id": "01"}, 7),
        ("table", {"rows_affected": 1, "rows_inserted": 0, "query_id": "01"}, 0),
        ("table", {"rows_affected": 1, "query_id": "01"}, None),
        ("incremental", {"rows_affected": 5, "rows_inserted": 2, "rows_updated": 3}, 5),
        ("incremental", {"rows_affected": 5, "query_id": "01"}, 5),
        ("view", {"rows_affected": 1, "query_id": "01"}, None),
        ("table", {}, None),
    ],
)
def test_rows_are_those_that_were_written(
    kind: str, response: dict[str, object], rows: int | None
) -> None:
    assert node_figures(answered(kind, **response)).get(ROWS) == rows


def test_bytes_are_told_where_the_adapter_tells_them() -> None:
    assert node_figures(answered("table", bytes_processed=9e9))["bytes processed"] == 9_000_000_000
