"""A change of an incremental model and its history: real git, dbt and DuckDB."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from tests.automation.site import Site, names
from tests.automation.test_push import dagster_in

DAYS = ["2024-01-01", "2024-01-02", "2024-01-03"]


@pytest.fixture(scope="module")
def first_build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything of a site after its first build."""
    home = tmp_path_factory.mktemp("built")
    with dagster_in(home) as instance:
        site = Site.of(home, instance)
        write_history(site)
        site.clone.push("with readers")
        assert site.build().success
    return home


def write_history(site: Site) -> None:
    site.clone.edit(
        "models/daily.sql", "lookback=0,", "lookback=0, on_schema_change='append_new_columns',"
    )
    site.clone.write("models/monthly.sql", MONTHLY)
    site.clone.write("models/peak.sql", "select max(amount) as amount from {{ ref('daily') }}")


MONTHLY = """\
{{ config(
    materialized="incremental", incremental_strategy="microbatch", event_time="month_at",
    batch_size="month", begin="2024-01-01", lookback=0,
    meta={"dagster": {"partitions": {"end": "2024-02-01"}}}
) }}
select date_trunc('month', day_at) as month_at, sum(amount) as amount
from {{ ref("daily") }}
group by 1
"""


@pytest.fixture
def built(first_build: Path, tmp_path: Path) -> Iterator[Site]:
    """The site after its first build, a copy for each test."""
    shutil.copytree(first_build, tmp_path, dirs_exist_ok=True, symlinks=True)
    with dagster_in(tmp_path) as instance:
        yield Site.of(tmp_path, instance)


def config(request: dg.RunRequest) -> Mapping[str, Any]:
    found: Mapping[str, Any] = request.run_config["ops"]["dbt_prod"]["config"]
    return found


def partitions(result: dg.ExecuteInProcessResult, name: str) -> list[str | None]:
    return [
        event.materialization.partition
        for event in result.get_asset_materialization_events()
        if event.materialization.asset_key.path[-1] == name
    ]


def daily(site: Site) -> list[tuple[Any, ...]]:
    return site.query("select * from main.daily order by 1")


def test_a_change_of_logic_rebuilds_every_partition_and_who_reads_it(built: Site) -> None:
    before = daily(built)
    built.clone.edit("models/daily.sql", "sum(amount)", "sum(amount) * 10")
    built.clone.push("in pence")
    request = built.request()
    assert names(request) == ["daily", "monthly", "peak"]
    assert config(request)["partitions"] == {
        "model.shop.daily": ["2024-01-01..2024-01-03"],
        "model.shop.monthly": ["2024-01-01"],
    }
    assert request.tags["dbt/due"].startswith("3 nodes (4 partitions rebuilt) of 9")
    result = built.run(request)
    assert result.success
    assert partitions(result, "daily") == DAYS[::-1]
    assert daily(built) == [(day, amount * 10) for day, amount in before]
    assert "nothing is due" in built.says()


def test_an_added_column_is_appended_and_filled(built: Site) -> None:
    before = daily(built)
    built.clone.edit(
        "models/daily.sql", "sum(amount) as amount", "sum(amount) as amount, count(*) as n"
    )
    built.clone.push("count")
    request = built.request()
    assert names(request) == ["daily"]
    assert built.run(request).success
    assert [row[:2] for row in daily(built)] == before
    assert all(row[2] >= 1 for row in daily(built))
    assert "nothing is due" in built.says()


def test_what_failed_of_the_history_is_due_and_nothing_else(built: Site) -> None:
    built.clone.edit(
        "models/daily.sql",
        "sum(amount)",
        "sum(case when ordered_at = timestamp '2024-01-02' then error('no') else amount * 2 end)",
    )
    built.clone.push("a broken day")
    assert not built.build().success
    assert "still due, and tried already" in built.says()
    built.clone.push("again")
    request = built.request()
    assert config(request)["partitions"]["model.shop.daily"] == ["2024-01-02"]
