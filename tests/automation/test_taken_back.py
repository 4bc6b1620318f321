"""A push that made something fail, and another one that takes it back."""

from __future__ import annotations

import dagster as dg
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus

from dbt_orchestration.ledger.built import read_built
from tests.automation.site import Site, names
from tests.automation.test_from_nothing import assert_from_nothing

CUSTOMERS = "models/customers.sql"
FAILS = CUSTOMERS, "sum(amount)", "sum(error('no')::int)"
CHECK = dg.AssetCheckKey(dg.AssetKey(["prod", "customers"]), "unique_customers_customer_id")


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


def check_status(site: Site) -> AssetCheckExecutionRecordStatus:
    storage = site.instance.event_log_storage
    return storage.get_latest_asset_check_execution_by_key([CHECK])[CHECK].status


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
    place = built.instance.event_log_storage.get_maximum_record_id()
    assert "nothing is due" in built.says()
    assert built.instance.event_log_storage.get_maximum_record_id() == place
    assert_from_nothing(built)


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
