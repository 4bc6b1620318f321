"""What was recorded as built and is not in the warehouse any more is built again."""

from __future__ import annotations

from datetime import UTC, datetime

import dagster as dg

from dbt_orchestration.history.order import Order
from tests.automation.site import Site, git, names
from tests.automation.test_push import EVERYTHING
from tests.conftest import failure, materialized

WHY = "its table is not in the warehouse"
DAYS = [("2024-01-01", 50), ("2024-01-02", 350), ("2024-01-03", 25)]


def begin(site: Site) -> None:
    assert site.build().success


def push_a_comment(site: Site) -> None:
    site.clone.edit("models/totals.sql", "select", "-- all of them\nselect")
    site.clone.push("comment")


def reasons(request: dg.RunRequest) -> dict[str, str]:
    said = Order.of_tags(request.tags).reasons
    return {unique_id.rpartition(".")[2]: why for unique_id, why in said.items()}


def days(site: Site) -> list[tuple[object, ...]]:
    return site.query("select strftime(day_at, '%Y-%m-%d'), amount::int from main.daily order by 1")


def test_a_dropped_table_is_due_with_the_next_push(built: Site) -> None:
    built.query("drop table main.customers")
    built.query("drop view main.stg_orders")
    push_a_comment(built)
    request = built.request()
    assert reasons(request) == {"customers": WHY, "stg_orders": WHY}
    result = built.run(request)
    assert result.success, failure(result)
    assert built.query("select count(*) from main.customers") == [(3,)]
    assert "nothing is due" in built.says()
    push_a_comment(built)
    assert "nothing is due" in built.says()


def test_a_model_that_comes_back_is_looked_for(built: Site) -> None:
    file = built.clone.folder / "dbt" / "models" / "totals.sql"
    sql = file.read_text()
    file.unlink()
    built.clone.push("without totals")
    assert "nothing is due" in built.says()
    built.query("drop table main.totals")
    file.write_text(sql)
    built.clone.push("with totals")
    request = built.request()
    assert reasons(request) == {"totals": WHY}
    assert built.run(request).success
    assert "nothing is due" in built.says()


def test_a_dropped_table_is_due_when_the_branch_goes_back_to_an_older_commit(built: Site) -> None:
    first = git(built.clone.folder, "rev-parse", "HEAD")
    push_a_comment(built)
    assert "nothing is due" in built.says()
    built.query("drop table main.customers")
    git(built.clone.folder, "push", "--quiet", "--force", "origin", f"{first}:main")
    assert reasons(built.request()) == {"customers": WHY}


def test_a_view_in_the_place_of_a_table_is_not_the_table(built: Site) -> None:
    built.query("drop table main.totals; create view main.totals as select 7 as orders")
    push_a_comment(built)
    assert reasons(request := built.request()) == {"totals": WHY}
    assert built.run(request).success
    assert built.query("select orders from main.totals") == [(4,)]


def test_a_run_sees_what_is_not_there_and_builds_all_of_it(built: Site) -> None:
    assert "nothing is due" in built.says()
    built.query("drop table main.daily; drop table main.kept")
    # Somebody builds one of them, and the other one is seen to be gone as well.
    assert built.materialize("daily").success
    assert days(built) == DAYS
    request = built.request()
    assert reasons(request) == {"kept": WHY}
    assert built.run(request).success
    assert "nothing is due" in built.says()


def test_of_a_dropped_table_the_partitions_nobody_asked_for_are_due(built: Site) -> None:
    assert "nothing is due" in built.says()
    built.query("drop table main.daily")
    job = built.loaded["prod"].resolve_implicit_global_asset_job_def()
    order = Order(partitions={"daily": ["2024-01-02"]})
    one_day = job.get_subset(asset_selection={dg.AssetKey(["prod", "daily"])}).execute_in_process(
        instance=built.instance, tags=order.as_tags()
    )
    assert one_day.success
    assert days(built) == DAYS[1:2]
    request = built.request()
    assert names(request) == ["daily"]
    assert built.run(request).success
    assert days(built) == DAYS
    assert "nothing is due" in built.says()


def test_a_failed_build_of_a_dropped_table_is_gone_on_with(built: Site) -> None:
    assert "nothing is due" in built.says()
    built.query("drop table main.daily")
    built.clone.edit(
        "models/daily.sql",
        "sum(amount)",
        "sum(case when day_at(ordered_at) = 2 then error('no') else amount end)".replace(
            "day_at", "day"
        ),
    )
    built.clone.push("broken")
    assert not built.build().success
    built.clone.edit("models/daily.sql", "error('no')", "amount")
    built.clone.push("mended")
    assert built.build().success
    assert days(built) == DAYS
    assert "nothing is due" in built.says()


def test_a_deleted_file_loses_no_history_of_dagsters(built: Site) -> None:
    before = len(built.instance.get_runs())
    built.settings.duckdb_path.unlink()
    push_a_comment(built)
    request = built.request()
    assert reasons(request) == dict.fromkeys(EVERYTHING, WHY)
    assert not built.settings.duckdb_path.exists()
    assert built.run(request).success
    assert len(built.instance.get_runs()) == before + 1
    assert built.query("select orders from main.totals") == [(4,)]
    assert "nothing is due" in built.says()


def test_what_is_dropped_again_is_built_again(built: Site) -> None:
    keys: set[str | None] = set()
    for _ in range(2):
        assert "nothing is due" in built.says()
        built.query("drop table main.customers")
        assert built.materialize("totals").success is False  # it reads that
        request = built.request()
        assert reasons(request)["customers"] == WHY
        keys.add(request.run_key)
        assert built.run(request).success
    assert len(keys) == 2


def test_what_never_leaves_a_table_is_not_built_for_ever(built: Site) -> None:
    built.clone.write(
        "models/gone.sql", "{{ config(post_hook='drop table {{ this }}') }} select 1 as one"
    )
    built.clone.push("gone")
    assert built.build().success
    push_a_comment(built)
    assert reasons(request := built.request()) == {"gone": WHY}
    assert built.run(request).success
    for _ in range(2):
        push_a_comment(built)
        assert "nothing is due" in built.says()


def test_the_daily_build_loads_a_dropped_seed(built: Site) -> None:
    assert "nothing is due" in built.says()
    built.query("drop table main.raw_orders")
    push_a_comment(built)
    built.request()
    schedule = built.loaded["prod"].resolve_schedule_def("prod_full_build_schedule")
    with dg.build_schedule_context(built.instance, datetime(2030, 1, 1, tzinfo=UTC)) as context:
        [request] = schedule.evaluate_tick(context).run_requests or ()
    assert "raw_orders" in names(request)


def test_what_a_push_renames_is_due_for_that(built: Site) -> None:
    built.clone.write(
        "models/customers.sql",
        "{{ config(alias='people') }}"
        + (built.clone.folder / "dbt/models/customers.sql").read_text(),
    )
    built.clone.push("people")
    request = built.request()
    assert WHY not in reasons(request)["customers"]
    assert "customers" in materialized(built.run(request))
    assert "nothing is due" in built.says()
