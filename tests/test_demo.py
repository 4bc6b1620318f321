"""``make demo``: the flights project on the real data, from nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest


@pytest.mark.timeout(900)
def test_the_demo_builds_every_flight_and_shows_what_it_took(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "dbt_orchestration.cli", "demo"],
        env=os.environ | {"DBT_ORCHESTRATION_STATE_DIR": str(tmp_path), "COLUMNS": "160"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "First full build:" in done.stdout
    assert "prod/marts/fct_flights" in done.stdout
    assert "Traceback" not in done.stderr
    with duckdb.connect(str(tmp_path / "demo" / "warehouse.duckdb")) as connection:

        def value(sql: str) -> object:
            [(found,)] = connection.execute(sql).fetchall()
            return found

        assert value("select count(*) from marts.fct_flights") == 336_776
        assert value("select count(distinct flight_date) from marts.fct_flights") == 365
        assert value("select count(*) from marts.fct_weather_hourly") == 26_115
