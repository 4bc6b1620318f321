"""The demo's raw data: all of it, typed, and nothing half loaded."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import duckdb
import pytest

from dbt_orchestration.assets.raw_sources import ROW_COUNTS
from dbt_orchestration.location import flights


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "warehouse.duckdb"


def load(table: str, file: Path) -> int:
    credentials = SimpleNamespace(type="duckdb", path=str(file))
    return flights.load_table(table, f"warehouse.raw.{table}", credentials)


@pytest.mark.parametrize("table", sorted(ROW_COUNTS))
def test_every_row_arrives_and_a_second_load_replaces_them(table: str, file: Path) -> None:
    assert load(table, file) == ROW_COUNTS[table]
    assert load(table, file) == ROW_COUNTS[table]
    with duckdb.connect(str(file)) as connection:
        described = connection.execute(f"describe raw.{table}").fetchall()
    found = {name: kind.lower() for name, kind, *_ in described}
    assert found == {**flights.COLUMNS[table], "loaded_at": "timestamp"}


def test_there_are_336776_flights_of_every_day_of_2013(file: Path) -> None:
    assert load("flights", file) == 336_776
    with duckdb.connect(str(file)) as connection:
        [row] = connection.execute(
            "select count(*), count(distinct (month, day)), min(year), max(year), min(time_hour),"
            " count(*) filter (dep_time is null) from raw.flights"
        ).fetchall()
    assert [str(value) for value in row] == [
        "336776",
        "365",
        "2013",
        "2013",
        "2013-01-01 10:00:00",
        "8255",
    ]


def test_na_is_null_but_text_stays_text(file: Path) -> None:
    load("airports", file)
    load("planes", file)
    with duckdb.connect(str(file)) as connection:
        assert connection.execute(
            "select count(*) from raw.planes where year is null"
        ).fetchall() == [(70,)]
        assert connection.execute(
            "select count(*) from raw.airports where name = ''"
        ).fetchall() == [(0,)]


def test_a_wrong_number_of_rows_is_an_error(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ROW_COUNTS, "airlines", 17)
    with pytest.raises(flights.LoadError, match=r"raw\.airlines has 16 rows, expected 17"):
        load("airlines", file)


def test_a_warehouse_without_loader_says_what_to_set() -> None:
    with pytest.raises(flights.LoadError, match="no loader for postgres: set load_raw to false"):
        flights.load_table("airlines", "raw.airlines", SimpleNamespace(type="postgres"))
