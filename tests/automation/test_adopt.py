"""A team begins with a warehouse that plain dbt has filled: what fits is not built again."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb

from dbt_orchestration.history.order import Order
from dbt_orchestration.runs.adoption import ADOPTED
from tests.automation.site import Site, names
from tests.automation.test_dropped import reasons
from tests.automation.test_history import DAYS, shown
from tests.automation.test_rebuild import started
from tests.conftest import failure, materialized
from tests.instances import dagster_in

WINDOWED = """\
{{ config(
    materialized="incremental", incremental_strategy="delete+insert", unique_key="day_at",
    meta={"dagster": {"partitions": {
        "batch_size": "day", "begin": "2024-01-01", "end": "2024-01-04"
    }}}
) }}
select cast(ordered_at as date) as day_at, count(*) as orders from {{ ref("stg_orders") }}
{% if var("partition_start", none) %}
where ordered_at >= '{{ var("partition_start") }}' and ordered_at < '{{ var("partition_end") }}'
{% endif %}
group by 1
"""
HISTORY = """\
snapshots:
  - name: orders_history
    relation: ref('stg_orders')
    config: {unique_key: order_id, strategy: check, check_cols: [amount]}
"""
EVERYTHING = [
    *("big_customers", "customers", "daily", "ids", "kept", "orders_history", "peak"),
    *("raw_orders", "stg_orders", "totals", "windowed"),
]


def begin(site: Site) -> None:
    site.clone.write("models/peak.sql", "select max(amount) as amount from {{ ref('daily') }}")
    site.clone.write("models/ids.sql", "select order_id from {{ ref('stg_orders') }}")
    site.clone.write("models/windowed.sql", WINDOWED)
    (site.clone.folder / "dbt/snapshots").mkdir()
    site.clone.write("snapshots/history.yml", HISTORY)
    site.clone.push("what the warehouse was built from")
    assert names(site.request()) == EVERYTHING
    home = site.clone.home
    command: list[str | Path] = [Path(sys.executable).parent / "dbt", "build", "--target", "prod"]
    command += ["--exclude-resource-type", "test", "--profiles-dir", home / "profile"]
    command += ["--event-time-start", "2024-01-01", "--event-time-end", "2024-01-04"]
    subprocess.run(
        [*command, "--target-path", home / "target", "--log-path", home / "logs"],
        cwd=site.clone.folder / "dbt",
        env={**os.environ, "DBT_DUCKDB_PATH": str(site.settings.duckdb_path)},
        check=True,
        capture_output=True,
    )


def fill_in(site: Site, **form: Any) -> dg.ExecuteInProcessResult:
    return site.launch("adopt", **form)


def adopt(site: Site, request: dg.RunRequest) -> dg.ExecuteInProcessResult:
    """The run that was asked for, with the checks that were, and no others."""
    job = site.loaded["prod"].resolve_implicit_global_asset_job_def()
    result = job.get_subset(
        asset_selection={*(request.asset_selection or ())},
        asset_check_selection={*(request.asset_check_keys or ())},
    ).execute_in_process(instance=site.instance, tags=dict(request.tags), raise_on_error=False)
    assert result.success, failure(result)
    return result


def follows(result: dg.ExecuteInProcessResult) -> Mapping[str, str]:
    """What the form says of each node that follows."""
    lines = shown(result)["plan"].splitlines()
    rows = [line.strip("| ").split(" | ") for line in lines if line.startswith("| ")][2:]
    return {cells[0]: cells[-1] for cells in rows}


def test_a_full_warehouse_is_not_built_again(built: Site) -> None:
    built.query("update main.ids set order_id = order_id + 1000")  # nobody builds it again
    whole = dict.fromkeys(EVERYTHING, "adopted")
    days = f"adopted: 3 partitions, {DAYS[0]} to {DAYS[-1]}"
    said = fill_in(built, compare_rows=True)
    assert follows(said) == {**whole, "daily": days, "windowed": days}
    assert "windowed: of which partition a row is, nobody knows" in shown(said)["plan"]
    assert started(built) == []
    asked = fill_in(built, reason="we moved", dry_run=False)
    [request] = started(built)
    result = adopt(built, request)
    assert materialized(result) == EVERYTHING
    [event] = result.asset_materializations_for_node("dbt_prod")[:1]
    assert event.metadata[ADOPTED].value == (
        f"run {asked.run_id[:8]} adopts {len(EVERYTHING)} of {len(EVERYTHING)}: we moved"
    )
    for name in ("daily", "windowed"):
        key = dg.AssetKey(["prod", name])
        assert sorted(built.instance.get_materialized_partitions(key)) == DAYS
    tests = built.request()
    assert names(tests) == []
    assert {key.asset_key.path[-1] for key in tests.asset_check_keys or ()} == {"customers"}
    assert built.run(tests).success
    assert "nothing is due" in built.says()
    assert "everything of prod was built, or adopted, already" in failure(fill_in(built))

    built.clone.edit("models/customers.sql", "count(*)", "count(*) * 1")
    built.clone.push("a change")
    change = built.request()
    assert names(change) == ["customers", "totals"]
    assert built.run(change).success
    assert built.query("select min(order_id) from main.ids") == [(1001,)]
    assert "nothing is due" in built.says()


def test_what_does_not_fit_is_listed_and_built(built: Site) -> None:
    whole = built.query("select * from main.daily order by 1")
    built.query(
        "alter table main.big_customers add column extra int; alter table main.kept drop doubled;"
        " drop table main.windowed; drop table main.totals;"
        " create view main.totals as select 4 as orders;"
        " delete from main.ids where order_id = 1;"
        f" delete from main.daily where day_at = '{DAYS[1]}'"
    )
    said = follows(fill_in(built, compare_rows=True, reason="we moved", dry_run=False))
    due = {name: what for name, what in said.items() if what != "adopted"}
    assert due == {
        "big_customers": "due: columns: extra is too many",
        "kept": "due: columns: doubled is missing",
        "windowed": "due: it is not there, or a view for a table",
        "totals": "due: it is not there, or a view for a table",
        "ids": "due: rows: 3, and its code makes 4",
        "daily": f"adopted: 2 partitions, {DAYS[0]} to {DAYS[2]}; due: the partition {DAYS[1]}",
        "peak": "due: reads daily",
    }
    [request] = started(built)
    assert materialized(adopt(built, request)) == sorted(
        {*EVERYTHING} - {*due} | {"daily"},
    )
    push = built.request()
    assert names(push) == sorted(due)
    assert Order.of_tags(push.tags).partitions["model.shop.daily"] == [DAYS[1]]
    assert reasons(push)["daily"] == "not all of its partitions were built"
    assert built.run(push).success
    assert built.query("select * from main.daily order by 1") == whole
    assert built.query("select count(*) from main.ids") == [(4,)]
    assert built.query("select count(doubled) from main.kept") == [(4,)]
    assert "nothing is due" in built.says()


def test_what_an_older_commit_has_built_is_adopted_as_its(built: Site) -> None:
    was = built.clone.head()
    built.clone.edit("models/customers.sql", "sum(amount)", "max(amount)")
    built.clone.write("models/fresh.sql", "select 1 as one")
    (built.clone.folder / "dbt/models/kept.sql").unlink()
    built.clone.push("largest")
    built.request()
    said = fill_in(built, commit=was[:8], reason="we moved", dry_run=False)
    assert follows(said)["kept"] == "due: is not in the newest commit"
    [request] = started(built)
    assert materialized(adopt(built, request)) == [n for n in EVERYTHING if n != "kept"]
    request = built.request()
    assert names(request) == ["big_customers", "customers", "fresh"]
    assert built.run(request).success
    assert "nothing is due" in built.says()


def test_what_changes_after_the_form_is_left(built: Site) -> None:
    fill_in(built, select="+totals kept", reason="we moved", dry_run=False)
    built.query("alter table main.kept drop doubled")
    built.clone.edit("models/customers.sql", "count(*)", "count(*) * 1")
    built.clone.push("a change")
    built.request()
    [request] = started(built)
    assert names(request) == ["customers", "kept", "raw_orders", "stg_orders", "totals"]
    assert materialized(adopt(built, request)) == ["raw_orders", "stg_orders"]
    left = {*EVERYTHING} - {"raw_orders", "stg_orders"}
    assert names(built.request()) == sorted(left)


def test_what_is_wrong_is_one_line(built: Site) -> None:
    wrong = {
        "shoes": "select: there is no model 'shoes'",
        "customers shoes": "select: there is no model 'shoes'",
        "tag:shoes": "select: 'tag:shoes' matches nothing, or only what was built already",
    }
    for select, why in wrong.items():
        assert f"Nothing was started: {why}" in failure(fill_in(built, select=select))
    assert "exclude: there is no model 'shoes'" in failure(fill_in(built, exclude="shoes"))
    assert "commit: none of the last" in failure(fill_in(built, commit="abcdef0"))
    assert "Nothing was started: reason: say why" in failure(fill_in(built, dry_run=False))
    with duckdb.connect(str(built.settings.duckdb_path)):
        assert "has the DuckDB file open: launch this again" in failure(fill_in(built))
    assert started(built) == []


def test_a_lost_database_of_dagsters_costs_no_build(built: Site, tmp_path: Path) -> None:
    assert "nothing is due" in built.build_all()
    built.query("update main.ids set order_id = order_id + 1000")  # nobody builds it again
    whole = built.query("select * from main.daily order by 1")
    built.query("update main.daily set amount = amount + 1000")
    with dagster_in(tmp_path) as instance:
        site = Site(built.clone, instance, built.settings)
        assert site.launch("pause", reason="the database is lost").success
        assert "Paused by somebody" in site.says()
        fill_in(site, reason="the database is lost", dry_run=False)
        [request] = started(site)
        assert materialized(adopt(site, request)) == EVERYTHING
        assert site.launch("resume").success
        tests = site.request()
        assert names(tests) == []
        assert site.run(tests).success
        assert "nothing is due" in site.says()
        site.clone.edit("models/customers.sql", "count(*)", "count(*) * 1")
        site.clone.push("a change")
        change = site.request()
        assert names(change) == ["customers", "totals"]
        assert site.run(change).success
        assert "nothing is due" in site.says()
    assert site.query("select min(order_id) from main.ids") == [(1001,)]
    days = site.query("select * from main.daily order by 1")
    assert days == [(day, amount + 1000) for day, amount in whole]
