"""How every kind of dbt node looks in Dagster."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from dbt_orchestration.assets.translator import (
    freshness_policy,
)
from dbt_orchestration.dbt.groups import as_owner
from dbt_orchestration.settings.models import Settings
from tests.conftest import Warehouse

BUILT = {
    *("orders", "stg_orders", "orders_hourly", "orders_daily", "orders_monthly", "orders_window"),
    *("customers_v1", "customers_v2", "customers_snapshot", "merged", "rated", "report"),
    *("time_spine", "slow"),
}


def spec(warehouse: Warehouse, name: str) -> dg.AssetSpec:
    [found] = [
        s for s in warehouse.definitions.resolve_all_asset_specs() if s.key == warehouse.key(name)
    ]
    return found


def test_each_model_seed_and_snapshot_is_one_asset(warehouse: Warehouse) -> None:
    graph = warehouse.definitions.resolve_asset_graph()
    ours = {warehouse.key(name) for name in (*BUILT, "morning_page")}
    assert graph.materializable_asset_keys == ours


def test_keys_begin_with_the_environment(settings: Settings, instance: dg.DagsterInstance) -> None:
    prod, dev = (Warehouse(settings, name, instance) for name in ("prod", "dev"))
    keys = [set(w.definitions.resolve_asset_graph().get_all_asset_keys()) for w in (prod, dev)]
    assert keys[0].isdisjoint(keys[1])
    assert {key.path[0] for key in keys[0]} == {"prod"}
    groups = [{s.group_name for s in w.definitions.resolve_all_asset_specs()} for w in (prod, dev)]
    assert groups[0].isdisjoint(groups[1])
    assert spec(dev, "stg_orders").metadata["dagster/table_name"] == "warehouse.dev.stg_orders"


def test_an_asset_tells_what_the_project_says(warehouse: Warehouse) -> None:
    found = spec(warehouse, "stg_orders")
    assert found.description == "Orders as they came."
    assert found.group_name == "prod_shop"
    assert found.owners == ["shop@example.com"]
    assert {"daily", "finance"} <= found.tags.keys()
    assert {"dbt", "duckdb"} <= found.kinds
    assert found.metadata["dagster/table_name"] == "warehouse.main.stg_orders"
    references: Any = found.metadata["dagster/code_references"]
    [reference] = references.code_references
    assert Path(reference.file_path).is_file()
    assert reference.file_path.endswith("models/staging/stg_orders.sql")


def test_metadata_stays_lean(warehouse: Warehouse) -> None:
    assert "select" not in (spec(warehouse, "stg_orders").description or "")
    assert spec(warehouse, "stg_orders").metadata.keys() == {
        *("dagster/table_name", "dagster/storage_kind", "dagster/code_references"),
        *("dagster_dbt/unique_id", "dagster_dbt/project_id", "materialized"),
    }


def test_an_ephemeral_model_is_no_asset_but_lineage_goes_through_it(warehouse: Warehouse) -> None:
    assert [dep.asset_key for dep in spec(warehouse, "customers_v1").deps] == [
        warehouse.key("stg_orders")
    ]


@pytest.mark.parametrize(
    ("name", "cron"),
    [
        ("orders_hourly", "0 * * * *"),
        ("orders_daily", "0 0 * * *"),
        ("orders_monthly", "0 0 1 * *"),
    ],
)
def test_partitions_come_from_the_dbt_config(warehouse: Warehouse, name: str, cron: str) -> None:
    definition = spec(warehouse, name).partitions_def
    assert isinstance(definition, dg.TimeWindowPartitionsDefinition)
    assert (definition.cron_schedule, definition.timezone) == (cron, "UTC")


def test_freshness_is_stated_by_model_and_source(warehouse: Warehouse) -> None:
    stated = spec(warehouse, "report").freshness_policy
    assert stated == dg.FreshnessPolicy.cron("0 9 * * *", timedelta(hours=24), "Asia/Seoul")
    assert spec(warehouse, "merged").freshness_policy is None


def test_a_source_loaded_elsewhere_is_an_external_asset(warehouse: Warehouse) -> None:
    found = spec(warehouse, "outside/rates")
    assert found.group_name == "prod_outside"
    assert found.freshness_policy is None
    graph = warehouse.definitions.resolve_asset_graph()
    assert found.key not in graph.executable_asset_keys


def test_a_source_states_freshness_in_dbts_words() -> None:
    source = {
        "resource_type": "source",
        "freshness": {
            "warn_after": {"count": 12, "period": "hour"},
            "error_after": {"count": 1, "period": "day"},
        },
    }
    assert freshness_policy(source, "UTC") == dg.FreshnessPolicy.time_window(
        timedelta(days=1), timedelta(hours=12)
    )


def test_every_test_is_a_check_with_its_severity(warehouse: Warehouse) -> None:
    graph = warehouse.definitions.resolve_asset_graph()
    found = {
        key.name: (key.asset_key.path[1:], graph.get_check_spec(key).blocking)
        for key in graph.asset_check_keys
        if key.name != "all_partitions_built"
    }
    warns = "accepted_values_stg_orders_amount__False__10__20__30__40__50"
    assert found == {
        "unique_orders_order_id": (["orders"], True),
        "not_null_orders_order_id": (["orders"], True),
        "not_null_stg_orders_order_id": (["stg_orders"], True),
        warns: (["stg_orders"], False),
        "source_not_null_outside_rates_rate": (["outside", "rates"], True),
        "amounts_are_positive": (["report"], True),
        "report_matches_orders": (["report"], True),
        "customers_are_summed": (["merged"], True),
        # names no single node: on the one that is built last
        "orphan_test": (["merged"], True),
    }


def test_lineage_ends_at_the_dashboard(warehouse: Warehouse) -> None:
    found = spec(warehouse, "exposure/shop_dashboard")
    assert {dep.asset_key for dep in found.deps} == {
        warehouse.key("report"),
        warehouse.key("customers_v2"),
    }
    assert found.owners == ["ann@example.com"]
    assert found.kinds == {"dashboard"}
    assert found.metadata["url"] == dg.MetadataValue.url("https://lightdash.example.com/shop")
    graph = warehouse.definitions.resolve_asset_graph()
    assert found.key not in graph.executable_asset_keys


@pytest.mark.parametrize(
    ("owner", "expected"),
    [("ann@example.com", "ann@example.com"), ("Data Platform", "team:Data_Platform")],
)
def test_an_owner_without_address_is_a_team(owner: str, expected: str) -> None:
    assert as_owner(owner) == expected
