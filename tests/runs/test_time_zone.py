"""A day is a day in UTC, wherever the machine and the warehouse stand."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from dbt_orchestration.doctor import examine
from tests.conftest import EVERY_NODE, Warehouse, failure, make_settings

VISITS = """{{ config(materialized="view", event_time="visited_at") }}
select ('2024-01-0' || d || ' ' || h || ':00:00+00')::timestamptz as visited_at
from (values ('1', '02'), ('1', '23'), ('2', '03'), ('3', '01'), ('3', '12')) as t (d, h)
"""
DAILY = """{{ config(
    materialized="incremental", incremental_strategy="microbatch", event_time="day_at",
    batch_size="day", begin="2024-01-01",
    meta={"dagster": {"partitions": {"end": "2024-01-04", "chunk": CHUNK, "mergeable": true}}},
) }}
select date_trunc('day', visited_at) as day_at, count(*) as visits
from {{ ref('visits') }} group by 1
"""
IN_UTC = [("2024-01-01", 2), ("2024-01-02", 1), ("2024-01-03", 2)]


@pytest.fixture
def in_new_york(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The process is started with TZ=America/New_York."""
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def visits_project(folder: Path) -> Path:
    """Visits with a time in UTC, counted by day: all days at once, and one by one."""
    project = folder / "project"
    project.mkdir()
    (project / "models").mkdir()
    (project / "dbt_project.yml").write_text("name: visits\nversion: 1.0.0\nprofile: duckdb\n")
    shutil.copy(EVERY_NODE / "profiles.yml", project)
    (project / "models" / "visits.sql").write_text(VISITS)
    for name, chunk in (("together", "30"), ("one_by_one", "1")):
        (project / "models" / f"{name}.sql").write_text(DAILY.replace("CHUNK", chunk))
    return project


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return visits_project(tmp_path)


def insist(project: Path, setting: str) -> None:
    file = project / "profiles.yml"
    text = file.read_text()
    file.write_text(text.replace("type: duckdb\n", f"type: duckdb\n      {setting}\n"))


@pytest.mark.usefixtures("in_new_york")
def test_many_days_at_once_are_the_same_as_one_by_one(
    project: Path, tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    warehouse = Warehouse(make_settings(tmp_path / "state", project), "prod", instance)
    result = warehouse.build("visits", "together", "one_by_one")
    assert result.success, failure(result)
    for name in ("together", "one_by_one"):
        days = "strftime(make_timestamp(epoch_us(day_at)), '%Y-%m-%d')"
        assert warehouse.execute(f"select {days}, visits from {name} order by 1") == IN_UTC, name
    found = {finding.what: finding for finding in examine(warehouse.settings)}
    assert found["prod: warehouse"].ok
    assert found["prod: warehouse"].message == (
        "connected, in UTC; a dbt build of your own would cut days in America/New_York: put"
        " `settings: {TimeZone: UTC}` into the target in profiles.yml"
    )


@pytest.mark.parametrize(
    "setting", ["settings: {timezone: America/New_York}", "config_options: {TimeZone: Asia/Seoul}"]
)
def test_a_profile_that_wants_another_zone_is_refused_in_one_line(
    project: Path, tmp_path: Path, instance: dg.DagsterInstance, setting: str
) -> None:
    settings = make_settings(tmp_path / "state", project)
    warehouse = Warehouse(settings, "prod", instance)
    insist(project, setting)
    zone = setting.rpartition(" ")[2].rstrip("}")
    said = f"target prod sets the time zone {zone} in profiles.yml: remove it"
    found = {finding.what: finding for finding in examine(settings)}
    assert said in found["prod: warehouse"].message
    assert len(found["prod: warehouse"].message.splitlines()) == 1
    result = warehouse.build("visits")
    assert said in failure(result)


@pytest.mark.usefixtures("in_new_york")
@pytest.mark.parametrize("zone", ["UTC", "Etc/UTC"])
def test_a_profile_may_say_that_it_is_in_utc(project: Path, tmp_path: Path, zone: str) -> None:
    insist(project, f"settings: {{TimeZone: {zone}}}")
    found = {
        finding.what: finding for finding in examine(make_settings(tmp_path / "state", project))
    }
    assert found["prod: warehouse"].message == "connected, in UTC"
