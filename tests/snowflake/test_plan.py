"""The demo project's plan is the same for Snowflake as for DuckDB: neither is connected to."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dbt_orchestration.changes.fingerprints import Fingerprints
from dbt_orchestration.changes.plan import diff
from dbt_orchestration.dbt.invocation import DbtTarget
from dbt_orchestration.revisions.analyse import Analyst
from dbt_orchestration.revisions.packages import install_packages
from dbt_orchestration.revisions.prepare import ProjectFolder, prepare
from tests.changes.projects import edit
from tests.conftest import REPOSITORY

PROFILES = ("duckdb", "snowflake")
MARTS = "models/marts"
# One of each kind, in one commit: a state of the project takes seconds to read.
EDITS = [
    {"file": f"{MARTS}/reference/dim_routes.sql", "append": "\n-- a comment"},
    {
        "file": f"{MARTS}/reference/dim_airlines.sql",
        "replace": "as is_regional",
        "by": "as is_regional,\n    alliance is null as is_alone",
    },
    {
        "file": "models/intermediate/reference/int_aircraft__current.sql",
        "replace": "seat_count < 20",
        "by": "seat_count < 30",
    },
    {"file": "dbt_project.yml", "replace": "strong_wind_mph: 20", "by": "strong_wind_mph: 21"},
    {"file": "seeds/delay_buckets.csv", "append": "never,99,1,2\n"},
    {
        "file": "local_packages/time_utils/macros/clock.sql",
        "replace": "mod({{ hhmm }}, 100)",
        "by": "mod({{ hhmm }}, 60)",
    },
    {"file": f"{MARTS}/finance/fct_seat_capacity_monthly.sql", "append": "\nlimit 100"},
]
DUE = {
    *("dim_airlines", "int_aircraft__current", "dim_aircraft", "fct_aircraft_activity"),
    *("int_flights__delay_factors", "fct_delay_causes_monthly", "fct_weather_hourly"),
    *("fct_weather_daily", "fct_weather_impact", "rpt_network_monthly"),
    *("delay_buckets", "fct_delay_distribution", "stg_nycflights__flights"),
    *("fct_seat_capacity_monthly", "rpt_carrier_disruption_cost"),
}


def test_the_plan_is_the_one_for_duckdb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ACCOUNT", "USER"):
        monkeypatch.setenv(f"SNOWFLAKE_{name}", name)
    monkeypatch.setenv("DBT_ENV_SECRET_SNOWFLAKE_PRIVATE_KEY", "not read before a connection is")
    project = tmp_path / "project"
    left_out = shutil.ignore_patterns("dbt_packages", "target", "logs")
    shutil.copytree(REPOSITORY / "dbt_project", project, ignore=left_out)
    states = {profile: _states(project, tmp_path / profile, profile) for profile in PROFILES}
    before = {profile: next(each) for profile, each in states.items()}
    edit(project, EDITS)
    after = {profile: next(each) for profile, each in states.items()}
    duckdb, snowflake = (_plan(before[each], after[each]) for each in PROFILES)
    assert {node["name"] for node in duckdb["due"]} == DUE
    assert snowflake == duckdb


def _states(project: Path, home: Path, profile: str) -> Iterator[Fingerprints]:
    """The project as it lies, each time it is asked for."""
    target = DbtTarget(project, home / "logs", project, profile, "prod", {"DBT_PROFILE": profile})
    analyst = Analyst(home)
    while True:
        source = ProjectFolder(target, install_packages)
        revision = prepare(source, home / "revisions", analysed=False)
        prints = analyst.fingerprints(revision, target)
        assert not prints.project.uncompiled
        yield prints


def _plan(base: Fingerprints, head: Fingerprints) -> Any:
    """What ``plan --json`` says; Snowflake has the names of columns in capitals."""
    return json.loads(json.dumps(diff(base, head).as_json()).lower())
