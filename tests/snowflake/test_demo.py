"""The demo on Snowflake: the real adapter and connector, against an emulator."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import pytest

from dbt_orchestration.assets.raw_sources import ROW_COUNTS
from dbt_orchestration.dbt.internals import sessions
from dbt_orchestration.location import flights
from tests.conftest import EVERY_NODE, checks, failure, make_settings, materialized
from tests.snowflake.emulator import Emulator
from tests.snowflake.test_snowflake import (  # noqa: F401
    FLIGHTS,
    PROFILE,
    Snowflake,
    emulator,
    pytestmark,
)


@pytest.mark.timeout(3600)
def test_the_demo_is_built_whole_and_its_tests_pass(
    emulator: Emulator,  # noqa: F811
    tmp_path: Path,
    instance: dg.DagsterInstance,
) -> None:
    settings = make_settings(tmp_path, FLIGHTS, profiles_dir=EVERY_NODE, profile=PROFILE)
    credentials = sessions.load_credentials(FLIGHTS, EVERY_NODE, PROFILE, "prod")
    for table, count in ROW_COUNTS.items():
        assert flights.load_table(table, f"analytics.raw.{table}", credentials) == count
    demo = Snowflake(settings, "prod", instance, emulator)
    result = demo.build()
    assert result.success, failure(result)
    assert len(materialized(result)) == 39
    warned = {name for name, check in checks(result).items() if not check.passed}
    assert warned == {"relationships_fct_flights_tail_number__tail_number__ref_dim_aircraft_"}
    counted = "select count(*), count(distinct flight_date) from marts.fct_flights"
    assert demo.execute(counted) == [(ROW_COUNTS["flights"], 365)]
    assert demo.execute("select count(*) from marts.fct_weather_hourly") == [
        (ROW_COUNTS["weather"],)
    ]
