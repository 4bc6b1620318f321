"""``up`` with Dagster's records in PostgreSQL, as a small team has it."""

from __future__ import annotations

import sys
from pathlib import Path

import dagster as dg
import pytest

from dbt_orchestration.settings import postgres
from tests.e2e.coffee import Coffee
from tests.instances import new_database

pytest.importorskip("dagster_postgres", reason="pip install '.[postgres]'")
pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]


def test_stopped_and_started_again_it_loses_nothing_and_builds_nothing_again(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = new_database(url)
    coffee = Coffee(
        [sys.executable, "-m", "dbt_orchestration.cli"], tmp_path, {postgres.VARIABLE: database}
    )
    with coffee.up() as process:
        coffee.until_sales(process, 2.5, 3.0)
        coffee.commit("100", "10")
        coffee.until_sales(process, 25.0, 30.0)
    coffee.commit("10", "1")
    with coffee.up() as process:
        coffee.until_sales(process, 250.0, 300.0)
    assert "Traceback" not in coffee.said
    # No other database knows of it.
    assert not [*coffee.project.rglob("*.db")]
    monkeypatch.setenv(postgres.VARIABLE, postgres.with_driver(database))
    home = coffee.project / ".dbt-orchestration" / "dagster" / "coffee"
    with dg.DagsterInstance.from_config(str(home)) as instance:
        built = {
            name: len(instance.fetch_materializations(dg.AssetKey(["prod", name]), 10).records)
            for name in ("raw_sales", "sales")
        }
    assert built == {"raw_sales": 1, "sales": 3}
