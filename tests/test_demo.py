"""``make demo``: the flights project on the real data, from nothing, and two pushes to it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest


@pytest.mark.timeout(900)
def test_the_demo_builds_every_flight_and_tells_what_two_pushes_do(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "dbt_orchestration.cli", "demo"],
        env=os.environ | {"DBT_ORCHESTRATION_STATE_DIR": str(tmp_path), "COLUMNS": "160"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert "First full build of prod: done" in done.stdout
    first, second = done.stdout.split("git commit ")[1:]
    assert first.startswith("models/marts/reference/dim_routes.sql")
    assert "1 node of 39: dim_routes" in first
    assert "column_changed haul: dim_routes ← SQL" in first
    assert "1 built, 38 left alone" in first
    assert "nothing is due; all 39 nodes are as it says." in second
    assert "0 built, 39 left alone" in second
    with duckdb.connect(str(tmp_path / "demo" / "warehouse.duckdb")) as connection:

        def value(sql: str) -> object:
            [(found,)] = connection.execute(sql).fetchall()
            return found

        assert value("select count(*) from marts.fct_flights") == 336_776
        assert value("select count(distinct flight_date) from marts.fct_flights") == 365
        assert value("select count(*) from marts.fct_weather_hourly") == 26_115
