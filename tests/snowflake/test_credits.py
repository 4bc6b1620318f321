"""What runs cost, of an emulator's table that has the columns of Snowflake's view."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dagster as dg
import pytest

from dbt_orchestration.automation.credits import definitions
from dbt_orchestration.automation.credits.query import add_up
from dbt_orchestration.doctor import examine
from dbt_orchestration.ledger.run_tags import CREDITS_TAG
from dbt_orchestration.location.definitions import build_definitions
from dbt_orchestration.settings.models import Environment
from tests.automation.test_history import shown
from tests.conftest import EVERY_NODE, failure, make_settings
from tests.snowflake.emulator import Emulator, running_emulator
from tests.snowflake.test_snowflake import FLIGHTS, PROFILE, Snowflake, set_environment

pytestmark = [
    pytest.mark.filterwarnings("ignore:Arrow output on a DB-API result:UserWarning"),
    pytest.mark.filterwarnings("ignore:The 'insecure_mode' connection:DeprecationWarning"),
]

# https://docs.snowflake.com/en/sql-reference/account-usage/query_attribution_history
COLUMNS = """query_id varchar, parent_query_id varchar, root_query_id varchar, warehouse_id number,
    warehouse_name varchar, query_hash varchar, query_parameterized_hash varchar,
    query_tag varchar, user_name varchar, start_time timestamp_ltz, end_time timestamp_ltz,
    credits_attributed_compute double, credits_used_query_acceleration double"""
_TAG = re.compile(r"set query_tag = '(\{.*?\})'", re.DOTALL)
NINE_HOURS = 9 * 3600


@pytest.fixture
def emulator(monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    with running_emulator() as emulator:
        set_environment(monkeypatch, emulator.environment)
        yield emulator


@pytest.fixture
def flights(emulator: Emulator, tmp_path: Path, instance: dg.DagsterInstance) -> Snowflake:
    prod = Environment(branch="main", target="prod", credits=True)
    environments = {"prod": prod}
    places = {"profiles_dir": EVERY_NODE, "profile": PROFILE}
    settings = make_settings(tmp_path, FLIGHTS, environments=environments, **places)
    return Snowflake(settings, "prod", instance, emulator)


def account(emulator: Emulator, run: dg.RunRecord, credits: float) -> None:
    """Snowflake accounts for each tag that was set, twice: a query of it, and one accelerated."""
    began = datetime.fromtimestamp(run.start_time or 0.0, UTC).isoformat()
    emulator.execute("create schema if not exists account_usage", "SNOWFLAKE")
    view = "account_usage.query_attribution_history"
    emulator.execute(f"create table {view} ({COLUMNS})", "SNOWFLAKE")
    tags = [found[1] for sent in emulator.statements if (found := _TAG.search(sent))]
    assert tags
    for tag in [*tags, "", "dbt_flights", "[1]"]:
        for more in ("null", "0.25"):
            emulator.execute(
                f"insert into {view} (query_tag, start_time, credits_attributed_compute,"
                f" credits_used_query_acceleration)"
                f" select '{tag}', cast('{began}' as timestamp_tz), {credits}, {more}",
                "SNOWFLAKE",
            )


def tick(flights: Snowflake, cursor: str | None = None) -> dg.SensorExecutionData:
    defined = flights.definitions
    with dg.build_sensor_context(flights.instance, cursor=cursor, definitions=defined) as context:
        return defined.resolve_sensor_def("prod_credits").evaluate_tick(context)


def ask(flights: Snowflake) -> dg.ExecuteInProcessResult:
    job = flights.definitions.resolve_job_def("prod_credits")
    return job.execute_in_process(instance=flights.instance, raise_on_error=False)


def test_what_snowflake_accounts_for_is_metadata_of_assets_runs_and_the_page(
    flights: Snowflake, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = flights.build("seeds/delay_buckets")
    assert built.success, failure(built)
    assert tick(flights).skip_message == "There is no run of which Snowflake would know by now."
    then = time.time() + NINE_HOURS
    monkeypatch.setattr(definitions, "time", SimpleNamespace(time=lambda: then))
    ticked = tick(flights)
    assert len(ticked.run_requests or ()) == 1
    assert tick(flights, ticked.cursor).skip_message == "Snowflake was asked less than 6 hours ago."

    refused = ask(flights)
    assert not refused.success
    assert "ACCOUNT_USAGE.QUERY_ATTRIBUTION_HISTORY cannot be read: " in failure(refused)
    assert "needs `grant imported privileges on database snowflake`" in failure(refused)

    record = flights.instance.get_run_record_by_id(built.run_id)
    assert record
    account(flights.emulator, record, 0.5)
    asked = ask(flights)
    assert asked.success, failure(asked)
    # Two queries: of one attributed credits alone, of the other accelerated ones as well.
    [event] = flights.instance.fetch_observations(flights.key("seeds/delay_buckets"), 9).records
    observed = event.asset_observation
    assert observed
    assert observed.metadata["credits"].value == pytest.approx(1.25)
    assert observed.metadata["run"].value == built.run_id
    run = flights.instance.get_run_by_id(built.run_id)
    assert run
    total = float(run.tags[CREDITS_TAG])
    assert total >= 1.25
    assert tick(flights).skip_message == "There is no run of which Snowflake would know by now."

    assert flights.build("morning_page").success
    written = flights.instance.get_latest_materialization_event(flights.key("morning_page"))
    assert written
    assert written.asset_materialization
    page = str(written.asset_materialization.metadata["page"].value).replace("\\", "")
    assert "| by hand |  | 1 | " in page
    assert f" | {total:.3g} |" in page
    assert "| [delay_buckets](</assets/prod/seeds/delay_buckets>) | " in page

    plan = shown(
        flights.definitions.resolve_job_def("prod_run_now").execute_in_process(
            instance=flights.instance,
            run_config={
                "ops": {
                    "prod_now": {
                        "config": {"select": "delay_buckets", "reason": "x", "dry_run": True}
                    }
                }
            },
        )
    )["plan"]
    assert "| delay_buckets | as a whole | " in plan.replace("\\", "")
    assert " | 1.25 |" in plan
    assert "of the warehouse and 1.25 credits, by what was recorded last" in plan


def test_on_duckdb_there_is_nobody_to_ask(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    prod = Environment(branch="main", target="prod", credits=True, backfill_warehouse="BIG")
    settings = make_settings(tmp_path, environments={"prod": prod})
    names = {job.name for job in build_definitions(settings, "prod").jobs or ()}
    assert "prod_credits" not in names
    said = (
        "environments.prod.credits: only Snowflake says what queries cost, and the profile duckdb"
    )
    assert said in caplog.text
    found = next(each for each in examine(settings) if each.what == "prod: settings")
    assert not found.ok
    assert found.message.startswith(said)
    assert "; environments.prod.backfill_warehouse: only Snowflake has" in found.message


def test_tags_of_others_are_left_out() -> None:
    ours = '{"run_id": "a", "node": "model.x.y"}'
    rows: list[tuple[str, Any]] = [
        (ours, 1),
        (ours.replace('"node"', '"target": "prod", "node"'), 2.5),
        ('{"run_id": "a", "node": null}', None),
        ('{"run_id": "b"}', 1),
        ("run_id", 1),
        ('["run_id"]', 1),
    ]
    assert add_up(rows, {"a"}) == {("a", "model.x.y"): 3.5, ("a", ""): 0.0}
