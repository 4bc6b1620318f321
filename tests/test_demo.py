"""``make demo``: the flights project on the real data, from nothing, and three pushes to it.

The last push is the change that docs/incremental.md leads through.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest


@pytest.mark.timeout(900)
def test_the_demo_builds_every_flight_and_tells_what_pushes_do(tmp_path: Path) -> None:
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
    print(done.stdout)
    first, second, third = done.stdout.split("git commit ")[1:]
    assert first.startswith("models/marts/reference/dim_routes.sql")
    assert "1 node of 39: dim_routes" in first
    assert "column_changed haul: dim_routes ← SQL" in first
    assert "1 built, 38 left alone" in first
    assert "nothing is due; all 39 nodes are as it says." in second
    assert "0 built, 39 left alone" in second
    assert "2 nodes (730 partitions rebuilt) of 39" in third
    assert "column_added hours: fct_flights ← SQL" in third
    assert "365 partitions, 2013-12-02 … 2013-01-05" in third  # the newest batch of 30 days first
    assert "success" in third
    with duckdb.connect(str(tmp_path / "demo" / "warehouse.duckdb")) as connection:

        def value(sql: str) -> object:
            [(found,)] = connection.execute(sql).fetchall()
            return found

        assert value("select count(*) from marts.fct_flights") == 336_776
        assert value("select count(distinct flight_date) from marts.fct_flights") == 365
        assert value("select count(*) from marts.fct_weather_hourly") == 26_115
        unfilled = "hours is distinct from air_minutes / 60"
        assert value(f"select count(*) from marts.fct_flights where {unfilled}") == 0
