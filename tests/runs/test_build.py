"""Materializing for real, on DuckDB: what lands in the tables is what Dagster records."""

from __future__ import annotations

import os
import shutil
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.events import StepMaterializationData
from filelock import FileLock

from dbt_orchestration.history.order import Order
from dbt_orchestration.ledger.failures import RunFailure
from dbt_orchestration.ledger.run_tags import AHEAD_TAG, RECREATES_TAG
from dbt_orchestration.settings.models import Environment, Settings
from dbt_orchestration.settings.project_meta import ProjectError
from tests.assets.test_translator import BUILT
from tests.conftest import (
    EVERY_NODE,
    Warehouse,
    checks,
    failure,
    make_settings,
    materialized,
)

DAYS = {"2024-01-01", "2024-01-02", "2024-01-03", "2024-01-04"}


def resumed(failed: dg.ExecuteInProcessResult) -> dict[str, str]:
    """The tags of "Re-execute from asset failure"."""
    return {"dagster/parent_run_id": failed.run_id, "dagster/is_asset_resume_retry": "true"}


def broken(day: str) -> dict[str, object]:
    return {"vars": {"broken_day": day}}


def test_a_full_build_is_one_step_and_builds_everything(warehouse: Warehouse) -> None:
    result = warehouse.build()
    assert result.success
    assert set(materialized(result)) == BUILT
    assert [event.step_key for event in result.all_events if event.is_step_success] == ["dbt_prod"]
    assert warehouse.execute("select sum(amount) from main.report") == [(150,)]
    assert warehouse.execute("select sum(amount) from main.orders_monthly") == [(150,)]


def test_the_first_build_takes_every_partition_and_the_next_one_the_newest(
    warehouse: Warehouse,
) -> None:
    warehouse.build()
    assert warehouse.partitions("orders_daily") == DAYS
    assert len(warehouse.partitions("orders_hourly")) == 48
    assert warehouse.partitions("orders_monthly") == {"2024-01-01", "2024-02-01"}
    again = warehouse.build()
    rebuilt = {
        (event.materialization.asset_key.path[-1], event.materialization.partition)
        for event in again.get_asset_materialization_events()
        if event.materialization.partition
    }
    # lookback is dbt's: 1 unless the model says otherwise, and orders_daily says 0
    assert rebuilt == {
        ("orders_daily", "2024-01-04"),
        ("orders_hourly", "2024-01-02-22:00"),
        ("orders_hourly", "2024-01-02-23:00"),
        ("orders_monthly", "2024-01-01"),
        ("orders_monthly", "2024-02-01"),
        ("orders_window", "2024-01-03"),
        ("orders_window", "2024-01-04"),
    }


def test_the_environment_can_set_the_lookback(
    settings: Settings, instance: dg.DagsterInstance
) -> None:
    environments = {"prod": Environment(branch="main", target="prod", lookback=2)}
    warehouse = Warehouse(
        settings.model_copy(update={"environments": environments}), "prod", instance
    )
    warehouse.build("orders", "stg_orders", "orders_daily", partitions=("2024-01-01", "2024-01-04"))
    result = warehouse.build("orders_daily")
    assert [e.materialization.partition for e in result.get_asset_materialization_events()] == [
        "2024-01-04",
        "2024-01-03",
        "2024-01-02",
    ]


def test_a_range_of_partitions_and_unpartitioned_models_go_in_one_run(
    warehouse: Warehouse,
) -> None:
    result = warehouse.build(
        "orders", "stg_orders", "orders_daily", "report", partitions=("2024-01-02", "2024-01-03")
    )
    assert result.success
    assert warehouse.partitions("orders_daily") == {"2024-01-02", "2024-01-03"}
    assert warehouse.execute("select count(*), sum(amount) from main.orders_daily") == [(2, 120)]
    assert warehouse.execute("select amount from main.report") == [(120,)]


def test_a_run_for_days_takes_the_months_they_lie_in(warehouse: Warehouse) -> None:
    names = ("orders", "stg_orders", "orders_daily", "orders_monthly")
    assert warehouse.build(*names, partitions=("2024-01-02", "2024-01-03")).success
    assert warehouse.partitions("orders_monthly") == {"2024-01-01"}


def test_every_batch_that_landed_is_recorded_also_when_others_failed(warehouse: Warehouse) -> None:
    warehouse.build("orders", "stg_orders")
    result = warehouse.build("orders_daily", "report", config=broken("2024-01-02"))
    assert not result.success
    assert warehouse.partitions("orders_daily") == DAYS - {"2024-01-02"}
    assert warehouse.execute("select count(*) from main.orders_daily") == [(2,)]
    # what depends on it was not built, and both say so
    assert materialized(result) == ["orders_daily"]
    assert not checks(result)["all_partitions_built"].passed
    assert "model orders_daily (models/marts/orders_daily.sql)" in failure(result)
    assert "this day is broken" in failure(result)
    assert "skipped" in failure(result)
    failed = RunFailure.of(warehouse.instance, result.run_id)
    assert [*failed.nodes] == ["model.every_node.orders_daily"]  # not what was only skipped
    assert "this day is broken" in failed.nodes["model.every_node.orders_daily"].why
    assert failed.said == failure(result)


def test_a_retry_takes_only_the_batches_that_failed(warehouse: Warehouse) -> None:
    warehouse.build("orders", "stg_orders")
    failed = warehouse.build("orders_daily", "report", config=broken("2024-01-02"))
    retry = warehouse.build(
        "orders_daily",
        "report",
        tags=resumed(failed),
    )
    assert retry.success
    assert [e.materialization.partition for e in retry.get_asset_materialization_events()] == [
        "2024-01-02",
        None,
    ]
    assert warehouse.execute("select amount from main.report") == [(150,)]


def test_a_retried_full_refresh_keeps_what_landed(warehouse: Warehouse) -> None:
    warehouse.build("orders", "stg_orders")
    config = {"full_refresh": True, **broken("2024-01-02")}
    failed = warehouse.build("orders_daily", config=config)
    assert warehouse.partitions("orders_daily") == DAYS - {"2024-01-02"}
    retry = warehouse.build(
        "orders_daily",
        config={"full_refresh": True},
        tags=resumed(failed),
    )
    assert retry.success
    assert warehouse.execute("select count(*), sum(amount) from main.orders_daily") == [(3, 150)]


def observed(result: dg.ExecuteInProcessResult, key: dg.AssetKey) -> list[dg.DagsterEvent]:
    """What was built beside a table, batch by batch; not that it failed."""
    observation = dg.DagsterEventType.ASSET_OBSERVATION
    return [
        event
        for event in result.all_events
        if event.event_type is observation and event.asset_key == key and event.partition
    ]


def test_a_full_refresh_that_failed_leaves_the_old_table_and_goes_on_beside_it(
    warehouse: Warehouse,
) -> None:
    warehouse.build("orders", "stg_orders", "orders_daily", "report")
    config = {"full_refresh": True, **broken("2024-01-02")}
    failed = warehouse.build("orders_daily", "report", config=config)
    assert not failed.success
    assert warehouse.execute("select count(*), sum(amount) from main.orders_daily") == [(3, 150)]
    assert materialized(failed) == []
    assert len(observed(failed, warehouse.key("orders_daily"))) == len(DAYS) - 1
    # what it left beside is not taken for the model's own
    other = warehouse.build("orders_daily", config={"full_refresh": True, **broken("2024-01-03")})
    assert not other.success
    assert len(beside_tables(warehouse)) == 2
    retry = warehouse.build(
        "orders_daily", "report", config={"full_refresh": True}, tags=resumed(failed)
    )
    assert retry.success
    [batch] = observed(retry, warehouse.key("orders_daily"))
    assert batch.partition == "2024-01-02"
    assert warehouse.execute("select count(*), sum(amount) from main.orders_daily") == [(3, 150)]
    assert warehouse.partitions("orders_daily") == DAYS
    assert beside_tables(warehouse) == []


def test_tables_made_anew_with_vars_come_into_their_place(warehouse: Warehouse) -> None:
    warehouse.build("orders", "stg_orders", "orders_daily")
    config = {"full_refresh": True, **broken("2030-01-01")}
    result = warehouse.build("orders_daily", config=config)
    assert result.success
    assert materialized(result) == ["orders_daily"]
    assert beside_tables(warehouse) == []


def test_what_another_run_is_building_beside_is_left_to_it(warehouse: Warehouse) -> None:
    warehouse.build("orders", "stg_orders", "orders_daily")
    job = warehouse.definitions.resolve_job_def("prod_full_build")
    ended, works = (
        warehouse.instance.create_run_for_job(
            job, status=status, asset_selection=frozenset({warehouse.key("report")})
        ).run_id[:8]
        for status in (dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.STARTED)
    )
    for run in (ended, works):
        warehouse.execute(f"create table main.orders_daily__rebuild_{run} as select 1 as one")
    assert warehouse.build("orders_daily", config={"full_refresh": True}).success
    assert beside_tables(warehouse) == [f"orders_daily__rebuild_{works}"]


def test_a_retry_whose_table_beside_is_gone_begins_anew(warehouse: Warehouse) -> None:
    warehouse.build("orders", "stg_orders", "orders_daily")
    config = {"full_refresh": True, **broken("2024-01-02")}
    failed = warehouse.build("orders_daily", config=config)
    [table] = beside_tables(warehouse)
    warehouse.execute(f"drop table main.{table}")
    retry = warehouse.build("orders_daily", config={"full_refresh": True}, tags=resumed(failed))
    assert retry.success
    assert warehouse.execute("select count(*), sum(amount) from main.orders_daily") == [(3, 150)]


def beside_tables(warehouse: Warehouse) -> list[str]:
    rows = warehouse.execute("select table_name from duckdb_tables()")
    return sorted(name for (name,) in rows if "__rebuild_" in name)


def test_somebody_who_reads_all_the_time_never_sees_a_table_that_is_not_whole(
    warehouse: Warehouse,
) -> None:
    warehouse.build()
    seen: list[tuple[object, ...]] = []
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            sql = "select count(*), sum(amount), count(distinct typeof(amount)) from main.{}"
            seen.extend(warehouse.execute(sql.format("orders_daily")))
            seen.extend(warehouse.execute(sql.format("orders_monthly")))

    with ThreadPoolExecutor(1) as pool:
        reader = pool.submit(read)
        try:
            days = ("2024-01-01", "2024-01-04")
            assert warehouse.build("orders_daily", "orders_monthly", partitions=days).success
            assert warehouse.build(config={"full_refresh": True}).success
        finally:
            stop.set()
        reader.result()
    assert set(seen) == {(3, 150, 1), (1, 150, 1)}
    assert len(seen) > 20


@dataclass
class Earlier:
    """A run that has started before the one that is tested, and what it does while that waits."""

    warehouse: Warehouse
    patch: pytest.MonkeyPatch
    waited: list[float] = field(default_factory=list)

    def start(self, job: str = "prod_full_build", *names: str) -> dg.DagsterRun:
        keys = frozenset(map(self.warehouse.key, names))
        definition = self.warehouse.definitions.resolve_job_def(job)
        return self.warehouse.instance.create_run_for_job(
            definition, status=dg.DagsterRunStatus.STARTED, asset_selection=keys or None
        )

    def then(self, *steps: Callable[[], object]) -> None:
        """One step for each second that the other run waits; it must wait no longer."""
        left = list(steps)

        def sleep(seconds: float) -> None:
            self.waited.append(seconds)
            left.pop(0)()

        self.patch.setattr("dbt_orchestration.runs.creation.time.sleep", sleep)

    def lands(self, name: str, partition: str | None = None) -> None:
        event = dg.AssetMaterialization(self.warehouse.key(name), partition=partition)
        self.warehouse.instance.report_runless_asset_event(event)

    def builds(self, run: dg.DagsterRun, name: str) -> None:
        data = StepMaterializationData(dg.AssetMaterialization(self.warehouse.key(name)))
        kind = dg.DagsterEventType.ASSET_MATERIALIZATION.value
        event = dg.DagsterEvent(kind, run.job_name, event_specific_data=data)
        self.warehouse.instance.report_dagster_event(event, run.run_id)


@pytest.fixture
def earlier(warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch) -> Earlier:
    return Earlier(warehouse, monkeypatch)


def nothing() -> None:
    """Time passes."""


@pytest.mark.parametrize("selected", [("orders_daily",), ()])
def test_a_second_run_waits_until_the_first_has_created_the_table(
    warehouse: Warehouse, earlier: Earlier, selected: tuple[str, ...]
) -> None:
    warehouse.build("orders", "stg_orders")
    first = earlier.start("prod_full_build", *selected)
    earlier.then(
        nothing,
        lambda: earlier.lands("orders_daily", "2024-01-04"),
        lambda: says_anew(warehouse, first),
    )
    days = ("2024-01-01", "2024-01-02")
    assert warehouse.build("orders_daily", partitions=days).success
    assert len(earlier.waited) == 3
    # and not once it has ended
    warehouse.instance.wipe_assets([warehouse.key("orders_daily")])
    warehouse.instance.report_run_canceled(first)
    assert warehouse.build("orders_daily", partitions=days).success
    assert len(earlier.waited) == 3


def test_a_run_does_not_wait_for_one_that_builds_other_tables(
    warehouse: Warehouse, earlier: Earlier
) -> None:
    warehouse.build("orders", "stg_orders")
    for job, names in (("prod_rebuild", ()), ("prod_full_build", ("orders_monthly", "report"))):
        earlier.start(job, *names)
    earlier.then()
    assert warehouse.build("orders_daily", partitions=("2024-01-01", "2024-01-02")).success
    assert earlier.waited == []


def test_a_run_waits_until_one_that_makes_its_table_anew_has_it_in_its_place(
    warehouse: Warehouse, earlier: Earlier
) -> None:
    """What it added to the old table would be gone with it."""
    warehouse.build("orders", "stg_orders", "orders_daily")
    first = earlier.start()
    earlier.then(
        nothing,
        lambda: says_anew(warehouse, first, "orders_daily", "orders_monthly"),
        nothing,
        lambda: warehouse.instance.report_run_canceled(first),
    )
    assert warehouse.build("orders_daily", partitions=("2024-01-01", "2024-01-02")).success
    assert len(earlier.waited) == 4


@pytest.mark.parametrize("ahead", ["this", "that", "neither"])
def test_runs_one_of_which_is_wanted_at_once_share_no_table(
    warehouse: Warehouse, earlier: Earlier, ahead: str
) -> None:
    """Whichever started first goes first, until it has built what the other builds or reads."""
    warehouse.build("orders", "stg_orders")
    wanted = {AHEAD_TAG: "prod"}
    first = earlier.start("prod_full_build", "orders", "stg_orders", "time_spine")
    warehouse.instance.add_run_tags(first.run_id, wanted if ahead == "that" else {})
    earlier.then(
        nothing,
        lambda: earlier.builds(first, "stg_orders"),
        lambda: earlier.builds(first, "orders"),
    )
    assert warehouse.build("rated", tags=wanted if ahead == "this" else {}).success
    assert len(earlier.waited) == (0 if ahead == "neither" else 3)
    assert warehouse.build("slow", tags=wanted).success
    assert len(earlier.waited) == (0 if ahead == "neither" else 3)


def test_a_run_does_not_wait_for_ever(
    warehouse: Warehouse, earlier: Earlier, monkeypatch: pytest.MonkeyPatch
) -> None:
    warehouse.build("orders", "stg_orders")
    first = earlier.start("prod_full_build", "orders_daily")
    earlier.then(nothing)
    monkeypatch.setattr("dbt_orchestration.runs.creation._MOST_HOURS", 0)
    said = failure(warehouse.build("orders_daily", partitions=("2024-01-01", "2024-01-02")))
    assert f"run {first.run_id[:8]}, which creates orders_daily" in said
    assert earlier.waited == []


def test_a_run_says_which_tables_it_makes_anew(warehouse: Warehouse) -> None:
    def said(result: dg.ExecuteInProcessResult) -> str:
        run = warehouse.instance.get_run_by_id(result.run_id)
        assert run is not None
        return run.tags[RECREATES_TAG].removeprefix(f"{result.run_id[:8]}: ")

    assert said(warehouse.build("orders", "stg_orders", "orders_daily", "merged")) == "nothing"
    again = warehouse.build(
        "stg_orders", "orders_daily", "merged", tags=Order(rebuild=["merged"]).as_tags()
    )
    assert said(again) == "merged"
    full = warehouse.build("stg_orders", "orders_daily", "merged", config={"full_refresh": True})
    assert said(full) == "merged, orders_daily"


def says_anew(warehouse: Warehouse, run: dg.DagsterRun, *names: str) -> None:
    said = f"{run.run_id[:8]}: {', '.join(names) or 'nothing'}"
    warehouse.instance.add_run_tags(run.run_id, {RECREATES_TAG: said})


def test_a_snapshot_is_never_rebuilt_and_says_so(warehouse: Warehouse) -> None:
    result = warehouse.build(
        "customers_snapshot", tags=Order(rebuild=["customers_snapshot"]).as_tags()
    )
    assert "is a snapshot: what its source was like in the past cannot" in failure(result)


def test_each_partition_carries_the_code_version(warehouse: Warehouse) -> None:
    warehouse.build()
    [spec] = [
        s
        for s in warehouse.definitions.resolve_all_asset_specs()
        if s.key == warehouse.key("orders_daily")
    ]
    event = warehouse.instance.get_latest_materialization_event(warehouse.key("orders_daily"))
    assert event is not None
    assert event.asset_materialization is not None
    assert event.asset_materialization.tags is not None
    assert event.asset_materialization.tags["dagster/code_version"] == spec.code_version


def test_a_warning_goes_on_and_an_error_stops_what_depends_on_it(warehouse: Warehouse) -> None:
    result = warehouse.build()
    warned = checks(result)["accepted_values_stg_orders_amount__False__10__20__30__40__50"]
    assert (warned.passed, warned.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert result.success

    warehouse.execute("update main.orders set order_id = null where order_id = 1")
    stopped = warehouse.build("stg_orders", "merged", "rated")
    assert not stopped.success
    assert checks(stopped)["not_null_stg_orders_order_id"].severity is dg.AssetCheckSeverity.ERROR
    assert materialized(stopped) == ["stg_orders"]
    assert "not_null_stg_orders_order_id" in failure(stopped)
    [(test, failed)] = RunFailure.of(warehouse.instance, stopped.run_id).nodes.items()
    assert test.startswith("test.every_node.not_null_stg_orders_order_id.")
    assert failed.why == "Got 1 result, configured to fail if != 0"


def test_a_failing_source_test_stops_its_readers(warehouse: Warehouse) -> None:
    warehouse.build()
    warehouse.execute("update raw.rates set rate = null")
    result = warehouse.build()
    assert not checks(result)["source_not_null_outside_rates_rate"].passed
    assert "rated" not in materialized(result)


def test_tests_can_be_left_out(warehouse: Warehouse) -> None:
    result = warehouse.build("orders", "stg_orders", config={"exclude_tests": True})
    assert result.success
    assert checks(result) == {}


def test_one_check_can_run_alone(warehouse: Warehouse) -> None:
    warehouse.build()
    check = dg.AssetCheckKey(warehouse.key("orders"), "unique_orders_order_id")
    job = warehouse.definitions.resolve_implicit_global_asset_job_def()
    result = job.get_subset(asset_check_selection={check}).execute_in_process(
        instance=warehouse.instance
    )
    assert set(checks(result)) == {"unique_orders_order_id"}
    assert materialized(result) == []


def test_vars_reach_dbt(warehouse: Warehouse) -> None:
    warehouse.build("orders", "stg_orders")
    day = ("2024-01-03", "2024-01-03")
    assert warehouse.build("orders_daily", partitions=day, config=broken("1999-01-01")).success
    assert not warehouse.build("orders_daily", partitions=day, config=broken(day[0])).success


def test_an_opted_in_model_reads_its_window_from_vars(warehouse: Warehouse) -> None:
    warehouse.build("orders", "stg_orders")
    result = warehouse.build("orders_window", partitions=("2024-01-02", "2024-01-02"))
    assert result.success
    assert warehouse.partitions("orders_window") == {"2024-01-02"}
    assert warehouse.execute("select day_at::date::varchar, orders from main.orders_window") == [
        ("2024-01-02", 2)
    ]


def test_full_refresh_of_some_partitions_is_refused_and_loses_nothing(
    warehouse: Warehouse,
) -> None:
    warehouse.build()
    before = warehouse.execute("select * from main.orders_daily order by all")
    result = warehouse.build(
        "orders_daily", partitions=("2024-01-02", "2024-01-03"), config={"full_refresh": True}
    )
    assert not result.success
    assert "would drop all 4 partitions of model.every_node.orders_daily, and 2" in failure(result)
    assert "Select all partitions" in failure(result)
    assert warehouse.execute("select * from main.orders_daily order by all") == before


def test_full_refresh_of_all_partitions_rebuilds_the_table(warehouse: Warehouse) -> None:
    warehouse.build()
    warehouse.execute("insert into main.orders_daily values ('2030-01-01', 1)")
    assert warehouse.build(config={"full_refresh": True}).success
    assert warehouse.execute(
        "select count(*) from main.orders_daily where day_at > '2029-01-01'"
    ) == [(0,)]


def test_a_partition_that_does_not_exist_is_named(warehouse: Warehouse) -> None:
    result = warehouse.build("orders_window", partitions=("2024-01-02", "2024-02-02"))
    assert not result.success
    assert "no partition 2024-02-02: they go from 2024-01-01 to 2024-01-04" in failure(result)


def test_two_environments_live_in_one_file(
    settings: Settings, instance: dg.DagsterInstance
) -> None:
    prod, dev = (Warehouse(settings, name, instance) for name in ("prod", "dev"))
    assert prod.build("orders", "stg_orders").success
    assert dev.build("orders", "stg_orders").success
    assert dev.execute("select count(*) from dev.stg_orders") == [(6,)]
    assert prod.execute("select count(*) from main.stg_orders") == [(6,)]


def scratch_folders(warehouse: Warehouse) -> list[str]:
    return sorted(path.name for path in (warehouse.settings.state_dir / "runs").glob("*"))


def test_a_run_leaves_no_folder_unless_it_failed(warehouse: Warehouse) -> None:
    assert warehouse.build("orders", "stg_orders").success
    assert scratch_folders(warehouse) == []
    failed = warehouse.build("orders_daily", config=broken("2024-01-02"))
    assert not failed.success
    assert scratch_folders(warehouse) == [failed.run_id]


def test_folders_of_killed_runs_go_and_those_of_living_ones_stay(warehouse: Warehouse) -> None:
    job, status = warehouse.definitions.resolve_job_def("prod_full_build"), dg.DagsterRunStatus
    ended, taken_for_dead, working = (
        warehouse.instance.create_run_for_job(job, status=each).run_id
        for each in (status.FAILURE, status.FAILURE, status.STARTED)
    )
    for run_id in (ended, taken_for_dead, working):
        (warehouse.settings.state_dir / "runs" / run_id).mkdir(parents=True)
    alive = Path(warehouse.instance.storage_directory()) / taken_for_dead / "alive.lock"
    alive.parent.mkdir(parents=True)
    alive.with_suffix(".pid").write_text("1")
    with FileLock(alive):
        assert warehouse.build("orders").success
    assert scratch_folders(warehouse) == sorted([taken_for_dead, working])


def test_cancelling_stops_dbt_and_its_query(warehouse: Warehouse) -> None:
    """A query that would take minutes; its run is interrupted as the UI's Terminate does."""
    threading.Timer(10, _interrupt_main).start()
    result = warehouse.build("slow", config={"vars": {"slow": True}})
    [event] = [event for event in result.all_events if event.is_step_failure]
    assert event.step_failure_data.error is not None
    assert event.step_failure_data.error.cls_name == "DagsterExecutionInterruptedError"
    assert "dbt" not in {thread.name for thread in threading.enumerate()}
    assert scratch_folders(warehouse) == []
    assert warehouse.execute(
        "select count(*) from information_schema.tables where table_name = 'slow'"
    ) == [(0,)]
    assert warehouse.build("slow").success


def _interrupt_main() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def test_a_model_called_as_its_folder_is_built_alone(tmp_path: Path) -> None:
    project = tmp_path / "project"
    shutil.copytree(EVERY_NODE, project)
    (project / "models" / "marts" / "merged").mkdir()
    (project / "models" / "marts" / "merged" / "detail.sql").write_text("select 1 as one")
    with dg.DagsterInstance.ephemeral() as instance:
        warehouse = Warehouse(make_settings(tmp_path / "state", project), "prod", instance)
        assert warehouse.build("orders", "stg_orders").success
        result = warehouse.build("merged")
        assert result.success
        assert materialized(result) == ["merged"]
        tables = warehouse.execute("select table_name from information_schema.tables")
        assert ("detail",) not in tables


def test_a_model_that_begins_in_the_future_is_refused_by_name(tmp_path: Path) -> None:
    project = tmp_path / "project"
    shutil.copytree(EVERY_NODE, project)
    model = project / "models" / "marts" / "orders_hourly.sql"
    later = model.read_text().replace('begin="2024-01-01"', 'begin="2999-01-01"')
    model.write_text(later.replace('"end": "2024-01-03"', '"end": "2999-01-03"'))
    with (
        dg.DagsterInstance.ephemeral() as instance,
        pytest.raises(ProjectError, match=r"orders_hourly\.sql: .*begin"),
    ):
        Warehouse(make_settings(tmp_path / "state", project), "prod", instance)


def test_a_retry_asks_for_what_the_first_attempt_asked_for(warehouse: Warehouse) -> None:
    """Days built before the first attempt and again by it are not taken for missing history."""
    warehouse.build("orders", "stg_orders")
    warehouse.build("orders_daily", partitions=("2024-01-03", "2024-01-04"))
    failed = warehouse.build("orders_daily")
    retry = warehouse.build("orders_daily", tags=resumed(failed))
    assert retry.success
    assert [e.materialization.partition for e in retry.get_asset_materialization_events()] == [
        "2024-01-04"
    ]


def test_a_materialization_says_which_columns_each_column_is_made_of(warehouse: Warehouse) -> None:
    warehouse.build()

    def lineage(name: str) -> dict[str, set[tuple[str, str]]]:
        event = warehouse.instance.get_latest_materialization_event(warehouse.key(name))
        assert event is not None
        assert event.asset_materialization is not None
        value = event.asset_materialization.metadata["dagster/column_lineage"]
        assert isinstance(value, dg.TableColumnLineageMetadataValue)
        return {
            column: {(dep.asset_key.path[-1], dep.column_name) for dep in deps}
            for column, deps in value.column_lineage.deps_by_column.items()
        }

    # Through the ephemeral int_ephemeral, which is in no warehouse and no asset.
    assert lineage("merged")["amount"] == {("stg_orders", "amount")}
    assert lineage("report")["amount"] == {("orders_daily", "amount")}
    assert lineage("orders_daily")["amount"] == {("stg_orders", "amount")}
    assert lineage("stg_orders")["amount"] == {("orders", "amount")}
