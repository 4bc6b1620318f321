"""A push that made something fail, and another one that takes it back."""

from __future__ import annotations

from typing import Any

import dagster as dg
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus

from dbt_orchestration.assets.translator import PARTITIONS_CHECK
from dbt_orchestration.ledger.built import read_built
from tests.automation.site import Site, names
from tests.automation.test_from_nothing import assert_from_nothing
from tests.automation.test_push import another_run
from tests.conftest import failure, materialized

CUSTOMERS = "models/customers.sql"
FAILS = CUSTOMERS, "sum(amount)", "sum(error('no')::int)"
CHECK = dg.AssetCheckKey(dg.AssetKey(["prod", "customers"]), "unique_customers_customer_id")

DAYS = dg.AssetCheckKey(dg.AssetKey(["prod", "daily"]), PARTITIONS_CHECK)


def begin(site: Site) -> None:
    assert site.build().success


def is_red(site: Site, name: str) -> bool:
    """Whether the UI shows an asset as failed; as its ``shouldDisplayRunFailure`` decides."""
    key = dg.AssetKey(["prod", name])
    planned = site.instance.get_latest_planned_materialization_info(key)
    run = site.instance.get_run_record_by_id(planned.run_id) if planned else None
    if run is None or run.dagster_run.status is not dg.DagsterRunStatus.FAILURE:
        return False
    last = site.instance.get_latest_materialization_event(key)
    assert run.end_time
    built = last and (last.run_id == run.dagster_run.run_id or last.timestamp > run.end_time)
    return not built


def check_status(site: Site, check: dg.AssetCheckKey = CHECK) -> AssetCheckExecutionRecordStatus:
    storage = site.instance.event_log_storage
    return storage.get_latest_asset_check_execution_by_key([check])[check].status


def break_customers(site: Site) -> None:
    site.clone.edit(*FAILS)
    site.clone.push("breaks customers")
    assert not site.build().success
    assert "still due, and tried already" in site.says()
    assert is_red(site, "customers")
    assert is_red(site, "big_customers")


def take_back(site: Site) -> None:
    path, good, bad = FAILS
    site.clone.edit(path, bad, good)
    site.clone.push("takes it back")
    assert "nothing is due" in site.says()


def test_what_was_taken_back_is_green_and_was_not_built(built: Site) -> None:
    names = ("customers", "big_customers")
    keys = {f"model.shop.{name}": dg.AssetKey(["prod", name]) for name in names}
    before = read_built(built.instance, keys)
    break_customers(built)
    assert check_status(built) is AssetCheckExecutionRecordStatus.PLANNED
    take_back(built)
    assert not is_red(built, "customers")
    assert not is_red(built, "big_customers")
    assert check_status(built) is AssetCheckExecutionRecordStatus.SUCCEEDED
    last = built.instance.get_latest_materialization_event(CHECK.asset_key)
    event = last.asset_materialization if last else None
    run_id = before["model.shop.customers"].run_id[:8]
    assert event is not None
    assert (event.description or "").startswith(f"As it was, built in run {run_id}: what failed")
    assert read_built(built.instance, keys) == before
    built.says()  # the checks on pushes, again: the tick before has said something of the asset
    place = built.instance.event_log_storage.get_maximum_record_id()
    assert "nothing is due" in built.says()
    assert built.instance.event_log_storage.get_maximum_record_id() == place
    assert_from_nothing(built)


VIEW, GOOD, BAD = "models/stg_orders.sql", "customer_id, amount,", "customer_id, nothing as amount,"


def break_what_daily_reads(site: Site) -> dg.DagsterRun:
    """The run that failed."""
    site.clone.edit(VIEW, GOOD, BAD)
    site.clone.push("breaks stg_orders")
    result = site.build()
    assert "daily" not in materialized(result)
    assert not result.success
    run = site.instance.get_run_by_id(result.run_id)
    assert run
    return run


def take_back_what_daily_reads(site: Site) -> None:
    site.clone.edit(VIEW, BAD, GOOD)
    site.clone.push("takes it back")


def materialize_daily(site: Site, *above: str, **config: Any) -> dg.ExecuteInProcessResult:
    """Two days of it, and what is above, as a person chooses them."""
    keys = {dg.AssetKey(["prod", name]) for name in ("daily", *above)}
    days = {"start": "2024-01-01", "end": "2024-01-02"}
    job = site.loaded["prod"].resolve_implicit_global_asset_job_def()
    return job.get_subset(asset_selection=keys).execute_in_process(
        instance=site.instance,
        run_config={"ops": {"dbt_prod": {"config": config}}},
        tags={f"dagster/asset_partition_range_{end}": day for end, day in days.items()},
        raise_on_error=False,
    )


def test_partitions_that_a_failed_push_did_not_come_to_are_not_built_again(built: Site) -> None:
    failed = break_what_daily_reads(built)
    take_back_what_daily_reads(built)
    assert "nothing is due" in built.says()
    assert check_status(built, DAYS) is AssetCheckExecutionRecordStatus.SUCCEEDED
    refused = materialize_daily(built, full_refresh=True)
    assert "full_refresh would drop all 3 partitions" in failure(refused)
    assert "nothing is due" in built.says()
    assert_from_nothing(built)
    died = another_run(built, "daily")
    built.instance.add_run_tags(died.run_id, failed.tags)  # as one that retries it has them
    built.instance.report_run_failed(died)
    assert names(built.request()) == ["daily"]


def test_partitions_that_a_person_chose_and_a_failure_held_up_stay_due(built: Site) -> None:
    break_what_daily_reads(built)
    assert "daily" not in materialized(materialize_daily(built, "stg_orders"))
    take_back_what_daily_reads(built)
    assert names(built.request()) == ["daily"]


def test_a_test_that_was_not_run_since_is_due_all_the_same(built: Site) -> None:
    break_customers(built)
    take_back(built)
    job = built.loaded["prod"].resolve_implicit_global_asset_job_def()
    planned = built.instance.create_run_for_job(
        job.get_subset(asset_selection={CHECK.asset_key}),
        status=dg.DagsterRunStatus.STARTED,
        asset_selection=frozenset({CHECK.asset_key}),
    )
    alone = job.get_subset(asset_selection={CHECK.asset_key}, asset_check_selection=set())
    assert alone.execute_in_process(instance=built.instance).success
    built.instance.report_run_failed(planned)
    request = built.request()
    assert [key.name for key in request.asset_check_keys or ()] == [CHECK.name]


def test_a_change_that_comes_afterwards_is_built(built: Site) -> None:
    break_customers(built)
    take_back(built)
    built.clone.edit(CUSTOMERS, "sum(amount)", "max(amount)")
    built.clone.push("largest")
    request = built.request()
    assert names(request) == ["big_customers", "customers"]
    assert built.run(request).success
    assert "nothing is due" in built.says()
    assert_from_nothing(built)


def test_a_failure_of_what_is_loaded_stays_red(built: Site) -> None:
    break_customers(built)
    built.clone.push("unrelated")
    assert not built.build().success
    assert "still due" in built.says()
    assert is_red(built, "customers")
    assert is_red(built, "big_customers")


def test_a_daily_build_that_failed_stays_red(built: Site) -> None:
    """Its data is the cause, and no push takes that back."""
    built.load()
    built.query("create or replace view main.stg_orders as select 1 as customer_id")
    full_build = built.loaded["prod"].resolve_job_def("prod_full_build")
    customers = dg.AssetKey(["prod", "customers"])
    failed = full_build.execute_in_process(
        instance=built.instance, asset_selection=[customers], raise_on_error=False
    )
    assert not failed.success
    built.clone.push("unrelated")
    built.says()
    assert is_red(built, "customers")
