"""The real dbt-snowflake and the real connector, over HTTP, against an emulator."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import dagster as dg
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from dbt_orchestration.assets.raw_sources import ROW_COUNTS
from dbt_orchestration.dbt.internals import sessions
from dbt_orchestration.doctor import examine
from dbt_orchestration.ledger.built import read_built, read_gone
from dbt_orchestration.ledger.run_tags import PUSH_TAG
from dbt_orchestration.location import flights
from dbt_orchestration.location.definitions import build_definitions
from dbt_orchestration.markdown import inline
from dbt_orchestration.revisions.working_tree import prepare
from dbt_orchestration.settings.models import Environment, Push
from tests.assets.test_columns import shown
from tests.assets.test_translator import BUILT
from tests.automation.test_adopt import follows
from tests.automation.test_failures import said
from tests.automation.test_history import shown as shown_by
from tests.conftest import (
    EVERY_NODE,
    REPOSITORY,
    Warehouse,
    checks,
    failure,
    make_settings,
    materialized,
)
from tests.runs.test_figures import figures
from tests.runs.test_time_zone import IN_UTC, visits_project
from tests.snowflake.emulator import Emulator, profile_environment, running_emulator

# Said by fakesnow of itself, and by dbt-snowflake of an argument that it always passes.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Arrow output on a DB-API result:UserWarning"),
    pytest.mark.filterwarnings("ignore:The 'insecure_mode' connection:DeprecationWarning"),
]

PROFILE = "snowflake_emulator"
FLIGHTS = REPOSITORY / "dbt_project"
FIRST, SECOND, THIRD = (datetime(2024, 1, day) for day in (1, 2, 3))


@dataclass
class Snowflake(Warehouse):
    """An environment's code location, with the emulator behind it."""

    emulator: Emulator

    def execute(self, sql: str) -> list[tuple[Any, ...]]:
        return self.emulator.execute(sql)

    def code_versions(self) -> dict[str, str | None]:
        specs = self.definitions.resolve_all_asset_specs()
        return {spec.key.to_user_string(): spec.code_version for spec in specs}

    def sent(self, *parts: str) -> list[str]:
        """The statements sent so far that contain all of these parts."""
        return [s for s in self.emulator.statements if all(part in s for part in parts)]


@pytest.fixture
def emulator(monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    with running_emulator() as emulator:
        set_environment(monkeypatch, emulator.environment)
        yield emulator


@pytest.fixture(scope="module")
def prepared_for_snowflake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state folder in which the project is parsed, so that no test parses it again."""
    state = tmp_path_factory.mktemp("snowflake")
    with pytest.MonkeyPatch.context() as patch:
        set_environment(patch, profile_environment(free_port()))
        prepare(make_settings(state, profile=PROFILE), "prod")
    return state


@pytest.fixture
def snowflake(
    emulator: Emulator,
    prepared_for_snowflake: Path,
    tmp_path: Path,
    instance: dg.DagsterInstance,
) -> Snowflake:
    shutil.copytree(prepared_for_snowflake, tmp_path / "state")
    settings = make_settings(tmp_path / "state", profile=PROFILE)
    return Snowflake(settings, "prod", instance, emulator)


def set_environment(patch: pytest.MonkeyPatch, variables: Mapping[str, str]) -> None:
    for name, value in variables.items():
        patch.setenv(name, value)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def private_key() -> str:
    """A throw-away key, as Snowflake's key-pair authentication wants it."""
    return (
        rsa.generate_private_key(public_exponent=65537, key_size=2048)
        .private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        .decode()
    )


def test_a_full_build_and_the_next_one(snowflake: Snowflake) -> None:
    first = snowflake.build()
    assert first.success, failure(first)
    assert set(materialized(first)) == BUILT
    daily = [(FIRST, 30), (SECOND, 70), (THIRD, 50)]
    assert snowflake.execute("select * from shop.orders_daily order by 1") == daily
    assert not snowflake.sent("merge into ANALYTICS.SHOP.merged ")

    snowflake.execute("update shop.orders_daily set amount = 0")
    snowflake.execute("update shop.merged set amount = 0 where order_id = 1")
    before = len(snowflake.sent("numeric_precision"))
    second = snowflake.build()
    assert second.success, failure(second)
    assert len(snowflake.sent("merge into ANALYTICS.SHOP.merged ")) == 1
    types = {column.name: column.type for column in shown(snowflake, "customers_v2").columns}
    assert types == {"customer_id": "NUMBER(38,0)", "amount": "FLOAT", "orders": "NUMBER(38,0)"}
    assert len(snowflake.sent("numeric_precision")) == before + 1
    assert snowflake.execute("select order_id, amount from shop.merged order by 1") == [
        (order, order * 10) for order in range(1, 7)
    ]
    # only the newest day is built again, and it has no orders
    assert snowflake.execute("select sum(amount), count(*) from shop.orders_daily") == [(0, 3)]
    assert snowflake.execute("select amount from shop.report") == [(0,)]
    assert snowflake.execute("select orders from shop.customers_v2 order by customer_id") == [
        (3,),
        (2,),
        (1,),
    ]
    history = "select count(*), count(distinct dbt_scd_id) from shop.customers_snapshot"
    assert snowflake.execute(history) == [(3, 3)]

    # What is there fits, as if Dagster had not built it.
    snowflake.instance.wipe_assets([snowflake.key(name) for name in BUILT])
    form = snowflake.definitions.resolve_job_def("prod_adopt")
    config = {"ops": {"prod_what_is_there": {"config": {"compare_rows": True}}}}
    found = follows(form.execute_in_process(config, instance=snowflake.instance))
    assert len(found) == len(BUILT)
    assert not {name: what for name, what in found.items() if not what.startswith("adopted")}
    assert found["orders_daily"] == "adopted: 4 partitions, 2024-01-01 to 2024-01-04"


def test_a_role_that_may_not_see_columns_fails_no_run(snowflake: Snowflake) -> None:
    snowflake.emulator.refused["numeric_precision"] = "Insufficient privileges"
    for _ in range(2):
        result = snowflake.build("orders", "stg_orders")
        assert result.success, failure(result)
    assert {column.type for column in shown(snowflake, "stg_orders").columns} == {"?"}


def rebuilt_on(snowflake: Snowflake, warehouse: str) -> set[str]:
    """Models that were built on a warehouse, since this was asked last."""
    sent = snowflake.sent(f"use warehouse {warehouse}")
    snowflake.emulator.statements.clear()
    return {found[1] for each in sent if (found := re.search(r"every_node\.(\w+)", each))}


def test_a_range_of_partitions_is_replaced_and_nothing_else(snowflake: Snowflake) -> None:
    state, push = snowflake.settings.state_dir, Push(enabled=False)
    prod = Environment(branch="main", target="prod", push=push, backfill_warehouse="REBUILDING")
    settings = make_settings(state, profile=PROFILE, environments={"prod": prod})
    versions = snowflake.code_versions()
    snowflake = Snowflake(settings, "prod", snowflake.instance, snowflake.emulator)
    assert snowflake.code_versions() == versions, "another warehouse makes nothing due"
    names = ("orders", "stg_orders", "orders_daily", "orders_window")
    assert snowflake.build(*names).success
    assert rebuilt_on(snowflake, "REBUILDING") == {"orders_daily", "orders_window"}
    assert snowflake.build(*names).success
    assert rebuilt_on(snowflake, "REBUILDING") == set()
    snowflake.execute("update shop.orders_daily set amount = 0")
    snowflake.execute("update shop.orders_window set orders = 0")
    result = snowflake.build(
        "orders_daily", "orders_window", partitions=("2024-01-02", "2024-01-03")
    )
    assert result.success, failure(result)
    assert snowflake.sent("use warehouse TRANSFORMING"), "the next model is on its own again"
    assert rebuilt_on(snowflake, "REBUILDING") == {"orders_daily", "orders_window"}
    assert snowflake.execute("select amount from shop.orders_daily order by day_at") == [
        (0,),
        (70,),
        (50,),
    ]
    assert snowflake.execute("select orders from shop.orders_window order by day_at") == [
        (0,),
        (2,),
        (1,),
    ]
    assert {
        event.materialization.partition for event in result.get_asset_materialization_events()
    } == {"2024-01-02", "2024-01-03"}


def test_a_batch_is_replaced_in_one_transaction(snowflake: Snowflake) -> None:
    names = ("orders", "stg_orders", "orders_daily")
    assert snowflake.build(*names).success
    with watching(snowflake, "select count(*) from shop.orders_daily") as seen:
        assert snowflake.build(*names, partitions=("2024-01-01", "2024-01-03")).success
    assert set(seen) == {(3,)}
    assert len(seen) > 3
    sent = [statement.strip().lower() for statement in snowflake.emulator.statements]
    deletes = [s for s in sent if "delete from analytics.shop.orders_daily" in s]
    assert len(deletes) >= 3
    for word in ("begin", "commit"):
        ours = [s for s in sent if s.startswith(word) and "every_node.orders_daily" in s]
        assert len(ours) == len(deletes)


def test_a_table_is_made_anew_beside_and_swapped_in(snowflake: Snowflake) -> None:
    names = ("orders", "stg_orders", "orders_daily")
    assert snowflake.build(*names).success
    snowflake.execute("grant select on table shop.orders_daily to role analysts")
    snowflake.execute(r"comment on table shop.orders_daily is 'by hand: C:\\new'")
    with watching(snowflake, "select count(*), sum(amount) from shop.orders_daily") as seen:
        result = snowflake.build(*names, config={"full_refresh": True})
        assert result.success, failure(result)
    assert set(seen) == {(3, 150)}
    assert len(seen) > 3
    assert snowflake.sent("alter table ANALYTICS.SHOP.orders_daily swap with")
    granted = snowflake.execute("show grants on table shop.orders_daily")
    assert [row[:3] for row in granted] == [("SELECT", "ROLE", "ANALYSTS")]
    assert snowflake.execute(
        "select comment from information_schema.tables where table_name = 'ORDERS_DAILY'"
    ) == [(r"by hand: C:\new",)]
    assert not left_beside(snowflake)
    failed = snowflake.build(
        *names, config={"full_refresh": True, "vars": {"broken_day": "2024-01-02"}}
    )
    assert not failed.success
    assert len(left_beside(snowflake)) == 1
    assert snowflake.build(*names, config={"full_refresh": True}).success
    assert not left_beside(snowflake)
    assert snowflake.partitions("orders_daily") == {f"2024-01-0{day}" for day in range(1, 5)}


@contextmanager
def watching(snowflake: Snowflake, sql: str) -> Iterator[list[tuple[Any, ...]]]:
    """What somebody sees who asks all the time."""
    seen: list[tuple[Any, ...]] = []
    stop = threading.Event()

    def watch() -> None:
        while not stop.is_set():
            seen.extend(snowflake.execute(sql))

    with ThreadPoolExecutor(1) as pool:
        watcher = pool.submit(watch)
        try:
            yield seen
        finally:
            stop.set()
        watcher.result()


def test_a_dropped_table_is_built_with_all_its_partitions(snowflake: Snowflake) -> None:
    names = ("orders", "stg_orders", "orders_daily", "customers_v2")
    assert snowflake.build(*names).success
    snowflake.execute("drop table shop.orders_daily")
    snowflake.execute("drop table shop.customers_v2")
    snowflake.execute("create view shop.customers_v2 as select 1 as customer_id")
    assert snowflake.build("orders_daily", "stg_orders").success
    daily = [(FIRST, 30), (SECOND, 70), (THIRD, 50)]
    assert snowflake.execute("select * from shop.orders_daily order by 1") == daily
    kinds = dict.fromkeys(names, "model") | {"orders": "seed"}
    keys = {f"{kind}.every_node.{name}": snowflake.key(name) for name, kind in kinds.items()}
    built, gone = read_built(snowflake.instance, keys), read_gone(snowflake.instance, keys)
    assert {u.split(".")[-1] for u in built} == {"orders", "stg_orders", "orders_daily"}
    assert {u.split(".")[-1] for u in gone} == {"customers_v2"}


def test_batches_beside_a_failed_one_land_and_are_recorded(snowflake: Snowflake) -> None:
    assert snowflake.build("orders", "stg_orders").success
    broken = {"vars": {"broken_day": "2024-01-02"}}
    result = snowflake.build("orders_daily", config=broken)
    assert not result.success
    assert snowflake.partitions("orders_daily") == {"2024-01-01", "2024-01-03", "2024-01-04"}
    assert snowflake.execute("select day_at, amount from shop.orders_daily order by 1") == [
        (FIRST, 30),
        (THIRD, 50),
    ]
    assert not checks(result)["all_partitions_built"].passed
    assert "this day is broken" in failure(result)


def test_a_materialization_says_how_many_rows_were_merged_and_which_query_did(
    snowflake: Snowflake,
) -> None:
    assert snowflake.build("orders", "stg_orders", "merged", "orders_daily").success
    before = len(snowflake.emulator.statements)
    result = snowflake.build("merged", "orders_daily", partitions=("2024-01-01", "2024-01-02"))
    assert result.success, failure(result)
    sent = snowflake.emulator.statements[before:]
    assert [each for each in sent if each.lstrip().lower().startswith("select count")] == []
    rows = figures(result, "rows affected")
    assert rows["merged", None] == 6
    assert set(figures(result, "query id")) == {
        ("merged", None),
        ("orders_daily", "2024-01-01"),
        ("orders_daily", "2024-01-02"),
    }


def test_a_failed_test_shows_its_rows_with_one_query(snowflake: Snowflake) -> None:
    assert snowflake.build("orders", "stg_orders").success
    snowflake.execute("update shop.orders set order_id = null where order_id = 1")
    check = dg.AssetCheckKey(snowflake.key("stg_orders"), "not_null_stg_orders_order_id")
    job = snowflake.definitions.resolve_implicit_global_asset_job_def()
    result = job.get_subset(asset_check_selection={check}).execute_in_process(
        instance=snowflake.instance, raise_on_error=False
    )
    value = checks(result)[check.name].metadata["sample"]
    assert isinstance(value, dg.TableMetadataValue)
    [record] = value.records
    assert record.data["ORDER_ID"] == "NULL"
    assert record.data["AMOUNT"] == "10"
    assert len(snowflake.sent("as failed_rows", check.name)) == 1


def test_a_failed_model_says_what_snowflake_said_and_links_to_its_query(
    snowflake: Snowflake,
) -> None:
    assert snowflake.build("orders", "stg_orders").success
    snowflake.emulator.refused["sum(amount) as amount"] = (
        "SQL compilation error: error line {line} at position 19\ninvalid identifier 'AMOUNT'"
    )
    result = snowflake.build("customers_v2")
    assert not result.success
    page = said(result, "customers_v2")
    assert "at position 19 invalid identifier 'AMOUNT'" in page[""]
    [marked] = [line for line in page["compiled SQL"].splitlines() if "fails here" in line]
    assert "sum(amount) as amount" in marked
    queries = "https://app.snowflake.com/acme/data/#/compute/history/queries"
    assert page["query"] == f"{queries}/{UUID(page['query id'])}/detail"
    snowflake.emulator.refused["sum(amount) as amount"] = (
        "090073 (22000): Warehouse 'TRANSFORMING' cannot be resumed because resource monitor"
        " 'MONTHLY' has exceeded its quota."
    )
    result = snowflake.build("customers_v2")
    refused = (
        "Warehouse 'TRANSFORMING' cannot be resumed because resource monitor 'MONTHLY' has exceeded"
        " its quota (090073): raise the monitor's CREDIT_QUOTA"
    )
    assert said(result, "customers_v2")[""].startswith(f"Failed: {inline(refused)}")
    assert refused in failure(result)
    snowflake.emulator.refused_login["390144"] = "JWT token is invalid. [0ce9eb56]"
    result = snowflake.build("customers_v2")
    assert "JWT token is invalid (390144, user SVC_DAGSTER, account" in failure(result)


def test_what_a_push_replaced_is_cloned_and_put_back(
    emulator: Emulator, tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    project = shutil.copytree(EVERY_NODE, tmp_path / "project")
    environment = Environment(
        branch="main", target="prod", push=Push(enabled=False), keep_replaced=1
    )
    settings = make_settings(
        tmp_path / "state", project, profile=PROFILE, environments={"prod": environment}
    )

    def push(**edits: tuple[str, str]) -> Snowflake:
        for model, edit in edits.items():
            file = Path("models") / "marts" / f"{model}.sql"
            (project / file).write_text((EVERY_NODE / file).read_text().replace(*edit))
        site = Snowflake(settings, "prod", instance, emulator)
        names = ("orders", "stg_orders", "merged", "orders_daily")
        result = site.build(*names, tags={PUSH_TAG: "prod"}, config={"exclude_tests": True})
        assert result.success, failure(result)
        return site

    before = {"merged": ("", ""), "orders_daily": ("", "")}
    push(**before)
    site = push(
        merged=(", amount", ", 10 * amount as amount"),
        orders_daily=("%} amount", "%} 10 * amount"),
    )
    assert site.execute("select sum(amount) from shop.merged") == [(2100,)]
    for table in ("merged", "orders_daily"):
        [cloned] = site.sent(f"clone ANALYTICS.SHOP.{table}")
        copy = cloned.split()[5]
        site.execute(f"update {copy} set amount = amount + 1000")
    site = push(**before)
    assert site.execute("select min(amount) > 1000 from shop.merged") == [(True,)]
    assert site.execute("select amount > 1000 from shop.orders_daily order by day_at") == [
        (True,),
        (True,),
        (True,),
    ]


def test_what_is_renamed_is_cloned(
    emulator: Emulator, tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    project = shutil.copytree(EVERY_NODE, tmp_path / "project")
    environment = Environment(branch="main", target="prod", push=Push(enabled=False))
    settings = make_settings(
        tmp_path / "state", project, profile=PROFILE, environments={"prod": environment}
    )

    def push(*names: str) -> Snowflake:
        site = Snowflake(settings, "prod", instance, emulator)
        result = site.build(*names, tags={PUSH_TAG: "prod"}, config={"exclude_tests": True})
        assert result.success, failure(result)
        return site

    site = push("orders", "stg_orders", "merged", "orders_daily")
    for table in ("merged", "orders_daily"):
        site.execute(f"update shop.{table} set amount = amount + 1000")
    marts = project / "models" / "marts"
    (marts / "merged.sql").rename(marts / "joined.sql")
    for named in (project / "models" / "models.yml", project / "tests" / "orphan_test.sql"):
        named.write_text(named.read_text().replace("merged", "joined"))
    daily = marts / "orders_daily.sql"
    daily.write_text(daily.read_text().replace("config(", "config(alias='by_day', ", 1))
    site = push("joined", "orders_daily")
    assert site.execute("select min(amount) > 1000 from shop.joined") == [(True,)]
    assert site.execute("select amount > 1000 from shop.by_day order by day_at") == [
        (True,),
        (True,),
        (True,),
    ]
    [clone] = site.sent("clone ANALYTICS.SHOP.merged")
    assert "joined__rebuild_" in clone
    assert site.execute("select min(amount) > 1000 from shop.merged") == [(True,)]

    def orphans() -> str:
        job = site.definitions.resolve_job_def("prod_drop_orphans")
        return shown_by(job.execute_in_process(instance=instance))["plan"].replace("\\", "")

    assert "merged | table |" in orphans()
    assert "others in 90 days" not in orphans()
    emulator.execute("create schema account_usage", "SNOWFLAKE")
    emulator.execute(
        "create table account_usage.access_history as select user_name, current_timestamp() as"
        " query_start_time, parse_json(objects) as direct_objects_accessed,"
        " parse_json('[]') as base_objects_accessed from (values"
        """ ('BOB', '[{"objectName": "ANALYTICS.SHOP.MERGED"}]'),"""
        """ ('ANN', '[{"objectName": "ANALYTICS.SHOP.MERGED"}]'),"""
        """ ('ANN', '[{"objectName": "ANALYTICS.SHOP.ORDERS"}]')) as v(user_name, objects)""",
        "SNOWFLAKE",
    )
    assert "| 2 others in 90 days, the last on 20" in orphans()


def test_a_terminated_run_leaves_no_query_running(snowflake: Snowflake) -> None:
    def terminate() -> None:
        while not snowflake.sent("create", "sleep_ms"):
            ended.wait(0.1)
        os.kill(os.getpid(), signal.SIGINT)

    ended = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        terminating = pool.submit(terminate)
        result = snowflake.build("slow", config={"vars": {"slow": True}})
        terminating.result()
    [event] = [event for event in result.all_events if event.is_step_failure]
    assert event.step_failure_data.error is not None
    assert event.step_failure_data.error.cls_name == "DagsterExecutionInterruptedError"
    assert snowflake.sent("system$cancel_all_queries")
    assert snowflake.emulator.running == {}
    assert "dbt" not in {thread.name for thread in threading.enumerate()}


def test_each_statement_is_tagged_with_its_run_and_node(
    emulator: Emulator, tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    settings = make_settings(tmp_path, FLIGHTS, profiles_dir=EVERY_NODE, profile=PROFILE)
    flights = Snowflake(settings, "prod", instance, emulator)
    result = flights.build("seeds/delay_buckets")
    assert result.success, failure(result)
    tag, *_ = flights.sent("query_tag", "seed.flights.delay_buckets")
    assert f'"run_id": "{result.run_id}"' in tag


def test_the_demo_parses_for_snowflake_with_a_key_pair(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_environment(
        monkeypatch,
        {
            "SNOWFLAKE_ACCOUNT": "organization-account",
            "SNOWFLAKE_USER": "SVC_DAGSTER",
            "DBT_ENV_SECRET_SNOWFLAKE_PRIVATE_KEY": private_key(),
        },
    )
    settings = make_settings(tmp_path, FLIGHTS, profile="snowflake")
    assert build_definitions(settings, "prod").resolve_all_asset_specs()
    credentials = sessions.load_credentials(FLIGHTS, FLIGHTS, "snowflake", "prod")
    assert isinstance(credentials.auth_args()["private_key"], bytes)
    assert credentials.database == "FLIGHTS"


@pytest.mark.parametrize("table", ["airlines", "flights", "weather"])
def test_raw_tables_are_loaded_and_replaced(table: str, emulator: Emulator) -> None:
    credentials = sessions.load_credentials(EVERY_NODE, EVERY_NODE, PROFILE, "prod")
    relation = f"analytics.raw.{table}"
    for _ in range(2):
        assert flights.load_table(table, relation, credentials) == ROW_COUNTS[table]
    found = [name.lower() for name, *_ in emulator.execute(f"describe table {relation}")]
    assert found == [*flights.COLUMNS[table], "loaded_at"]


def test_na_is_null_and_times_are_utc(emulator: Emulator) -> None:
    credentials = sessions.load_credentials(EVERY_NODE, EVERY_NODE, PROFILE, "prod")
    flights.load_table("weather", "analytics.raw.weather", credentials)
    assert emulator.execute(
        "select min(time_hour), count(*) - count(wind_gust) from analytics.raw.weather"
    ) == [(datetime(2013, 1, 1, 6), 20_778)]


def test_the_doctor_says_in_one_line_who_is_not_let_in_and_that_nobody_answers(
    emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = make_settings(tmp_path, profile=PROFILE)
    emulator.refused_login["390189"] = (
        "Role 'TRANSFORMER' specified in the connect string is not granted to this user. Contact"
        " your local system administrator, or attempt to login with another role, e.g. PUBLIC."
    )
    found = {finding.what: finding for finding in examine(settings)}
    assert found["prod: project"].ok
    assert not found["prod: warehouse"].ok
    assert found["prod: warehouse"].message == (
        "Role 'TRANSFORMER' specified in the connect string is not granted to this user (390189,"
        " user SVC_DAGSTER): grant role (the user's own) to user SVC_DAGSTER, or set another role"
        " in profiles.yml"
    )
    set_environment(monkeypatch, profile_environment(free_port()))
    found = {finding.what: finding for finding in examine(settings)}
    assert not found["prod: warehouse"].ok
    assert found["prod: warehouse"].message == (
        "Could not connect to Snowflake backend after 2 attempt(s).Aborting (250001, host"
        " 127.0.0.1): check account in profiles.yml, and that this machine reaches the host: DNS,"
        " proxy, firewall"
    )


def test_every_session_of_a_run_is_in_utc(
    emulator: Emulator, tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    assert emulator.execute("show parameters like 'TIMEZONE' in session")[0][1] != "UTC"
    project = visits_project(tmp_path)
    prod = Environment(
        branch="main", target="prod", push=Push(enabled=False), backfill_warehouse="REBUILDING"
    )
    environments = {"prod": prod}
    settings = make_settings(
        tmp_path / "state", project, profile=PROFILE, environments=environments
    )
    snowflake = Snowflake(settings, "prod", instance, emulator)
    result = snowflake.build("visits", "together", "one_by_one")
    assert result.success, failure(result)
    for name in ("together", "one_by_one"):
        rows = snowflake.execute(
            f"select date_part(epoch_second, day_at), visits from shop.{name} order by 1"
        )
        assert [(str(datetime.fromtimestamp(day, UTC)), visits) for day, visits in rows] == [
            (f"{day} 00:00:00+00:00", visits) for day, visits in IN_UTC
        ]
    found = {finding.what: finding for finding in examine(settings)}
    assert found["prod: warehouse"].message == (
        "connected, in UTC; a dbt build of your own would cut days in America/Los_Angeles:"
        " alter user … set timezone = 'UTC'"
    )
    emulator.refused["use warehouse REBUILDING"] = (
        "002043 (02000): SQL compilation error:\nObject does not exist, or operation cannot be"
        " performed."
    )
    found = {finding.what: finding for finding in examine(settings)}
    assert found["prod: warehouse"].message.startswith(
        "Object does not exist, or operation cannot be performed (002043, role"
    )


def left_beside(snowflake: Snowflake) -> list[tuple[Any, ...]]:
    return snowflake.execute(
        "select table_name from information_schema.tables"
        " where lower(table_name) like 'orders_daily__rebuild%'"
    )
