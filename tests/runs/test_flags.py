"""A build is what Dagster asked for, whatever dbt's own environment variables say."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import Warehouse, failure, materialized


def test_flags_in_the_environment_change_no_build(
    warehouse: Warehouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("DBT_EMPTY", "DBT_FULL_REFRESH", "DBT_DEFER", "DBT_FAIL_FAST"):
        monkeypatch.setenv(name, "true")
    monkeypatch.setenv("DBT_ENGINE_RESOURCE_TYPES", "test")
    monkeypatch.setenv("DBT_STATE", str(tmp_path / "nowhere"))
    monkeypatch.setenv("DBT_TARGET_PATH", str(tmp_path / "elsewhere"))
    result = warehouse.build("orders", "stg_orders")
    assert result.success, failure(result)
    assert materialized(result) == ["orders", "stg_orders"]
    [(count,)] = warehouse.execute("select count(*) from main.stg_orders")
    assert count > 0
    assert not (tmp_path / "elsewhere").exists()
